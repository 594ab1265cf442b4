"""Programs that are not Python packages: tests skip where a user lacks one, and fail where CI does."""

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """The path of a program.

    Args:
        name: the program.
        package: what brings it, for the message.
    """
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not on the PATH; install {package}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return path
