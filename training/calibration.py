"""The calibration on a checkpoint's card: what it saves against its base, both measured on the same questions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reasoning import (
    Calibration,
    CheckpointError,
    Measurement,
    SamplingRef,
    SavingsRatio,
    StepGrpoCard,
    StepSummary,
    ThinkTags,
    TokenSummary,
    load_card,
)
from training.answering import is_url
from training.errors import TrainingError
from training.recipe import Recipe
from training.sampler import Sampling
from training.scores import Answered, against


def calibration(dataset: str, sampling: Sampling, base: Answered, tuned: Answered) -> Calibration:
    """Both models' accuracy, tokens and steps, and the savings with their paired interval over questions."""
    savings = against(base, tuned).savings_ratio
    return Calibration(
        dataset=dataset,
        n=len(base.correct),
        sampling=SamplingRef(temperature=sampling.temperature, top_p=sampling.top_p),
        base=_measurement(base),
        tuned=_measurement(tuned),
        savings_ratio=SavingsRatio(mean=savings.mean, ci95=(savings.low, savings.high)),
    )


def folder_to_calibrate(recipe: Recipe, models: Sequence[str]) -> Path:
    """The second of two models, the first being its base.

    Raises:
        TrainingError: there are not two, one is a server, or the second cannot be stamped.
    """
    if len(set(models)) != len(models) or len(models) != 2:
        raise TrainingError("--calibrate needs two models: --model BASE, then --model FOLDER of the tuned checkpoint")
    if server := next(filter(is_url, models), None):
        raise TrainingError(
            f"{server} is a server; a calibration is of checkpoints, so name their folders or hub names"
        )
    folder = Path(models[1])
    card = card_of(folder)
    start, end = recipe.model.think
    if (card.markers, card.think) != (recipe.markers, ThinkTags(start=start, end=end)):
        raise TrainingError(
            f"{folder} was trained with other markers or tags than the recipe {recipe.name} has; give its own recipe"
        )
    return folder


def card_of(folder: Path) -> StepGrpoCard:
    """The card of a checkpoint that must have one.

    Raises:
        TrainingError: it has none, or a broken one.
    """
    try:
        card = load_card(folder)
    except CheckpointError as error:
        raise TrainingError(str(error)) from error
    if card is None:
        raise TrainingError(f"{folder} has no step_grpo.json, so it is no checkpoint of `stepgrpo train`")
    return card


def stamp(folder: Path, found: Calibration) -> None:
    """Write a calibration on the card of a checkpoint; all else on it stays."""
    card_of(folder).model_copy(update={"calibration": found}).save(folder)


def _measurement(measured: Answered) -> Measurement:
    p50, p90 = np.quantile(measured.tokens, (0.5, 0.9))
    return Measurement(
        accuracy=float(measured.correct.mean()),
        completion_tokens=TokenSummary(mean=float(measured.tokens.mean()), p50=float(p50), p90=float(p90)),
        reasoning_steps=StepSummary(mean=float(measured.steps.mean())),
    )
