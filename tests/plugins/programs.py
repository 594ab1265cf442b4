"""Programs that tests run: tests skip where a user lacks one."""

import os
import shutil
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
