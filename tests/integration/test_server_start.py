"""Starts that cannot succeed fail at once, with one line that says why."""

import shutil
import socket
import subprocess
import sys
import time

import pytest

from reasoning import CARD_NAME


def start(*arguments):
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "stepgrpo", "serve", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    return result, time.monotonic() - began


@pytest.fixture
def folder(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "broken")


@pytest.mark.parametrize("damage", ["missing", "empty", "config", "weights", "card"])
def test_a_checkpoint_that_cannot_be_served(folder, damage):
    if damage == "missing":
        shutil.rmtree(folder)
    elif damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
    else:
        (folder / CARD_NAME).write_text('{"format": 1, "markers": 3}')
    result, seconds = start(folder)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("stepgrpo serve: ")
    assert result.stderr.count("\n") == 1
    assert "broken" in result.stderr
    assert seconds < 10


@pytest.mark.integration
def test_an_address_that_is_taken(checkpoint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result, _ = start(checkpoint, "--port", port)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"stepgrpo serve: cannot listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in result.stderr
