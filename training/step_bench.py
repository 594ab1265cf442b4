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
from training.methods import PolicyGradient, load_method
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
    """Parts of one training step in seconds (means), sampling in several ways, and the ratios that matter."""

    parts: Mapping[str, float]
    rollouts: Mapping[str, Sequence[Timing]]
    figures: Sequence[Figure]
    samples: int

    def as_markdown(self) -> str:
        """Tables for people."""
        kind = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU seconds of one process"
        total = self.parts["total"]
        lines = [f"# One training step of {self.samples} completions ({kind})", "", *figure_table(self.figures)]
        lines += ["", "| part of a step | seconds | share |", "|---|---|---|"]
        lines += [f"| {name} | {seconds:.2f} | {seconds / total:.1%} |" for name, seconds in self.parts.items()]
        lines += [
            "",
            "| rollouts (medians) | seconds | tokens | longest | tokens/s | probes |",
            "|---|---|---|---|---|---|",
        ]
        for name, timings in self.rollouts.items():
            one = sorted(timings, key=lambda timing: timing.seconds)[len(timings) // 2]
            lines.append(
                f"| {name} | {one.seconds:.2f} | {one.engine_steps or '-'} | {one.tokens:,} | {one.longest}"
                f" | {one.tokens_per_second:,.0f} | {one.probe_share:.1%} |"
            )
        return "\n".join([*lines, ""])


def bench_step(recipe: Recipe, base: Path, output: Path, *, samples: int, rounds: int) -> StepBench:
    """Measure on the checkpoint in ``base``; writes ``step_bench.json`` and ``step_bench.md`` to ``output``.

    The learning rate is 0, so that every step of every way samples from the same policy.
    """
    from training.grpo import train_stock

    group = recipe.grpo.group_size
    still = {"grpo.steps": rounds + 1, "grpo.learning_rate": 0.0, "grpo.save_every": 0, "grpo.token_budget": None}
    prompts = max(1, samples // group)
    batch = {
        "grpo.prompts": prompts,
        "grpo.updates": 1,
        "grpo.micro_batch": gcd(recipe.grpo.micro_batch, prompts * group),
    }
    ours = recipe.overridden({**still, **batch})
    engine = open_engine(recipe, base, seed=recipe.seed)
    try:
        rollouts = time_rollouts(recipe, base, engine, samples=samples, rounds=rounds)
        parts, _ = _steps(ours, base, engine)
        plain = ours.overridden({"method": "grpo"})
        _, plain_steps = _steps(plain, base, engine)
        timer = StepTimer()
        train_stock(plain, base, engine, [timer])
    finally:
        engine.close()
    found = StepBench(parts, rollouts, _figures(rollouts, plain_steps, timer.seconds[1:]), samples)
    output.mkdir(parents=True, exist_ok=True)
    (output / JSON_NAME).write_text(json.dumps(asdict(found), indent=2) + "\n")
    (output / TABLE_NAME).write_text(found.as_markdown())
    return found


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


def _steps(recipe: Recipe, base: Path, engine: Sampler) -> tuple[dict[str, float], list[float]]:
    """Mean seconds of the parts of a step, and the seconds of each; the first (warm-up) is left out."""
    from training.grpo import train_policy

    method = load_method(recipe.method)
    assert isinstance(method, PolicyGradient)
    timer = StepTimer()
    with TemporaryDirectory() as folder:
        train_policy(recipe, method, base, Path(folder), on_step=lambda *_: None, callbacks=[timer], engine=engine)
        lines = read_log(Path(folder) / LOG_NAME)[1:]
    worked, elapsed = sum(timer.seconds[1:]), sum(timer.elapsed[1:])

    def mean(key: str) -> float:
        return fmean(line[key] for line in lines) * worked / elapsed

    known = {
        "sync and guard": mean("sync_seconds"),
        "rollout, trial answers left out": mean("rollout_seconds") - mean("probe_seconds"),
        "trial answers": mean("probe_seconds"),
        "reward": mean("reward_seconds"),
        "log-probabilities": mean("logprob_seconds"),
    }
    total = worked / len(lines)
    return known | {"update": total - sum(known.values()), "total": total}, timer.seconds[1:]


class StepTimer(TrainerCallback):  # type: ignore[misc]
    """Seconds of every optimiser step: of work (:func:`clock`), and by the clock on the wall."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.elapsed: list[float] = []
        self._begun = (0.0, 0.0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Start the clocks."""
        self._begun = (clock(), time.perf_counter())

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Stop the clocks."""
        self.seconds.append(clock() - self._begun[0])
        self.elapsed.append(time.perf_counter() - self._begun[1])
