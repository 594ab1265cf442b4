import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not on the PATH; install make")
FITTING = 'case "$1" in -c) exit 0;; *) echo "$0 $@";; esac'
TOO_OLD = 'case "$1" in -c) exit 1;; *) echo "$0 $@";; esac'
UNINSTALLED = 'echo "the shim of a version that is not installed" >&2; exit 127'


@pytest.fixture
def make(tmp_path):
    """Runs make in a bare folder where only the given Pythons are on the PATH."""
    shutil.copy(ROOT / "Makefile", tmp_path)

    def run(*arguments, **pythons):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, script in pythons.items():
            program = programs / name.replace("_", ".")
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        environment = {"PATH": str(programs), "HOME": str(tmp_path)}
        command = [str(MAKE), "--no-print-directory", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def test_setup_takes_the_first_python_that_fits(make):
    result = make("setup", python3_11=UNINSTALLED, python3_12=FITTING, python3=TOO_OLD)
    assert result.stdout.endswith("/bin/python3.12 tools/bootstrap.py\n")
    assert result.stderr == ""


def test_setup_falls_back_to_plain_python3(make):
    assert make("setup", python3=FITTING).stdout.endswith("/bin/python3 tools/bootstrap.py\n")


def test_setup_takes_the_python_that_is_named(make, tmp_path):
    result = make("setup", f"PYTHON={tmp_path}/bin/mine", mine=TOO_OLD, python3_11=FITTING)
    assert result.stdout == f"{tmp_path}/bin/mine tools/bootstrap.py\n"


def test_setup_without_a_python_that_fits_says_what_is_needed(make):
    result = make("setup", python3=TOO_OLD)
    assert result.returncode != 0
    assert result.stderr.splitlines()[0] == "no Python 3.11, 3.12 or 3.13 on the PATH: make PYTHON=/path/to/python3.11"


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ((), "exec .venv/bin/stepgrpo serve --port 8000"),
        (("PORT=9", "CHECKPOINT=my checkpoint"), 'exec .venv/bin/stepgrpo serve "my checkpoint" --port 9'),
    ],
)
def test_serve_passes_port_and_checkpoint_on(make, variables, command):
    assert make("--dry-run", "serve", *variables, python3=FITTING).stdout.splitlines()[-1] == command


def test_stack_passes_both_ports_on(make):
    lines = make("--dry-run", "stack", "PORT=9", "PROMETHEUS_PORT=10", python3=FITTING).stdout.splitlines()
    assert lines[-1].split() == ["exec", ".venv/bin/python", "tools/stack.py", "--port", "9", "--prometheus-port", "10"]


def test_help_lists_every_target_with_what_it_does():
    result = subprocess.run([str(MAKE), "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ)
    listed = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("  make ")}
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert listed == set(phony.split()[1:])
