"""Methods by the name that a recipe gives them."""

from importlib import import_module

from training.methods import deer, grpo, grpo_lambda, length_penalty, s_grpo, soft_overlong, step_grpo
from training.methods.interface import AtInference, Distillation, Method, PolicyGradient

METHODS: dict[str, Method] = {
    "grpo": grpo.METHOD,
    "length-penalty": length_penalty.METHOD,
    "grpo-lambda": grpo_lambda.METHOD,
    "soft-overlong": soft_overlong.METHOD,
    "s-grpo": s_grpo.METHOD,
    "s-grpo-bare-close": s_grpo.WITH_BARE_CLOSE,
    "deer": deer.METHOD,
    "deer-sft": deer.DISTILLED,
    "step-grpo": step_grpo.METHOD,
    "step-grpo-no-truncation": step_grpo.WITHOUT_TRUNCATION,
    "step-grpo-no-step-reward": step_grpo.WITHOUT_STEP_REWARD,
    "step-grpo-all-sample-mean": step_grpo.ALL_SAMPLE_MEAN,
}


class MethodError(ValueError):
    """No such method; the message is one line that says what there is."""


def load_method(name: str) -> Method:
    """A bundled method by its name, or one's own as ``module:attribute``.

    Raises:
        MethodError: no such name, module or attribute, or it holds no method.
    """
    if name in METHODS:
        return METHODS[name]
    module, separator, attribute = name.partition(":")
    if not separator:
        raise MethodError(f"no method {name!r}; bundled: {', '.join(METHODS)}, or give module:attribute")
    try:
        method = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MethodError(f"method {name!r} cannot be imported: {error}") from error
    if not isinstance(method, PolicyGradient | Distillation | AtInference):
        raise MethodError(f"{name!r} is a {type(method).__name__}; give a PolicyGradient of training.methods")
    return method
