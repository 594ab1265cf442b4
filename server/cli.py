"""``stepgrpo serve``."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, NoReturn, get_args

import typer
from pydantic.fields import FieldInfo

from reasoning import CheckpointError
from server.checkpoint import ServedCheckpoint, load_checkpoint
from server.log import announce, configure_log
from server.settings import FILE_VARIABLE, InvalidSettingsError, ServerSettings, as_yaml, load_settings

VLLM_SECRETS: Final = ("--api-key", "--hf-token")
"""Options of vLLM whose values are never shown."""

app = typer.Typer(no_args_is_help=True)


@app.callback()
def commands() -> None:
    """Serve checkpoints."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one flag for each setting; it gets the values that were given as ``flags``, by field name.

    The checkpoint is an argument.
    """
    fields = {name: field for name, field in ServerSettings.model_fields.items() if name != "checkpoint"}

    @wraps(command)
    def with_flags(**values: Any) -> None:
        flags = {name: value for name in fields if (value := values.pop(name)) is not None}
        command(**values, flags=flags)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "flags"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, field))
        for name, field in fields.items()
    ]
    with_flags.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return with_flags


def _option(name: str, field: FieldInfo) -> Any:
    flag = "--" + name.replace("_", "-")
    shown = field.description if field.default is None else f"{field.description} \\[default: {field.default}]"
    return Annotated[str | None, typer.Option(flag, help=shown, metavar=f"<{_kind(field.annotation)}>")]


def _kind(annotation: Any) -> str:
    """What help calls the values of a setting, whose text its model converts and checks."""
    kind = next((each for each in get_args(annotation) if each is not NoneType), annotation)
    name = getattr(kind, "__name__", "str").lower()
    return {"str": "text", "httpurl": "url"}.get(name, name)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@with_settings
def serve(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHECKPOINT] [VLLM OPTIONS]", help="Checkpoint folder, then options for vLLM."),
    ] = None,
    *,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of settings, by the names of the flags.", envvar=FILE_VARIABLE)
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings in effect and exit.")
    ] = False,
    flags: dict[str, Any],
) -> None:
    """Serve a checkpoint with an OpenAI-compatible API that reports steps, exits and savings.

    Without CHECKPOINT the bundled one is served. It stands first: what follows it, and every option that is not listed
    here, is vLLM's own and passed on. Each flag is also an environment variable (--port is STEPGRPO_PORT),
    and a field of the settings file (port). Flags win over the environment, the environment over the file.

    stepgrpo serve my-checkpoint --port 9000 --max-model-len 4096
    """
    checkpoint, options = _split(arguments or [])
    try:
        effective = load_settings(flags | ({"checkpoint": checkpoint} if checkpoint else {}), settings)
        if print_config:
            typer.echo(_config(effective, options), nl=False)
            return
        found = load_checkpoint(effective.checkpoint)
    except (InvalidSettingsError, CheckpointError) as error:
        _fail(str(error), code=2)
    configure_log(effective.log_format)
    announce(_described(found), effective.log_format)
    announce("starting the engine, which takes about a minute on a CPU", effective.log_format)
    from server.app import serve as run
    from server.vllm_compat import ServerError

    try:
        run(effective, found, options)
    except ServerError as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The checkpoint, where one is given, and vLLM's options."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def _config(settings: ServerSettings, options: Sequence[str]) -> str:
    passed_on = f"# passed on to vLLM: {' '.join(_masked(options))}\n" if options else ""
    return as_yaml(settings) + passed_on


def _masked(options: Sequence[str]) -> Iterator[str]:
    secret = False
    for option in options:
        name, equals, _ = option.partition("=")
        if option.startswith("-"):
            secret = name.replace("_", "-") in VLLM_SECRETS
            yield f"{name}=**********" if secret and equals else option
        else:
            yield "**********" if secret else option


def _described(checkpoint: ServedCheckpoint) -> str:
    card = checkpoint.card
    lines = [f"stepgrpo {version('stepgrpo')}: serving {checkpoint.folder}"]
    if card is None:
        lines.append(f"no step_grpo.json: default markers ({', '.join(checkpoint.markers)}), savings unknown")
    elif card.calibration is None:
        lines.append(f"{card.algorithm}, not calibrated: savings unknown")
    else:
        ratio = card.calibration.savings_ratio
        lines.append(
            f"{card.algorithm}, savings calibrated on {card.calibration.n} questions: {ratio.mean:.1%} of the base "
            f"model's tokens (95 % interval {ratio.ci95[0]:.1%} to {ratio.ci95[1]:.1%})"
        )
    return "\n".join(lines)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"stepgrpo serve: {message}", err=True)
    raise typer.Exit(code)
