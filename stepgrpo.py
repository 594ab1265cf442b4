"""The ``stepgrpo`` command: finds each sub-command in its package and imports that package only when it is used."""

import sys
from importlib import import_module
from importlib.metadata import version

import typer

COMMANDS = {
    "serve": ("server.cli", "Serve a checkpoint and report steps, exits and savings."),
    "train": ("training.cli", "Train a recipe: a base model and its Step-GRPO checkpoint."),
    "eval": ("training.cli", "Measure checkpoints on the same questions."),
}


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        module, _ = COMMANDS[arguments[0]]
        import_module(module).app(prog_name="stepgrpo")
        return
    if arguments == ["--version"]:
        typer.echo(version("stepgrpo"))
        return
    typer.echo(_help(), err=bool(arguments) and arguments != ["--help"])
    if arguments and arguments != ["--help"]:
        typer.echo(f"\nstepgrpo: no such command: {arguments[0]}", err=True)
        raise SystemExit(2)


def _help() -> str:
    lines = ["Usage: stepgrpo COMMAND [OPTIONS]", "", "Commands:"]
    lines += [f"  {name:<8}{text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "stepgrpo COMMAND --help says more. stepgrpo --version prints the version."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
