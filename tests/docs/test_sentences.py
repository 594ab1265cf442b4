"""Commands in the sentences of README and docs name what exists."""

import re

import pytest
from pages import ROOT, inline_commands

import stepgrpo


@pytest.mark.parametrize("command", inline_commands("make"))
def test_a_target_of_make_exists(command):
    makefile = (ROOT / "Makefile").read_text()
    targets = [word for word in command.split()[1:] if "=" not in word]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("command", inline_commands("stepgrpo"))
def test_a_command_has_the_options_that_it_is_given(command):
    name, *arguments = command.split("stepgrpo ")[1].split()
    options = {"--install-completion", "--version"}
    if not name.startswith("--"):
        found = stepgrpo.load(name)
        if subcommands := getattr(found, "commands", None):
            found = subcommands[arguments.pop(0)]
        options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in (name, *arguments) if word.startswith("--")} <= options


@pytest.mark.parametrize("command", inline_commands("python"))
def test_a_script_exists(command):
    script = command.split()[1]
    assert script == "-m" or (ROOT / script).exists()
