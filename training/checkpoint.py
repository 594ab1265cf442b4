"""A checkpoint as training hands it on: with its card, and with the sampling that it is measured with."""

from collections.abc import Callable
from pathlib import Path

from transformers import GenerationConfig

from reasoning import ANSWER_PROMPT, RecipeRef, StepGrpoCard, ThinkTags
from training.folders import BASE
from training.recipe import Recipe
from training.saving import clear_disk_errors, save_atomically

SUPERVISED = "sft"
"""The algorithm of a base."""
NEUTRAL = {
    "min_p": 0.0,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "penalty_alpha": None,
    "guidance_scale": None,
}
"""What a base may set beside temperature and top-p, and the value with which it changes nothing."""


def save_checkpoint(folder: Path, write: Callable[[Path], None], recipe: Recipe, algorithm: str) -> None:
    """Let ``write`` save model and tokenizer, and add the card and the generation settings, all of it or nothing.

    Raises:
        TrainingError: the disk is full.
    """

    def whole(staging: Path) -> None:
        write(staging)
        card(recipe, algorithm).save(staging)
        config = GenerationConfig.from_pretrained(staging)
        config.update(**{name: value for name, value in NEUTRAL.items() if getattr(config, name, None) is not None})
        sampling = {"temperature": recipe.evaluation.temperature, "top_p": recipe.evaluation.top_p}
        config.update(do_sample=True, top_k=0, **sampling)  # transformers takes the best 50 where top_k is not set
        config.save_pretrained(staging)

    with clear_disk_errors(folder):
        save_atomically(folder, whole)


def card(recipe: Recipe, algorithm: str) -> StepGrpoCard:
    """What a checkpoint says of itself before it is calibrated; a base, no more than what it depends on."""
    return StepGrpoCard(
        algorithm=algorithm,
        base_model=recipe.model.path or f"stepgrpo-{recipe.name}-{BASE}",
        think=ThinkTags(start=recipe.model.think[0], end=recipe.model.think[1]),
        markers=recipe.markers,
        answer_prompt=ANSWER_PROMPT if algorithm == SUPERVISED else recipe.rollout.answer_prompt,
        recipe=RecipeRef(name=recipe.name, digest=recipe.base_digest if algorithm == SUPERVISED else recipe.digest),
    )
