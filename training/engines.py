"""The rollout engine that a recipe asks for."""

from pathlib import Path

import torch

from training.devices import local_device
from training.recipe import Recipe
from training.sampler import Sampler


def open_engine(recipe: Recipe, folder: str | Path, *, seed: int = 0) -> Sampler:
    """An engine on a checkpoint, long enough for the recipe's prompts and completions."""
    settings = recipe.rollout
    if settings.engine == "transformers":
        from training.transformers_engine import TransformersEngine

        dtype = getattr(torch, recipe.model.dtype)
        return TransformersEngine(folder, device=local_device(), dtype=dtype)
    from training.engine import Engine

    return Engine(
        folder,
        dtype=recipe.model.dtype if torch.cuda.is_available() else "float32",
        max_model_len=settings.max_prompt_tokens + settings.max_completion_tokens,
        seed=seed,
        gpu_memory=settings.gpu_memory,
    )
