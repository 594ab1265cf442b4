"""Checkpoints that are there as a whole or not at all."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import TrainingError


def save_atomically(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside ``folder``, then move its files over; ``config.json``, by which a checkpoint
    is known, comes last. Whoever may read the folder may read its files; safetensors keeps them to their owner, and a
    server that runs as another user could not load them.
    """
    staging = folder.with_name(folder.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write(staging)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == "config.json"):
        path.chmod(folder.stat().st_mode & 0o666)
        path.replace(folder / path.name)
    staging.rmdir()


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk into an error that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left" in str(error) or "PytorchStreamWriter failed" in str(error):
            raise TrainingError(
                f"the disk that holds {folder} is full: free some space, then go on from the last checkpoint with"
                " --resume"
            ) from error
        raise
