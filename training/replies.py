"""Replies of an evaluation under way, on disk, so that one that is cut short does not ask again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from training.answering import Reply, ReplyCallback
from training.recipe import Recipe
from training.saving import clear_disk_errors, write_whole


def recalled(
    folder: Path,
    recipe: Recipe,
    model: str,
    questions: Sequence[str],
    samples: int,
    ask: Callable[[Mapping[int, str], ReplyCallback], None],
    on_reply: Callable[[], None],
) -> list[list[Reply]]:
    """``samples`` replies a question: those that ``folder`` has from this model, sampled alike, and those of ``ask``.

    Args:
        folder: each reply is written to it when it comes.
        recipe: says how replies are sampled.
        model: as ``ask`` calls it.
        questions: of a benchmark.
        samples: replies a question.
        ask: brings what is missing, by place: the first question's samples, then the next one's.
        on_reply: called for every reply that is there.
    """
    weights = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _weights(model)]
    asked = json.dumps([recipe.digest, model, weights, list(questions), samples])
    path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.jsonl"
    replies = _read(path)
    for _ in replies:
        on_reply()
    missing = {place: questions[place // samples] for place in range(len(questions) * samples) if place not in replies}
    if missing:
        with clear_disk_errors(folder, "give the same command again"):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, "".join(_line(place, reply) for place, reply in replies.items()))
            with path.open("a") as file:

                def keep(place: int, reply: Reply) -> None:
                    file.write(_line(place, reply))
                    file.flush()
                    replies[place] = reply
                    on_reply()

                ask(missing, keep)
    return [
        [replies[place] for place in range(start, start + samples)]
        for start in range(0, len(questions) * samples, samples)
    ]


def _line(place: int, reply: Reply) -> str:
    return json.dumps([place, asdict(reply)]) + "\n"


def _read(path: Path) -> dict[int, Reply]:
    """By place; without a last line that a kill cut short."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return {place: Reply(**fields) for place, fields in map(json.loads, lines)}


def _weights(model: str) -> list[Path]:
    """Files of a folder that another training would have written anew; none of a hub name or a server."""
    return sorted(Path(model).glob("*.safetensors"))
