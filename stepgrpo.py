"""The ``stepgrpo`` command: one table of sub-commands, each imported from its package only when it runs."""

import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group


class Command(NamedTuple):
    """Where a sub-command lives: a module whose ``app``, a ``typer.Typer``, has a command of that name.

    ``more`` are modules that add sub-commands to a group of that name.
    """

    module: str
    summary: str
    more: tuple[str, ...] = ()


COMMANDS = {
    "serve": Command("server.cli", "Serve a checkpoint and report the steps, exit and savings of every answer."),
    "train": Command("training.cli", "Train a recipe: a base model and its Step-GRPO checkpoint."),
    "bench": Command("loadtests.bench_serve", "Measure serving and training.", more=("training.bench",)),
    "eval": Command("training.cli", "Measure base and tuned checkpoint on the same held-out questions."),
    "doctor": Command("server.doctor_cli", "Check whether this machine can serve, and say what to do."),
    "ask": Command("clients.cli", "Ask a server and see the thinking step by step, its exit and savings."),
    "compare": Command("clients.cli", "Ask two servers the same questions and see what the tuned model saves."),
}


def load(name: str) -> Any:
    """The command itself, with the arguments and the help that its package gives it."""
    entry = COMMANDS[name]
    modules = (entry.module, *entry.more)
    found: list[Any] = [get_group(import_module(module).app).commands[name] for module in modules]
    command, *others = found
    for group in others:
        command.commands.update(group.commands)
        command.help = entry.summary
    for each in (command, *getattr(command, "commands", {}).values()):
        each.help = _filled(each.help or "")
    return command


def _filled(text: str) -> str:
    """Help whose paragraphs break where the terminal ends, and not where the code did."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


class LazyGroup(TyperGroup):
    """Lists sub-commands by their table entries, and imports the one that was asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Like the parent's, with the real command in the place of its entry."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load(name), rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def _entry() -> None: ...


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.summary)(_entry)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stepgrpo {version('stepgrpo')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train reasoning models to stop thinking early, and serve them with the savings measured."""


def main() -> None:
    """Entry point of the console script. What a recipe names may lie where the user is, as with ``python -m``."""
    sys.path.append(str(Path.cwd()))
    app(prog_name="stepgrpo")


if __name__ == "__main__":
    main()
