"""Replies of an evaluation under way, on disk, so that one that is cut short does not ask again."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from training.answering import Reply
from training.recipe import Recipe
from training.saving import write_whole

Replies = list[list[Reply]]
"""A row for each question, a reply for each sample."""


def recalled(
    folder: Path, recipe: Recipe, model: str, questions: Sequence[str], samples: int, ask: Callable[[], Replies]
) -> Replies:
    """The replies that ``folder`` has from this model to these questions, sampled alike; else what ``ask`` brings."""
    weights = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _weights(model)]
    asked = json.dumps([recipe.digest, model, weights, list(questions), samples])
    path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"
    if path.exists():
        return [[Reply(**reply) for reply in row] for row in json.loads(path.read_text())]
    replies = ask()
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps([[asdict(reply) for reply in row] for row in replies]))
    return replies


def _weights(model: str) -> list[Path]:
    """Files of a folder that another training would have written anew; none of a hub name or a server."""
    return sorted(Path(model).glob("*.safetensors"))
