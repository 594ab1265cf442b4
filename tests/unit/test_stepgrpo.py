import json
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

import stepgrpo

HEAVY = ("torch", "vllm", "transformers", "trl", "fastapi", "datasets", "matplotlib")


def run(*arguments):
    return CliRunner().invoke(stepgrpo.app, arguments, prog_name="stepgrpo")


def loaded_by(modules):
    """The heavy libraries that a fresh interpreter has loaded after importing each of some modules in turn."""
    code = f"""if True:
        import importlib, json, sys
        found = {{}}
        for module in {modules}:
            importlib.import_module(module)
            found[module] = [name for name in {HEAVY} if name in sys.modules]
        print(json.dumps(found))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def imports(monkeypatch):
    """The modules imported so far for two more commands, `greet` and `pass-on`, that live in `somewhere.cli`."""
    package = typer.Typer()
    names = []

    @package.command()
    def greet(name: str):
        print(f"hello {name}")

    @package.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def pass_on(context: typer.Context):
        print(context.args)

    def import_module(name):
        names.append(name)
        return SimpleNamespace(app=package)

    monkeypatch.setattr(stepgrpo, "import_module", import_module)
    monkeypatch.setattr(stepgrpo.app, "registered_commands", stepgrpo.app.registered_commands.copy())
    for name in ("greet", "pass-on"):
        monkeypatch.setitem(stepgrpo.COMMANDS, name, stepgrpo.Command("somewhere.cli", f"About {name}."))
        stepgrpo.app.command(name, help=f"About {name}.")(lambda: None)
    return names


@pytest.mark.parametrize("name", stepgrpo.COMMANDS)
def test_every_command_of_the_table_exists(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: stepgrpo {name}" in result.output
    assert stepgrpo.load(name).help


def leaves():
    """Every command that runs something, by its words."""
    for name in stepgrpo.COMMANDS:
        command = stepgrpo.load(name)
        subcommands = getattr(command, "commands", None)
        yield from ((f"{name} {each}", of) for each, of in subcommands.items()) if subcommands else [(name, command)]


@pytest.mark.parametrize(("name", "command"), leaves())
def test_the_help_of_every_command_has_an_example(name, command):
    assert f"\nstepgrpo {name}" in command.help


def test_a_group_of_two_packages_is_described_as_a_whole():
    assert stepgrpo.COMMANDS["bench"].summary in run("bench", "--help").output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("a", {"ask"}),
        ("ask --max-", {"--max-steps", "--max-tokens"}),
        ("bench ser", {"serve"}),
        ("serve --comp", {"--compare-url"}),
    ],
)
def test_the_shell_completes_commands_and_their_options(typed, offered):
    words = f"stepgrpo {typed}"
    asked = {"_STEPGRPO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = CliRunner().invoke(stepgrpo.app, env=asked, prog_name="stepgrpo")
    assert set(result.output.split()) == offered


def test_the_help_page_lists_every_command():
    result = run("--help")
    assert result.exit_code == 0
    assert all(f" {name} " in result.output for name in stepgrpo.COMMANDS)


def test_the_version_is_the_installed_one():
    assert run("--version").output == f"stepgrpo {version('stepgrpo')}\n"


def test_modules_beside_the_user_can_be_named_and_shadow_nothing(tmp_path):
    (tmp_path / "own_reward.py").write_text("METHOD = 1")
    (tmp_path / "typer.py").write_text("raise SystemExit('shadowed')")
    script = "import sys, stepgrpo\ntry: stepgrpo.main()\nfinally: import own_reward; print(own_reward.METHOD)"
    command = [sys.executable, "-P", "-c", script, "--version"]  # as the console script: no folder of the user's
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == [f"stepgrpo {version('stepgrpo')}", "1"], result.stderr


def test_paragraphs_of_a_help_page_are_filled_and_keep_no_line_breaks_of_the_code():
    for name, command in leaves():
        broken = [part for part in command.help.split("\n\n") if "\n" in part.strip()]
        assert broken == [], name


def test_no_arguments_show_the_help_and_fail():
    result = run()
    assert result.exit_code == 2
    assert "Usage: stepgrpo" in result.output


def test_an_unknown_command_is_refused_with_a_suggestion():
    result = run("srve")
    assert result.exit_code == 2
    assert "Did you mean 'serve'?" in result.output


def test_the_help_page_imports_no_package(imports):
    assert "About greet." in run("--help").output
    assert imports == []


def test_a_command_runs_as_its_package_declares_it(imports):
    assert run("greet", "Ada").output == "hello Ada\n"
    assert imports == ["somewhere.cli"]


def test_unknown_options_reach_a_command_that_wants_them(imports):
    assert run("pass-on", "--max-model-len", "512", "-x").output == "['--max-model-len', '512', '-x']\n"


def test_no_command_line_loads_an_engine_before_it_needs_one():
    modules = ["stepgrpo", *sorted({command.module for command in stepgrpo.COMMANDS.values()})]
    assert loaded_by(modules) == {module: [] for module in modules}
