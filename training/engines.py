"""The rollout engine that a recipe asks for."""

from pathlib import Path

import torch
from transformers import AutoConfig

from training.devices import local_device
from training.errors import TrainingError
from training.recipe import Recipe
from training.sampler import Sampler


def open_engine(recipe: Recipe, folder: str | Path, *, seed: int = 0) -> Sampler:
    """An engine on a checkpoint, long enough for the recipe's prompts and completions.

    Raises:
        TrainingError: the model or the memory is not made for answers of that length, or the engine does not start.
    """
    check_context(recipe, folder)
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


def check_context(recipe: Recipe, folder: str | Path) -> None:
    """Refuse prompts and completions that vLLM would find too long for the model's context.

    Raises:
        TrainingError: they are; lengths that fit are named. Or there is no such checkpoint.
    """
    prompt, completion = recipe.rollout.max_prompt_tokens, recipe.rollout.max_completion_tokens
    context = _context(folder) if recipe.rollout.engine == "vllm" else None
    if context is None or prompt + completion <= context:
        return
    shorter = min(prompt, context // 4)
    changes = f" --set rollout.max_prompt_tokens={shorter}" * (shorter < prompt)
    raise TrainingError(
        f"{folder} has a context of {context:,} tokens, and the recipe's prompts and completions take {prompt:,} +"
        f" {completion:,}:{changes} --set rollout.max_completion_tokens={context - shorter}"
    )


def _context(folder: str | Path) -> int | None:
    """Tokens that a model was made for, as far as its configuration says."""
    try:
        config = AutoConfig.from_pretrained(folder).get_text_config()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder} is no checkpoint: {str(error).splitlines()[0]}") from error
    longest = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    return None if longest is None else int(longest * (rope.get("factor") or 1))
