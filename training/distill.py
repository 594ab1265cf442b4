"""Rejection sampling and supervised training on what was right (DEER + SFT): the shortest correct one a question."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from training.chat import chat_tokens
from training.checkpoint import save_checkpoint
from training.data import Question, take_questions
from training.devices import local_device
from training.engines import open_engine
from training.errors import TrainingError
from training.experience import exit_policy, fits_prompt
from training.grading import grade
from training.methods import Distillation
from training.progress import StepCallback
from training.recipe import Recipe
from training.rollout import RolloutContext
from training.sampler import Sampler, Sampling
from training.sft import Example, collate, next_token_loss
from training.step_log import LOG_NAME


@dataclass(frozen=True, slots=True)
class Harvest:
    """Examples that were sampled and kept, and the tokens that sampling cost."""

    examples: list[Example]
    sampled_tokens: int


def train_distilled(
    recipe: Recipe, method: Distillation, base: str | Path, output: Path, *, on_step: StepCallback
) -> None:
    """Sample from ``base`` by the method's rollouts, learn the right completions, and write the result to ``output``.

    The number of samples is that of the recipe's ``grpo`` section: steps, prompts, group size, token budget.

    Raises:
        TrainingError: no sampled completion was right, the loss is no number, or the recipe wants adapters.
    """
    if recipe.lora is not None:
        raise TrainingError("distillation trains all weights: leave lora out")
    tokenizer = AutoTokenizer.from_pretrained(base)
    engine = open_engine(recipe, base, seed=recipe.seed)
    try:
        torch.manual_seed(recipe.seed)
        harvest = collect(recipe, method, engine, tokenizer)
    finally:
        engine.close()
    if not harvest.examples:
        raise TrainingError(
            "no sampled completion was right: sample more (grpo.steps, grpo.token_budget) or take another base"
        )
    settings = recipe.distill
    device = local_device()
    computed, stored = getattr(torch, recipe.model.dtype), torch.float32  # small steps vanish in 16-bit weights
    model = AutoModelForCausalLM.from_pretrained(base, dtype=stored).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=recipe.grpo.weight_decay)
    rng = random.Random(recipe.seed)
    batches = [batch for _ in range(settings.epochs) for batch in _batches(harvest.examples, settings.batch_size, rng)]
    output.mkdir(parents=True, exist_ok=True)
    cost = float(harvest.sampled_tokens)
    with (output / LOG_NAME).open("w") as log:
        for step, batch in enumerate(batches, start=1):
            tokens, labels = collate(batch, tokenizer.pad_token_id)
            with torch.autocast(device, computed, enabled=computed != stored):
                loss = next_token_loss(model, tokens.to(device), labels.to(device))
            if not loss.isfinite():
                raise TrainingError(f"loss is {loss.item()} at step {step}: lower distill.learning_rate")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for schedule in optimizer.param_groups:
                schedule["lr"] = settings.learning_rate * (1 - (step - 1) / len(batches))
            optimizer.step()
            optimizer.zero_grad()
            line = {"step": float(step), "loss": loss.item(), "sampled_tokens": cost if step == 1 else 0.0}
            log.write(json.dumps(line) + "\n")
            on_step(step, len(batches), line)

    def write(folder: Path) -> None:
        model.to(computed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    save_checkpoint(output, write, recipe, recipe.method)


def collect(recipe: Recipe, method: Distillation, engine: Sampler, tokenizer: PreTrainedTokenizerBase) -> Harvest:
    """Sample group by group and keep the shortest correct completion of each question."""
    settings = recipe.grpo
    rows = take_questions(
        recipe.data, recipe.seed + 1_000_000, settings.steps * settings.prompts, fits_prompt(tokenizer, recipe)
    )
    sampling = Sampling(recipe.rollout.temperature, recipe.rollout.top_p)
    context = RolloutContext(engine, tokenizer, exit_policy(recipe), sampling, settings.group_size)
    examples: list[Example] = []
    cost = 0
    for start in range(0, len(rows), settings.prompts):
        asked = [row for row in rows[start : start + settings.prompts] for _ in range(settings.group_size)]
        prompts = [chat_tokens(tokenizer, row.question) for row in asked]
        rollouts = method.rollouts(context, prompts)
        cost += sum(rollout.cost for rollout in rollouts)
        kept: dict[Question, Example] = {}
        for row, prompt, rollout in zip(asked, prompts, rollouts, strict=True):
            example = Example(prompt + rollout.completion_ids, len(prompt))
            right = grade(
                rollout.text,
                row.answer,
                recipe.markers,
                think=recipe.model.think,
                inside=recipe.model.thinking_in_prompt,
            ).correct
            if right and len(example.tokens) < len(kept.get(row, example).tokens) + (row not in kept):
                kept[row] = example
        examples += kept.values()
        if settings.token_budget is not None and cost >= settings.token_budget:
            break
    return Harvest(examples, cost)


def _batches(examples: Sequence[Example], size: int, rng: random.Random) -> list[list[Example]]:
    shuffled = list(examples)
    rng.shuffle(shuffled)
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
