"""Replies of an evaluation under way, on disk, so that one that is cut short does not ask again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from training.answering import Reply, ReplyCallback
from training.json_lines import appending, read_lines
from training.recipe import Recipe
from training.saving import clear_disk_errors, stamps

DECISIVE = ("*.safetensors", "*.jinja", "*config.json", "tokenizer.json")
"""Weights, chat template, settings and tokenizer of a checkpoint."""


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
        recipe: says how replies are sampled; its other values may change meanwhile.
        model: as ``ask`` calls it.
        questions: of a benchmark.
        samples: replies a question.
        ask: brings what is missing, by place: the first question's samples, then the next one's.
        on_reply: called for every reply that is there.
    """
    files = stamps(Path(model), *DECISIVE)  # none of a hub name or a server
    asked = json.dumps([_sampling(recipe), model, files, list(questions), samples])
    path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()}.jsonl"
    replies = {place: Reply(**fields) for place, fields in read_lines(path)}
    for _ in replies:
        on_reply()
    missing = {place: questions[place // samples] for place in range(len(questions) * samples) if place not in replies}
    if missing:
        with clear_disk_errors(folder, "give the same command again"):
            folder.mkdir(parents=True, exist_ok=True)
            with appending(path, ((place, asdict(reply)) for place, reply in replies.items())) as append:

                def keep(place: int, reply: Reply) -> None:
                    append((place, asdict(reply)))
                    replies[place] = reply
                    on_reply()

                ask(missing, keep)
    return [
        [replies[place] for place in range(start, start + samples)]
        for start in range(0, len(questions) * samples, samples)
    ]


def _sampling(recipe: Recipe) -> list[object]:
    """The values of a recipe that a reply depends on."""
    drawn, rollout = recipe.evaluation, recipe.rollout
    how = [drawn.temperature, drawn.top_p, rollout.max_completion_tokens, recipe.seed]
    return [*how, rollout.engine, recipe.model.dtype, recipe.model.think]
