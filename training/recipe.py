"""Recipes: one YAML file that says everything a training run depends on."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reasoning import ANSWER_PROMPT
from reasoning.confidence import Mean
from reasoning.segmenter import DEFAULT_TAGS
from training.rewards import Baseline

FOLDER = Path(__file__).parent / "recipes"
Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(ge=0)]
TopP = Annotated[float, Field(gt=0, le=1)]
Marker = Annotated[str, Field(pattern=r"\S")]
NOT_LEARNED = {
    "model.parameters": None,
    "model.key_value_size": None,
    "rollout.sync_tolerance": 1e-3,
    "rollout.gpu_memory": 0.4,
    "grpo.micro_batch": 32,
    "grpo.gradient_checkpointing": False,
    "grpo.save_every": 0,
    "grpo.report_to": (),
    "evaluation.questions": 1000,
}
"""Values that the digest has for what changes nothing of what is learned, beyond rounding; cards depend on them."""
PLANNED = {"model.hidden_size": 128, "model.layers": 5}
"""Likewise where ``model.path`` names a checkpoint, whose own sizes count."""
AFTER_THE_BASE = {"method", "lora", "distill", "rollout", "reward", "pruning", "grpo"}
"""Parts that say nothing of the base that a recipe trains."""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message is one line that says what to change."""


class Settings(BaseModel):
    """Base of all parts of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Settings):
    """The model that post-training starts from.

    Either ``path`` names a checkpoint (folder or hub name), or the base is trained from scratch by the ``sft`` section
    with this size (head dimension 32, two query heads a key-value head). ``parameters``, ``layers``, ``hidden_size``
    and ``key_value_size`` (heads times head dimension) of a ``path`` are for ``--plan``.
    """

    path: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    think: tuple[str, str] = DEFAULT_TAGS
    thinking_in_prompt: bool = False
    parameters: Annotated[float, Field(gt=0)] | None = None
    hidden_size: Annotated[int, Field(gt=0, multiple_of=64)] = 128
    layers: Positive = 5
    key_value_size: Positive | None = None


class LoraSettings(Settings):
    """Low-rank adapters on all linear layers, merged into the weights that rollouts use and that are saved."""

    rank: Positive = 32
    alpha: Positive = 64
    dropout: Probability = 0.0


class DataSettings(Settings):
    """Where questions come from: a name known to :mod:`training.data`, a JSONL or Parquet file, or ``module:function``.

    ``question`` and ``answer`` are the columns of a file; ``suffix`` is appended to every question.
    """

    name: str = "word-problems"
    question: str = "question"
    answer: str = "answer"
    suffix: str = ""


class SftSettings(Settings):
    """Supervised training of the base.

    ``drill`` is the leading share of the steps that shows plain and whole solutions only; after it, ``cut_share`` of
    the traces are closed early.
    """

    steps: Positive
    batch_tokens: Positive = 6144
    drill: Probability = 0.5
    cut_share: Probability = 0.3
    muon_lr: Rate = 0.02
    adamw_lr: Rate = 3e-3


class DistillSettings(Settings):
    """Supervised training on rejection-sampled completions (``deer-sft``)."""

    epochs: Positive = 2
    batch_size: Positive = 32
    learning_rate: Rate = 1e-4


class RolloutSettings(Settings):
    """How completions are sampled. Values of the method unless a recipe says.

    ``sync_tolerance``: largest mean difference (nats) between the log-probabilities that engine and trainer give the
    same tokens; bfloat16 needs more than float32. ``gpu_memory``: the engine's share of a GPU that it has to itself or
    shares with the trainer. ``answer_prompt`` asks for a trial answer inside the block, and the ``confidence_mean`` of
    its probabilities is its confidence. Both came later than the first digests, which have them where they are others.
    """

    engine: Literal["vllm", "transformers"] = "vllm"
    max_prompt_tokens: Positive = 256
    max_completion_tokens: Positive
    think_ratio: Probability = 0.9
    threshold: Probability = 0.95
    probe_tokens: Positive = 20
    answer_prompt: Annotated[str, Field(min_length=1, exclude_if=lambda text: text == ANSWER_PROMPT)] = ANSWER_PROMPT
    confidence_mean: Annotated[Mean, Field(exclude_if=lambda mean: mean == "geometric")] = "geometric"
    max_probes: Positive = 10
    exit_margin: Annotated[int, Field(ge=0)] = 50
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    mask_forced: bool = False
    sync_tolerance: Annotated[float, Field(gt=0)] = 1e-3
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = 0.4


class RewardSettings(Settings):
    """Coefficients of the rewards; each method uses its own (:mod:`training.methods`).

    ``alpha`` (share of the accuracy term): all but S-GRPO. ``beta`` and ``baseline``: Step-GRPO. ``length_weight``: the
    length penalty and GRPO-lambda, ``lambda_share`` the latter. ``overlong_buffer``: soft overlong punishment.
    """

    alpha: Probability = 0.9
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.5
    baseline: Baseline = "correct"
    length_weight: Annotated[float, Field(ge=0, lt=1)] = 0.6
    lambda_share: Probability = 0.2
    overlong_buffer: Annotated[float, Field(gt=0, le=1)] = 0.2


class PruningSettings(Settings):
    """Share of the completions and of the groups with little signal that are left out of the update, at random."""

    completions: Annotated[float, Field(ge=0, lt=1)] = 0.6
    groups: Annotated[float, Field(ge=0, lt=1)] = 0.6


class GrpoSettings(Settings):
    """The optimisation: a step samples ``prompts`` x ``group_size`` completions and makes ``updates`` updates.

    ``micro_batch`` completions go through the model at once, on each process. ``schedule`` is that of the learning
    rate: ``linear`` falls to zero over the run, whichever of ``steps`` and ``token_budget`` ends it. ``token_budget``
    ends the run after the step in which so many tokens were sampled. ``save_every`` steps a checkpoint for ``--resume``
    is written (0: never).
    """

    steps: Positive
    prompts: Positive
    group_size: Annotated[int, Field(gt=1)] = 5
    updates: Positive = 4
    micro_batch: Positive
    learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    kl: Annotated[float, Field(ge=0)] = 0.01
    clip_low: Probability = 0.2
    clip_high: Rate = 0.3
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    gradient_checkpointing: bool = False
    token_budget: Positive | None = None
    save_every: Annotated[int, Field(ge=0)] = 0
    report_to: tuple[str, ...] = ()


class EvaluationSettings(Settings):
    """How the checkpoint's calibration is measured; the sampling is what its card says."""

    questions: Positive = 1000
    temperature: Temperature = 1.0
    top_p: TopP = 1.0


class Recipe(Settings):
    """Everything that a run depends on, beside the code."""

    name: str
    method: str = "step-grpo"
    seed: int = 0
    markers: Annotated[tuple[Marker, ...], Field(min_length=1)] = ("Wait", "Alternatively")
    model: ModelSettings
    data: DataSettings = DataSettings()
    lora: LoraSettings | None = None
    sft: SftSettings | None = None
    distill: DistillSettings = DistillSettings()
    rollout: RolloutSettings
    reward: RewardSettings = RewardSettings()
    pruning: PruningSettings | None = None
    grpo: GrpoSettings
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _has_a_base(self) -> Self:
        if (self.model.path is None) == (self.sft is None):
            raise ValueError("give either model.path (a checkpoint to start from) or an sft section (train the base)")
        return self

    def overridden(self, changes: Mapping[str, object]) -> Self:
        """The same recipe with values changed; keys are dotted."""
        values = self.model_dump()
        for key, value in changes.items():
            _set(values, key, value)
        return self.model_validate(values)

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the values that decide what is learned, defaults included."""
        return _hash(self._learned())

    @property
    def base_digest(self) -> str:
        """That of the values that decide what the base is."""
        return _hash({name: part for name, part in self._learned().items() if name not in AFTER_THE_BASE})

    @property
    def resumable_digest(self) -> str:
        """That of the values that a run keeps when it is resumed: all but the learning rate."""
        return self.overridden({"grpo.learning_rate": 1e-6}).digest

    def _learned(self) -> dict[str, Any]:
        fixed = NOT_LEARNED if self.model.path is None else NOT_LEARNED | PLANNED
        return self.overridden(fixed).model_dump(mode="json")


def _hash(values: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _set(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise RecipeError(f"--set {key}={value}: {parent} has no keys of its own")
    values[last] = value


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Load a bundled recipe by name, or any YAML file by path, with ``dotted.key=value`` overrides.

    Raises:
        RecipeError: no such recipe, malformed YAML or override, an unknown key or a value out of range.
    """
    path = Path(name)
    try:
        text = (path if path.suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml").read_text()
    except FileNotFoundError as error:
        raise RecipeError(
            f"no recipe {name!r}; bundled: {', '.join(bundled_recipes())}, or give a .yaml file"
        ) from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"{name} is no recipe: it has no keys; `stepgrpo train` bundles {', '.join(bundled_recipes())}"
        )
    for override in overrides:
        _override(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"recipe {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise RecipeError(f"--set {override}: write key=value, for example --set grpo.steps=10")
    try:
        _set(values, key, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: {value} is not valid YAML; quote it: {key}='\"{value}\"'") from error
