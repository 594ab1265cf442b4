"""Rejection sampling and supervised training on what was right (DEER + SFT): the shortest correct one a question."""

import hashlib
import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from training.chat import chat_tokens
from training.checkpoint import save_checkpoint
from training.data import Question, take_questions
from training.devices import local_device
from training.engines import open_engine
from training.errors import TrainingError
from training.experience import exit_policy, fits_prompt, step_rng
from training.grading import grade
from training.json_lines import appending, read_lines
from training.methods import Distillation
from training.progress import StepCallback
from training.recipe import DistillSettings, Recipe
from training.resume import CHECKPOINTS, prepare
from training.rollout import RolloutContext
from training.sampler import Sampling
from training.saving import clear_disk_errors, stamps
from training.sft import Example, collate, next_token_loss
from training.step_log import LOG_NAME

HARVEST = "harvest-{}.jsonl"
"""File of what a base has sampled, in the folder of a run's checkpoints."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of sampling brought.

    Attributes:
        examples: the shortest right completion of each question that has one.
        sampled_tokens: what sampling cost.
        accuracy: share of the completions that are right.
        draws: where torch's generators stand after it, the CPU's and each GPU's, in hexadecimal digits.
    """

    examples: list[Example]
    sampled_tokens: int
    accuracy: float
    draws: list[str]


def train_distilled(
    recipe: Recipe,
    method: Distillation,
    base: str | Path,
    output: Path,
    *,
    on_step: StepCallback,
    resume: bool = False,
) -> None:
    """Sample from ``base`` by the method's rollouts, learn the right completions, and write the result to ``output``.

    The number of samples is that of the recipe's ``grpo`` section: steps, prompts, group size, token budget.

    Args:
        recipe: what to do.
        method: its rollouts.
        base: checkpoint to start from (folder or hub name).
        output: folder for weights, tokenizer, card and ``training_log.jsonl`` (one line a step).
        on_step: called with the number of questions asked and of all, then with that of steps trained and of all.
        resume: keep what a run of the same recipe has sampled from this base, and sample the rest. Its ``distill``
            section may be another.

    Raises:
        TrainingError: no sampled completion was right, the loss is no number, the disk is full, the recipe wants
            adapters, or what was sampled comes from other recipe values.
    """
    if recipe.lora is not None:
        raise TrainingError("distillation trains all weights: leave lora out")
    kept = output / CHECKPOINTS
    prepare(kept, recipe.model_copy(update={"distill": DistillSettings()}).digest, resume=resume)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rounds = collect(recipe, method, base, tokenizer, kept / HARVEST.format(_key(base)), on_step)
    examples = [example for one in rounds for example in one.examples]
    if not examples:
        raise TrainingError(
            "no sampled completion was right: sample more (grpo.steps, grpo.token_budget) or take another base"
        )
    settings = recipe.distill
    computed, stored = getattr(torch, recipe.model.dtype), torch.float32  # small steps vanish in 16-bit weights
    model = AutoModelForCausalLM.from_pretrained(base, dtype=stored).to(local_device()).train()
    if recipe.grpo.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=recipe.grpo.weight_decay)
    rng = random.Random(recipe.seed)
    batches = [batch for _ in range(settings.epochs) for batch in _batches(examples, settings.batch_size, rng)]
    cost = float(sum(one.sampled_tokens for one in rounds))
    with (output / LOG_NAME).open("w") as log:
        for step, batch in enumerate(batches, start=1):
            loss = accumulate(model, batch, tokenizer.pad_token_id, recipe.grpo.micro_batch, computed)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"loss is {loss} at step {step}: go on with --resume and a lower --set distill.learning_rate, which"
                    " samples nothing again"
                )
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for schedule in optimizer.param_groups:
                schedule["lr"] = settings.learning_rate * (1 - (step - 1) / len(batches))
            optimizer.step()
            optimizer.zero_grad()
            line = {"step": float(step), "loss": loss, "sampled_tokens": cost if step == 1 else 0.0}
            log.write(json.dumps(line) + "\n")
            on_step(step, len(batches), line)

    def write(folder: Path) -> None:
        model.to(computed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    save_checkpoint(output, write, recipe, recipe.method)
    shutil.rmtree(kept, ignore_errors=True)


def accumulate(
    model: PreTrainedModel, batch: Sequence[Example], pad: int, micro_batch: int, dtype: torch.dtype
) -> float:
    """Add the gradient of a batch's loss, the mean over its learned tokens, and return that loss.

    Args:
        model: gradients are added to those that it has.
        batch: examples, of which ``micro_batch`` at a time go through the model.
        pad: token that fills the shorter ones.
        micro_batch: see ``batch``.
        dtype: of the computation.
    """
    total, loss = _learned(batch), 0.0
    for start in range(0, len(batch), micro_batch):
        part = list(batch[start : start + micro_batch])
        tokens, labels = (each.to(model.device) for each in collate(part, pad))
        with torch.autocast(model.device.type, dtype, enabled=dtype != model.dtype):
            share = next_token_loss(model, tokens, labels) * (_learned(part) / total)
        share.backward()
        loss += share.item()
    return loss


def collect(
    recipe: Recipe,
    method: Distillation,
    base: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    on_step: StepCallback,
) -> list[Round]:
    """Sample round by round, and keep each in the file at ``path``; rounds that it holds are not sampled again.

    The rest is sampled as it would have been without a break.
    """
    settings = recipe.grpo
    rows = take_questions(
        recipe.data, recipe.seed + 1_000_000, settings.steps * settings.prompts, fits_prompt(tokenizer, recipe)
    )
    rounds = [_round(**fields) for fields in read_lines(path)]

    def enough() -> bool:
        cost = sum(one.sampled_tokens for one in rounds)
        spent = settings.token_budget is not None and cost >= settings.token_budget
        return spent or len(rounds) * settings.prompts >= len(rows)

    if enough():
        return rounds
    engine = open_engine(recipe, base, seed=recipe.seed)
    try:
        torch.manual_seed(recipe.seed)
        if rounds:
            _go_on_from(rounds[-1].draws)
        sampling = Sampling(recipe.rollout.temperature, recipe.rollout.top_p)
        context = RolloutContext(engine, tokenizer, exit_policy(recipe), sampling, settings.group_size)
        with clear_disk_errors(path.parent), appending(path, map(asdict, rounds)) as append:
            while not enough():
                start = len(rounds) * settings.prompts
                asked = rows[start : start + settings.prompts]
                rng = step_rng(recipe.seed, len(rounds), 0)
                rounds.append(_sample(recipe, method, replace(context, rng=rng), asked))
                append(asdict(rounds[-1]))
                on_step(start + len(asked), len(rows), {"accuracy": rounds[-1].accuracy})
    finally:
        engine.close()
    return rounds


def _sample(recipe: Recipe, method: Distillation, context: RolloutContext, rows: Sequence[Question]) -> Round:
    asked = [row for row in rows for _ in range(context.group_size)]
    prompts = [chat_tokens(context.tokenizer, row.question) for row in asked]
    rollouts = method.rollouts(context, prompts)
    shortest: dict[Question, Example] = {}
    correct = 0
    for row, prompt, rollout in zip(asked, prompts, rollouts, strict=True):
        example = Example(prompt + rollout.completion_ids, len(prompt))
        right = grade(
            rollout.text,
            row.answer,
            recipe.markers,
            think=recipe.model.think,
            inside=recipe.model.thinking_in_prompt,
        ).correct
        correct += right
        if right and (row not in shortest or len(example.tokens) < len(shortest[row].tokens)):
            shortest[row] = example
    cost = sum(rollout.cost for rollout in rollouts)
    return Round(list(shortest.values()), cost, correct / len(asked), _draws())


def _draws() -> list[str]:
    states = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
    return [bytes(state.tolist()).hex() for state in states]


def _go_on_from(draws: Sequence[str]) -> None:
    cpu, *gpus = (torch.tensor(list(bytes.fromhex(state)), dtype=torch.uint8) for state in draws)
    torch.set_rng_state(cpu)
    torch.cuda.set_rng_state_all(gpus[: torch.cuda.device_count()])


def _round(examples: list[dict[str, Any]], **fields: Any) -> Round:
    return Round([Example(**example) for example in examples], **fields)


def _key(base: str | Path) -> str:
    """Stands for a folder by its weights, which may have been written anew since, and for a hub name by itself."""
    return hashlib.sha256(json.dumps(stamps(Path(base), "*.safetensors") or str(base)).encode()).hexdigest()[:16]


def _learned(examples: Sequence[Example]) -> int:
    """Tokens that are learned."""
    return sum(len(example.tokens) - example.learned_from for example in examples)


def _batches(examples: Sequence[Example], size: int, rng: random.Random) -> list[list[Example]]:
    shuffled = list(examples)
    rng.shuffle(shuffled)
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
