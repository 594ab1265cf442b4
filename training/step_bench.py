"""What one training step costs: its parts, and ratios to other ways of doing the same."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import gcd
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.bench_figures import Figure, figure_table
from training.engines import open_engine
from training.errors import TrainingError
from training.methods import PolicyGradient, load_method
from training.progress import StageCallback, StepCallback
from training.recipe import Recipe
from training.rollout_bench import (
    GENERATE,
    LOCK_STEP,
    LOCK_STEP_TAIL,
    PLAIN,
    TRUNCATED,
    TRUNCATED_TAIL,
    Timing,
    clock,
    time_rollouts,
)
from training.sampler import Sampler
from training.step_log import LOG_NAME, read_log

JSON_NAME, TABLE_NAME = "step_bench.json", "step_bench.md"


@dataclass(frozen=True, slots=True)
class StepBench:
    """Parts of one training step in seconds (means), sampling in several ways, and the ratios that matter.

    The step is of ``samples`` completions and makes ``updates`` updates.
    """

    parts: Mapping[str, float]
    rollouts: Mapping[str, Sequence[Timing]]
    figures: Sequence[Figure]
    samples: int
    updates: int

    def as_markdown(self) -> str:
        """Tables for people."""
        kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU seconds of one process"
        total = self.parts["total"]
        size = f"{self.samples} completions" + (f" in {self.updates} updates" if self.updates > 1 else "")
        lines = [f"# One training step of {size} ({kind})", "", *figure_table(self.figures)]
        lines += ["", "| part of a step | seconds | share |", "|---|---|---|"]
        lines += [f"| {name} | {seconds:.2f} | {seconds / total:.1%} |" for name, seconds in self.parts.items()]
        lines += [
            "",
            "| rollouts (medians) | seconds | engine steps | tokens | median | longest | tokens/s | probes |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, timings in self.rollouts.items():
            one = sorted(timings, key=lambda timing: timing.seconds)[len(timings) // 2]
            lines.append(
                f"| {name} | {one.seconds:.2f} | {one.engine_steps or '-'} | {one.tokens:,} | {one.typical}"
                f" | {one.longest} | {one.tokens_per_second:,.0f} | {one.probe_share:.1%} |"
            )
        return "\n".join([*lines, ""])


def bench_step(
    recipe: Recipe, base: Path, output: Path, on_stage: StageCallback, *, samples: int, rounds: int
) -> StepBench:
    """Measure on the checkpoint in ``base``; writes ``step_bench.json`` and ``step_bench.md`` to ``output``.

    The parts are those of the recipe's own step, its updates included, so that the pass of the old policy counts where
    there are several. The plain step and TRL's stock one make a single update each.

    Raises:
        TrainingError: the recipe's method has no training step to time.
    """
    from training.grpo import train_stock

    method = load_method(recipe.method)
    if not isinstance(method, PolicyGradient):
        raise TrainingError(
            f"{recipe.method} has no training step that could be timed: take a method that has, for example --set"
            " method=step-grpo"
        )
    ours = timed(recipe, samples=samples, rounds=rounds)
    plain = timed(recipe.overridden({"method": "grpo", "grpo.updates": 1}), samples=samples, rounds=rounds)
    whole = ours.grpo.prompts * ours.grpo.group_size
    on_rollouts = on_stage("rollouts, each way in turn")
    engine = open_engine(recipe, base, seed=recipe.seed)
    try:
        rollouts = time_rollouts(recipe, base, engine, on_rollouts, samples=whole, rounds=rounds)
        parts, _ = _steps(ours, base, engine, on_stage("steps of the recipe"))
        _, plain_steps = _steps(plain, base, engine, on_stage("plain steps"))
        timer = StepTimer(on_stage("TRL's stock steps"))
        train_stock(plain, base, engine, [timer])
    finally:
        engine.close()
    figures = _figures(rollouts, plain_steps, whole_steps(timer.seconds, 1))
    found = StepBench(parts, rollouts, figures, whole, ours.grpo.updates)
    output.mkdir(parents=True, exist_ok=True)
    (output / JSON_NAME).write_text(json.dumps(asdict(found), indent=2) + "\n")
    (output / TABLE_NAME).write_text(found.as_markdown())
    return found


def timed(recipe: Recipe, *, samples: int, rounds: int) -> Recipe:
    """The recipe with a step a round, after one to warm up, of at most ``samples`` completions in whole groups.

    A step makes as many of the recipe's updates as divide it. The learning rate is 0, so that every step of every way
    samples from the same policy.
    """
    settings = recipe.grpo
    prompts = max(1, samples // settings.group_size)
    whole = prompts * settings.group_size
    updates = gcd(settings.updates, whole)
    return recipe.overridden(
        {
            "grpo.steps": rounds + 1,
            "grpo.prompts": prompts,
            "grpo.updates": updates,
            "grpo.micro_batch": gcd(settings.micro_batch, whole // updates),
            "grpo.learning_rate": 0.0,
            "grpo.save_every": 0,
            "grpo.token_budget": None,
        }
    )


def whole_steps(seconds: Sequence[float], updates: int) -> list[float]:
    """Seconds of whole steps from those of their ``updates`` updates; the first step (warm-up) is left out."""
    return [sum(seconds[first : first + updates]) for first in range(updates, len(seconds), updates)]


def _figures(
    rollouts: Mapping[str, Sequence[Timing]], ours: Sequence[float], stock: Sequence[float]
) -> tuple[Figure, ...]:
    def ratios(slow: str, fast: str) -> tuple[float, ...]:
        pairs = zip(rollouts[slow], rollouts[fast], strict=True)
        return tuple(one.seconds / other.seconds for one, other in pairs)

    def steps(slow: str, fast: str) -> tuple[float, ...]:
        pairs = zip(rollouts[slow], rollouts[fast], strict=True)
        return tuple(one.engine_steps / other.engine_steps for one, other in pairs)

    speeds = zip(rollouts[PLAIN], rollouts[GENERATE], strict=True)
    usual, tailed = ratios(LOCK_STEP, TRUNCATED), ratios(LOCK_STEP_TAIL, TRUNCATED_TAIL)
    return (
        Figure("samples/s against lock-step rounds", usual, "at least", 1.5),
        Figure("the same, long-tailed lengths", tailed, "at least", median(usual)),
        Figure("engine steps of lock-step rounds against ours", steps(LOCK_STEP, TRUNCATED), "at least", 1.5),
        Figure("the same, long-tailed lengths", steps(LOCK_STEP_TAIL, TRUNCATED_TAIL), "at least", 1.5),
        Figure("share of trial answers in rollout time", _probe_shares(rollouts), "at most", 0.15),
        Figure("time of a plain step against TRL's stock step", _each(ours, stock), "at most", 1.2),
        Figure(
            "vLLM's tokens/s against transformers' generate",
            tuple(one.tokens_per_second / other.tokens_per_second for one, other in speeds),
            "at least",
            8,
        ),
    )


def _probe_shares(rollouts: Mapping[str, Sequence[Timing]]) -> tuple[float, ...]:
    return tuple(timing.probe_share for timing in rollouts[TRUNCATED])


def _each(ours: Sequence[float], stock: Sequence[float]) -> tuple[float, ...]:
    return tuple(one / other for one, other in zip(ours, stock, strict=True))


def _steps(recipe: Recipe, base: Path, engine: Sampler, on_step: StepCallback) -> tuple[dict[str, float], list[float]]:
    """Mean seconds of the parts of a step, and the seconds of each; the first (warm-up) is left out."""
    from training.grpo import train_policy

    method = load_method(recipe.method)
    assert isinstance(method, PolicyGradient)
    timer = StepTimer()
    with TemporaryDirectory() as folder:
        train_policy(recipe, method, base, Path(folder), on_step=on_step, callbacks=[timer], engine=engine)
        lines = read_log(Path(folder) / LOG_NAME)[1:]
    seconds, elapsed = (whole_steps(each, recipe.grpo.updates) for each in (timer.seconds, timer.elapsed))
    worked = sum(seconds) / sum(elapsed)

    def mean(key: str) -> float:
        return fmean(line[key] for line in lines) * worked

    known = {
        "sync and guard": mean("sync_seconds"),
        "rollout, trial answers left out": mean("rollout_seconds") - mean("probe_seconds"),
        "trial answers": mean("probe_seconds"),
        "reward": mean("reward_seconds"),
        "log-probabilities": mean("logprob_seconds"),
    }
    total = fmean(seconds)
    return known | {"update": total - sum(known.values()), "total": total}, seconds


class StepTimer(TrainerCallback):  # type: ignore[misc]
    """Seconds of every update: of work (:func:`clock`), and by the clock on the wall.

    A step's first update has its rollouts. ``on_step`` is called after each update.
    """

    def __init__(self, on_step: StepCallback = lambda *_: None) -> None:
        self.seconds: list[float] = []
        self.elapsed: list[float] = []
        self._begun = (0.0, 0.0)
        self._on_step = on_step

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Start the clocks."""
        self._begun = (clock(), time.perf_counter())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Stop the clocks."""
        self.seconds.append(clock() - self._begun[0])
        self.elapsed.append(time.perf_counter() - self._begun[1])
        self._on_step(state.global_step, state.max_steps, {})
