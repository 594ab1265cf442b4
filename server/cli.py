"""``stepgrpo serve``."""

from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from reasoning import CheckpointError
from server.checkpoint import ServedCheckpoint, load_checkpoint
from server.settings import ServerSettings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def commands() -> None:
    """Serve checkpoints."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHECKPOINT] [VLLM OPTIONS]", help="Checkpoint folder, then options for vLLM."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [default: 8000]")] = None,
) -> None:
    """Serve a checkpoint with an OpenAI-compatible API that reports steps, exits and savings.

    Without CHECKPOINT the bundled one is served. It stands first: what follows it, and every option that is not listed
    here, is vLLM's own and passed on. The environment variables STEPGRPO_CHECKPOINT, STEPGRPO_HOST and STEPGRPO_PORT
    hold defaults.

    stepgrpo serve my-checkpoint --port 9000 --max-model-len 4096
    """
    checkpoint, options = _split(arguments or [])
    given: dict[str, Any] = {"checkpoint": checkpoint, "host": host, "port": port}
    try:
        settings = ServerSettings(**{key: value for key, value in given.items() if value is not None})
        found = load_checkpoint(settings.checkpoint)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", code=2)
    except CheckpointError as error:
        _fail(str(error), code=2)
    typer.echo(_described(found))
    typer.echo("starting the engine, which takes about a minute on a CPU")
    from server.app import serve as run
    from server.vllm_compat import ServerError

    try:
        run(settings, found, options)
    except ServerError as error:
        _fail(str(error), code=1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The checkpoint, where one is given, and vLLM's options."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


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
