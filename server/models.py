"""The models that are served: the checkpoint, and the adapters that vLLM was given or loads later."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reasoning import ANSWER_PROMPT, CheckpointError, StepGrpoCard, load_card
from server.checkpoint import ServedCheckpoint
from server.savings import Baseline, baseline_of

logger = logging.getLogger(__name__)


class Adapter(Protocol):
    """The part of vLLM's ``LoRARequest`` that matters here."""

    lora_name: str
    lora_path: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name in ``model_name``, and how its completions are read.

    Attributes:
        name: the name that vLLM serves it under (the first of several).
        markers: what opens a step.
        think: opening and closing tag of the thinking block.
        baseline: what its savings are measured against.
        card: its ``step_grpo.json``, if it has one.
    """

    name: str
    markers: tuple[str, ...]
    think: tuple[str, str]
    baseline: Baseline
    card: StepGrpoCard | None

    @property
    def answer_prompt(self) -> str:
        """What induces a trial answer inside the thinking block."""
        return ANSWER_PROMPT if self.card is None else self.card.answer_prompt


def model_of(name: str, checkpoint: ServedCheckpoint) -> ServedModel:
    """The checkpoint itself, served as ``name``."""
    return ServedModel(name, checkpoint.markers, checkpoint.think, baseline_of(checkpoint.card), checkpoint.card)


def model_of_adapter(adapter: Adapter, base: ServedModel) -> ServedModel:
    """An adapter on ``base``: read by its own card, else like its base but without the base's savings."""
    try:
        card = load_card(Path(adapter.lora_path))
    except CheckpointError as error:
        logger.warning("adapter %s is served without savings: %s", adapter.lora_name, error)
        card = None
    if card is None:
        return ServedModel(adapter.lora_name, base.markers, base.think, Baseline(), None)
    return ServedModel(
        adapter.lora_name, tuple(card.markers), (card.think.start, card.think.end), baseline_of(card), card
    )
