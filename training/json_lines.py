"""Files of JSON lines that grow under way: a kill costs at most the line that was being written."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.saving import write_whole


def read_lines(path: Path) -> list[Any]:
    """The values of a file; a last one that a kill cut short is left out, and no file has none."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def appending(path: Path, kept: Iterable[Any]) -> Iterator[Callable[[Any], None]]:
    """Write ``kept`` values anew, then those that the function is called with, each at once."""
    write_whole(path, "".join(map(_line, kept)))
    with path.open("a") as file:

        def append(value: Any) -> None:
            file.write(_line(value))
            file.flush()

        yield append


def _line(value: Any) -> str:
    return json.dumps(value) + "\n"
