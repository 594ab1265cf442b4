"""Supervised training of the quickstart base model on written traces.

Two things are taught at once. Whole traces teach to reason (and to overthink). Traces cut at a random step and closed
early, as a trial answer or as a forced exit, teach what is known at that point: the loss falls on what follows the cut
and the true answer, so the likelihood makes the model's confidence match its chance to be right, low before the needed
step and high after, and no exit leaves the model without an answer.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from reasoning import ANSWER_PROMPT
from reasoning.segmenter import DEFAULT_TAGS
from training.chat import chat_text
from training.checkpoint import SUPERVISED, save_checkpoint
from training.data import GENERATED
from training.devices import local_device, multiplies_bfloat16
from training.model import build_model
from training.problems import SHORT, Problem, Size, problems
from training.progress import StepCallback
from training.recipe import Recipe, SftSettings
from training.saving import clear_disk_errors
from training.sft_resume import Standing, Stateful
from training.tokenizer import END_OF_TURN, build_tokenizer
from training.traces import DRILL, Habits, answer_text, write_trace

POOL = 512
IGNORED = -100
STANDING = "resume.pt"
"""File of a training under way, in the folder of its checkpoint."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids and the position from which they are learned."""

    tokens: list[int]
    learned_from: int


def train_base(recipe: Recipe, output: Path, *, on_step: StepCallback) -> None:
    """Train the base model from scratch and write it, with its tokenizer and card, to ``output``.

    A training of the same base that was killed is taken up, and ends with the same weights.

    Args:
        recipe: its ``model`` and ``sft`` sections; its seed is that of the weights, the data and its order.
        output: checkpoint folder.
        on_step: called after every step with its number, the number of steps and ``{"loss": ...}``.

    Raises:
        TrainingError: the killed training had other recipe values, or the disk is full.
    """
    settings, seed = recipe.sft, recipe.seed
    if settings is None:
        raise ValueError("the recipe has no sft section")
    tokenizer = build_tokenizer()
    device = local_device()
    model = build_model(tokenizer, seed, hidden_size=recipe.model.hidden_size, layers=recipe.model.layers).to(device)
    optimizers = _optimizers(model, settings)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, settings.steps))
        for optimizer in optimizers
    ]
    parts: dict[str, Stateful] = {"model": model}
    parts |= {f"optimizer {number}": each for number, each in enumerate(optimizers)}
    parts |= {f"schedule {number}": each for number, each in enumerate(schedules)}
    standing = Standing(output / STANDING, recipe.base_digest, parts)
    begun = standing.restore()
    pad = tokenizer.pad_token_id
    batches = _batches(tokenizer, settings, seed, GENERATED.get(recipe.data.name, SHORT))
    for step, batch in enumerate(islice(batches, begun, settings.steps), begun):
        tokens, labels = collate(batch, pad)
        with torch.autocast(device, torch.bfloat16, enabled=multiplies_bfloat16(device)):
            loss = next_token_loss(model, tokens.to(device), labels.to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        with clear_disk_errors(output):
            standing.save(step + 1)
        on_step(step + 1, settings.steps, {"loss": loss.item()})

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    save_checkpoint(output, write, recipe, SUPERVISED)
    standing.clear()


def next_token_loss(model: PreTrainedModel, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the learned tokens; ``tokens`` and ``labels`` have shape ``(examples, longest)``."""
    hidden = model.model(tokens).last_hidden_state[:, :-1]
    learned = labels[:, 1:] != IGNORED
    logits = model.lm_head(hidden[learned])
    return nn.functional.cross_entropy(logits.float(), labels[:, 1:][learned])


def _optimizers(model: nn.Module, settings: SftSettings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=settings.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _schedule(step: int, steps: int) -> float:
    """A short warm-up, then a flat part, then linearly to zero over the last 60 %."""
    return min(1.0, (step + 1) / 20, (steps - step) / (0.6 * steps))


def _batches(
    tokenizer: PreTrainedTokenizerBase, settings: SftSettings, seed: int, size: Size = SHORT
) -> Iterator[list[Example]]:
    """Batches of examples of similar length, each at most ``batch_tokens`` with its padding."""
    rng = random.Random(f"sft:{seed}")
    stream = problems("train", seed, size=size)
    made = 0
    while True:
        drilling = made < settings.drill * settings.steps
        habits, cut_share = (DRILL, 0.0) if drilling else (Habits(), settings.cut_share)
        pool = [_example(tokenizer, next(stream), habits, cut_share, rng) for _ in range(POOL)]
        batches: list[list[Example]] = [[]]
        for example in sorted(pool, key=lambda example: len(example.tokens)):
            if (len(batches[-1]) + 1) * len(example.tokens) > settings.batch_tokens:
                batches.append([])
            batches[-1].append(example)
        rng.shuffle(batches)
        made += len(batches)
        yield from batches


def _example(
    tokenizer: PreTrainedTokenizerBase, problem: Problem, habits: Habits, cut_share: float, rng: random.Random
) -> Example:
    """A whole trace, or (with probability ``cut_share``) one closed early at a random step."""
    trace = write_trace(problem, rng, habits)
    prompt = chat_text(tokenizer, problem.question)
    if rng.random() >= cut_share:
        shown, learned = (
            "",
            f"{DEFAULT_TAGS[0]}\n{trace.thinking}\n{DEFAULT_TAGS[1]}\n\n{answer_text(trace.answer)}{END_OF_TURN}",
        )
    else:
        last = 1 if rng.random() < 0.4 else rng.randint(1, len(trace.steps))
        shown = f"{DEFAULT_TAGS[0]}\n" + "\n".join(trace.steps[:last])
        if rng.random() < 0.5:
            shown, learned = shown + ANSWER_PROMPT, f"{{{problem.answer}}}{DEFAULT_TAGS[1]}"
        else:
            shown, learned = f"{shown}\n{DEFAULT_TAGS[1]}", f"\n\n{answer_text(problem.answer)}{END_OF_TURN}"
    context = tokenizer.encode(prompt + shown)
    return Example(context + tokenizer.encode(learned), len(context))


def collate(batch: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and labels, both ``(examples, longest)``; causal attention needs no padding mask."""
    longest = max(len(example.tokens) for example in batch)
    tokens = torch.full((len(batch), longest), pad)
    labels = torch.full((len(batch), longest), IGNORED)
    for row, example in enumerate(batch):
        ids = torch.tensor(example.tokens)
        tokens[row, : len(ids)] = ids
        labels[row, example.learned_from : len(ids)] = ids[example.learned_from :]
    return tokens, labels
