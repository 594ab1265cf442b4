"""Checkpoints and files that are there as a whole or not at all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import TrainingError

CONFIG = "config.json"
"""By which a checkpoint is known; it is written last."""

FULL = ("No space left", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed", "unexpected pos")
"""What a failed write says where the disk takes no more: the system, also by way of safetensors, and torch."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write, which takes its place in the end: a kill leaves the old one or the new one."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    partial.replace(path)


def stamps(folder: Path, *patterns: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change (ns) of a folder's files, by which one that was written anew is known."""
    files = (path for pattern in patterns for path in folder.glob(pattern))
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def write_whole(path: Path, text: str) -> None:
    """Write a text file that a kill leaves as it was or as it shall be."""
    with replacing(path) as partial:
        partial.write_text(text)


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
    (folder / CONFIG).unlink(missing_ok=True)
    for path in sorted(staging.iterdir(), key=lambda path: path.name == CONFIG):
        path.chmod(folder.stat().st_mode & 0o666)
        path.replace(folder / path.name)
    staging.rmdir()


@contextmanager
def clear_disk_errors(folder: Path, how: str = "go on with --resume") -> Iterator[None]:
    """Turn a full disk into an error that says what to do: free some space, and then ``how`` to go on."""
    try:
        yield
    except Exception as error:  # that of safetensors is of no narrower kind
        if any(text in str(error) for text in FULL):
            raise TrainingError(f"the disk that holds {folder} is full: free some space, then {how}") from error
        raise
