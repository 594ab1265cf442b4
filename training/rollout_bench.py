"""Sampling the same prompts in several ways, timed round by round."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_high
from typing import Any, TypeVar

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.chat import chat_tokens
from training.data import take_questions
from training.engines import open_engine
from training.experience import exit_policy, fits_prompt
from training.lockstep import LockStep
from training.progress import StepCallback
from training.recipe import Recipe
from training.rollout import Rollout, RolloutContext, plain, plain_rollouts, truncated_rollouts
from training.sampler import Completion, Sampler, Sampling

Found = TypeVar("Found")
LONG_TAIL = Sampling(temperature=1.6)
"""Flat enough that some completions ramble: the longest are several times as long as half of them."""

TRUNCATED, LOCK_STEP, PLAIN = "truncated rollouts", "truncated, lock-step", "plain"
TRUNCATED_TAIL, LOCK_STEP_TAIL = "truncated rollouts, long tail", "truncated, lock-step, long tail"
TRANSFORMERS, GENERATE = "plain, our transformers engine", "plain, transformers' generate"


@dataclass(frozen=True, slots=True)
class Timing:
    """One round of one way of sampling; ``typical`` (the median) and ``longest`` are in tokens, ``probe_share`` of the
    time.

    ``engine_steps`` counts batches that went through the model, where an engine tells.
    """

    seconds: float
    engine_steps: int
    samples: int
    tokens: int
    typical: int
    longest: int
    probe_share: float

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens a second."""
        return self.tokens / self.seconds


def clock() -> float:
    """Seconds of work: without a GPU, CPU time of this process, so that other programs on the machine do not count."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Counted:
    """An engine that counts its steps."""

    def __init__(self, engine: Sampler) -> None:
        self._engine = engine
        self.steps = 0

    def step(self) -> Iterable[tuple[str, Completion]]:
        """As the engine."""
        self.steps += 1
        return self._engine.step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def time_rollouts(
    recipe: Recipe, base: Path, engine: Sampler, on_step: StepCallback, *, samples: int, rounds: int
) -> dict[str, tuple[Timing, ...]]:
    """Time every way on the same prompts and seeds, in turn, ``rounds`` times; ``on_step`` is told of each."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    asked = take_questions(recipe.data, recipe.seed, samples, fits_prompt(tokenizer, recipe))
    prompts = [chat_tokens(tokenizer, row.question) for row in asked]
    usual = Sampling(recipe.rollout.temperature, recipe.rollout.top_p)
    counted: Any = Counted(engine)
    context = RolloutContext(counted, tokenizer, exit_policy(recipe), usual)
    tailed = replace(context, sampling=LONG_TAIL)
    slow = replace(context, engine=open_engine(recipe.overridden({"rollout.engine": "transformers"}), base))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, recipe.model.dtype)).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    ways: dict[str, Callable[[], list[Rollout]]] = {
        TRUNCATED: lambda: truncated_rollouts(context, prompts),
        LOCK_STEP: lambda: truncated_rollouts(replace(context, engine=LockStep(counted)), prompts),
        TRUNCATED_TAIL: lambda: truncated_rollouts(tailed, prompts),
        LOCK_STEP_TAIL: lambda: truncated_rollouts(replace(tailed, engine=LockStep(counted)), prompts),
        PLAIN: lambda: plain_rollouts(context, prompts),
        TRANSFORMERS: lambda: plain_rollouts(slow, prompts),
        GENERATE: lambda: _generated(model, context, prompts),
    }
    truncated_rollouts(context, prompts)  # warm-up: no way pays alone for the first prompts, kernels and compiled parts

    def timed(name: str, turn: int) -> Timing:
        torch.manual_seed(recipe.seed + turn)
        return _timed(ways[name], counted)

    return take_turns(list(ways), rounds, timed, on_step)


def take_turns(
    names: Sequence[str], rounds: int, take: Callable[[str, int], Found], on_step: StepCallback
) -> dict[str, tuple[Found, ...]]:
    """What ``take`` finds of each name, round by round."""
    found: dict[str, list[Found]] = {name: [] for name in names}
    for turn in range(rounds):
        for place, name in enumerate(names):
            found[name].append(take(name, turn))
            on_step(turn * len(names) + place + 1, rounds * len(names), {})
    return {name: tuple(each) for name, each in found.items()}


def _timed(way: Callable[[], list[Rollout]], counted: Counted) -> Timing:
    before = counted.steps
    started, begun = clock(), time.perf_counter()
    rollouts = way()
    seconds, elapsed = clock() - started, time.perf_counter() - begun
    lengths = [len(rollout.completion_ids) for rollout in rollouts]
    probes = sum(rollout.probe_seconds for rollout in rollouts) / elapsed
    typical, longest = median_high(lengths), max(lengths)
    return Timing(seconds, counted.steps - before, len(rollouts), sum(lengths), typical, longest, probes)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _generated(model: torch.nn.Module, context: RolloutContext, prompts: Sequence[list[int]]) -> list[Rollout]:
    """What ``generate`` gives on all prompts as one padded batch, as trainers without a rollout engine call it."""
    tokenizer, width = context.tokenizer, max(map(len, prompts))
    padding, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor([[padding] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    output = model.generate(
        ids,
        attention_mask=(ids != padding).long(),
        do_sample=True,
        temperature=context.sampling.temperature,
        top_p=context.sampling.top_p,
        top_k=0,
        max_new_tokens=context.config.total_tokens,
        eos_token_id=end,
        pad_token_id=padding,
    )
    rollouts = []
    for row in output[:, width:].tolist():
        tokens = tuple(row[: row.index(end) + 1] if end in row else row)
        rollouts.append(plain(tokenizer, Completion(tokens, "", "eos", None, ())))
    return rollouts
