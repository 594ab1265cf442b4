"""``stepgrpo serve``."""

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
    context: typer.Context,
    checkpoint: Annotated[str | None, typer.Argument(help="Checkpoint folder or model name.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.  [default: 8000]")] = None,
    served_model_name: Annotated[str | None, typer.Option(help="Name that clients ask for.")] = None,
) -> None:
    """Serve a checkpoint with an OpenAI-compatible API that reports steps, exits and savings.

    Without CHECKPOINT the bundled one is served. Options that are not listed here are vLLM's own and are passed on:
    stepgrpo serve my-checkpoint --max-model-len 4096
    """
    given: dict[str, Any] = {
        "checkpoint": checkpoint,
        "host": host,
        "port": port,
        "served_model_name": served_model_name,
    }
    try:
        settings = ServerSettings(**{key: value for key, value in given.items() if value is not None})
        found = load_checkpoint(settings.checkpoint)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except CheckpointError as error:
        _fail(str(error))
    typer.echo(_described(found))
    from server.app import serve as run

    run(settings, found, list(context.args))


def _described(checkpoint: ServedCheckpoint) -> str:
    card = checkpoint.card
    if card is None:
        return (
            f"{checkpoint.source} has no step_grpo.json: default markers ({', '.join(checkpoint.markers)}),"
            " no calibrated savings"
        )
    if card.calibration is None:
        return f"{checkpoint.source} ({card.algorithm}) has no calibration: savings are not reported"
    ratio = card.calibration.savings_ratio.mean
    return f"{checkpoint.source} ({card.algorithm}): calibrated savings of {ratio:.1%} of the base model's tokens"


def _fail(message: str) -> NoReturn:
    typer.echo(f"stepgrpo serve: {message}", err=True)
    raise typer.Exit(2)
