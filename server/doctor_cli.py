"""``stepgrpo doctor``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from server.doctor import examine
from server.settings import FILE_VARIABLE, InvalidSettingsError, load_settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

MARKS = {"ok": ("ok", "green"), "warning": ("note", "yellow"), "problem": ("no", "bold red")}


@app.callback()
def commands() -> None:
    """Look at this machine."""


@app.command()
def doctor(
    checkpoint: Annotated[Path | None, typer.Argument(help="Checkpoint folder; the bundled one by default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to serve at.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to serve at.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of settings, as serve takes it.", envvar=FILE_VARIABLE)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check whether this machine can serve, and say what to do where it can't. Exit code 1 means that it can't.

    [bold]Examples[/bold]

    stepgrpo doctor

    stepgrpo doctor runs/quickstart/step-grpo --port 9000
    """
    try:
        effective = load_settings({}, settings)
    except InvalidSettingsError as error:
        typer.echo(f"stepgrpo doctor: {error}", err=True)
        raise typer.Exit(2) from None
    found = list(examine(checkpoint or effective.checkpoint, host or effective.host, port or effective.port))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    else:
        console = Console(highlight=False)
        for each in found:
            mark, style = MARKS[each.verdict]
            line = Text.assemble((f"{mark:<5}", style), f"{each.topic:<11}{each.found}")
            console.print(line, soft_wrap=True)
            if each.advice:
                console.print(f"{'':<16}{each.advice}", soft_wrap=True, markup=False)
    if any(each.verdict == "problem" for each in found):
        raise typer.Exit(1)
