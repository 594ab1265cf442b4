"""The Dockerfile, taken apart."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()


def _stages() -> dict[str, list[str]]:
    """Instructions of each stage, by its name; continued lines are joined, options of RUN and COPY left out."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in filter(None, joined.splitlines()):
        if line.startswith("FROM "):
            lines = found.setdefault(line.split()[-1], [])
        lines.append(line)
    return found


STAGES = _stages()


def runs(stage: str) -> list[str]:
    """The commands that a stage runs."""
    return [line.removeprefix("RUN ") for line in STAGES[stage] if line.startswith("RUN ")]
