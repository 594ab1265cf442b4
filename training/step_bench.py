"""What one training step costs: its parts in seconds, and ratios to other ways of doing the same."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoTokenizer

from training.chat import chat_tokens
from training.data import take_questions
from training.engines import open_engine
from training.experience import exit_policy, fits_prompt
from training.lockstep import LockStep
from training.methods import PolicyGradient, load_method
from training.recipe import Recipe
from training.rollout import Rollout, RolloutContext, plain_rollouts, truncated_rollouts
from training.sampler import Sampler, Sampling
from training.step_log import LOG_NAME, read_log


@dataclass(frozen=True, slots=True)
class Timing:
    """One way of sampling the same prompts."""

    name: str
    seconds: float
    samples: int
    tokens: int
    probe_share: float

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class StepBench:
    """Parts of one training step in seconds (means), and sampling in several ways.

    ``ratios``: barrier-free rollouts against lock-step rounds, vLLM against ``transformers`` (both as the other's time
    over ours), and our step against TRL's stock step (ours over its).
    """

    parts: dict[str, float]
    rollouts: tuple[Timing, ...]
    ratios: dict[str, float]

    def as_markdown(self) -> str:
        """Tables for people."""
        lines = ["# One training step", "", "| part | seconds |", "|---|---|"]
        lines += [f"| {name} | {seconds:.2f} |" for name, seconds in self.parts.items()]
        lines += ["", "| rollouts | samples | seconds | tokens/s | share of probes |", "|---|---|---|---|---|"]
        lines += [
            f"| {one.name} | {one.samples} | {one.seconds:.2f} | {one.tokens_per_second:,.0f} | {one.probe_share:.1%} |"
            for one in self.rollouts
        ]
        lines += ["", "| ratio | |", "|---|---|", *(f"| {name} | {value:.2f} |" for name, value in self.ratios.items())]
        return "\n".join([*lines, ""])


def bench_step(recipe: Recipe, base: Path, output: Path, *, samples: int = 256, repeats: int = 3) -> StepBench:
    """Measure on the checkpoint in ``base``; writes ``step_bench.json`` to ``output``."""
    from training.grpo import stock_step_seconds

    quickly = recipe.overridden({"grpo.steps": repeats + 1})
    ours = _step_parts(quickly, base)
    plain = _step_parts(quickly.overridden({"method": "grpo"}), base)
    trl = stock_step_seconds(quickly, base)
    timings = _rollout_timings(recipe, base, samples, repeats)
    by_name = {one.name: one for one in timings}
    ratios = {
        "lock-step rounds / barrier-free": by_name["lock-step"].seconds / by_name["barrier-free"].seconds,
        "lock-step rounds / barrier-free, long tail": by_name["lock-step, long tail"].seconds
        / by_name["barrier-free, long tail"].seconds,
        "vLLM / transformers (tokens a second)": by_name["plain"].tokens_per_second
        / by_name["transformers"].tokens_per_second,
        "our plain step / TRL's stock step on the same engine": plain["total"] / trl,
    }
    found = StepBench(ours, tuple(timings), ratios)
    output.mkdir(parents=True, exist_ok=True)
    (output / "step_bench.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    return found


def _step_parts(recipe: Recipe, base: Path) -> dict[str, float]:
    """Mean seconds of the parts of a step, the first step (warm-up) left out."""
    from training.grpo import train_policy

    method = load_method(recipe.method)
    assert isinstance(method, PolicyGradient)
    with TemporaryDirectory() as folder:
        train_policy(recipe, method, base, Path(folder), on_step=lambda *_: None)
        lines = read_log(Path(folder) / LOG_NAME)[1:]

    def mean(key: str) -> float:
        return sum(line[key] for line in lines) / len(lines)

    known = {
        "sync and guard": mean("sync_seconds"),
        "rollout, probes left out": mean("rollout_seconds") - mean("probe_seconds"),
        "probes": mean("probe_seconds"),
        "reward": mean("reward_seconds"),
        "log-probabilities": mean("logprob_seconds"),
    }
    updates = recipe.grpo.updates
    total = mean("step_time") * updates
    return known | {"update": total - sum(known.values()), "total": total}


def _rollout_timings(recipe: Recipe, base: Path, samples: int, repeats: int) -> list[Timing]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    asked = take_questions(recipe.data, recipe.seed, samples, fits_prompt(tokenizer, recipe))
    prompts = [chat_tokens(tokenizer, row.question) for row in asked]
    sampling = Sampling(recipe.rollout.temperature, recipe.rollout.top_p)
    config = exit_policy(recipe)

    def timed(name: str, engine: Sampler, roll: Callable[[RolloutContext], list[Rollout]], times: int) -> Timing:
        context = RolloutContext(engine, tokenizer, config, sampling)
        best: Timing | None = None
        for _ in range(times):
            torch.manual_seed(recipe.seed)
            started = time.perf_counter()
            rollouts = roll(context)
            seconds = time.perf_counter() - started
            tokens = sum(len(rollout.completion_ids) for rollout in rollouts)
            probes = sum(rollout.probe_seconds for rollout in rollouts) / seconds
            if best is None or seconds < best.seconds:
                best = Timing(name, seconds, len(rollouts), tokens, probes)
        assert best is not None
        return best

    hot = recipe.overridden({"rollout.temperature": 1.3})
    long_tail = Sampling(hot.rollout.temperature, recipe.rollout.top_p)
    engine = open_engine(recipe, base, seed=recipe.seed)
    try:

        def truncated(context: RolloutContext) -> list[Rollout]:
            return truncated_rollouts(context, prompts)

        def tailed(context: RolloutContext) -> list[Rollout]:
            return truncated_rollouts(RolloutContext(context.engine, tokenizer, config, long_tail), prompts)

        found = [
            timed("barrier-free", engine, truncated, repeats),
            timed("lock-step", LockStep(engine), truncated, repeats),
            timed("barrier-free, long tail", engine, tailed, repeats),
            timed("lock-step, long tail", LockStep(engine), tailed, repeats),
            timed("plain", engine, lambda context: plain_rollouts(context, prompts), repeats),
        ]
    finally:
        engine.close()
    slow = open_engine(recipe.overridden({"rollout.engine": "transformers"}), base)
    return [*found, timed("transformers", slow, lambda context: plain_rollouts(context, prompts), 1)]
