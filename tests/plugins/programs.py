"""Programs that tests run: tests skip where a user lacks one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""Where programs are looked for: those of Python packages first."""


def program(name: str, package: str) -> str:
    """The path of a program.

    Args:
        name: the program.
        package: what brings it, for the message.
    """
    path = shutil.which(name, path=PATH)
    if path is None:
        pytest.skip(f"{name} is not on the PATH; install {package}")
    return path


def compose() -> list[str]:
    """The command of Docker's compose plugin, or the program of the same name."""
    docker = shutil.which("docker")
    plugin = [str(docker), "compose"]
    if docker and subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
        return plugin
    return [program("docker-compose", "Docker's compose plugin (.ci/programs does, on Debian)")]
