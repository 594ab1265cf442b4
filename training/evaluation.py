"""Plain decoding of checkpoints on the same questions, and what it shows. No probe, no forced exit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from transformers import AutoTokenizer

from training.chat import chat_tokens
from training.engines import open_engine
from training.experience import exit_policy
from training.grading import Grade, grade
from training.problems import GUESS_AND_CHECK, MONTHS, Problem
from training.recipe import Recipe
from training.rollout import Rollout, RolloutContext, RolloutPolicy, plain_rollouts
from training.sampler import Sampling

_CONCLUSION = re.compile(r"So (\d+)\.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer to one question.

    ``tokens`` is the whole completion, thinking included; ``probe_tokens`` were decoded beside it for trial answers.
    """

    problem: Problem
    grade: Grade
    tokens: int
    probe_tokens: int = 0

    @property
    def exit_step(self) -> int:
        """Step after which thinking ended."""
        return self.grade.trace.exit.step

    @property
    def passes(self) -> int:
        """How often a chain was gone through, in the thinking or behind it."""
        return self.grade.trace.text.count(f"{MONTHS[0]} ")

    @property
    def first_pass_right(self) -> bool | None:
        """Whether the first step of a chain already concluded the right answer; None where it concludes nothing."""
        steps = self.grade.trace.steps
        found = _CONCLUSION.search(steps[0].text) if steps else None
        return found[1] == self.problem.answer if found else None


@dataclass(frozen=True, slots=True)
class Measured:
    """All outcomes of one checkpoint under one way of sampling, in the order of the questions."""

    name: str
    sampling: Sampling
    outcomes: tuple[Outcome, ...]

    @property
    def correct(self) -> np.ndarray:
        """1.0 where the answer is right; shape ``(questions,)``."""
        return np.array([float(outcome.grade.correct) for outcome in self.outcomes])

    @property
    def tokens(self) -> np.ndarray:
        """Completion tokens; shape ``(questions,)``."""
        return np.array([float(outcome.tokens) for outcome in self.outcomes])

    @property
    def steps(self) -> np.ndarray:
        """Semantic steps; shape ``(questions,)``."""
        return np.array([float(outcome.grade.steps) for outcome in self.outcomes])


def measure(
    recipe: Recipe,
    folder: Path,
    questions: Sequence[Problem],
    samplings: Sequence[Sampling],
    rollouts: RolloutPolicy = plain_rollouts,
    *,
    seed: int = 0,
) -> list[Measured]:
    """Answer every question once with each way of sampling; ``rollouts`` other than plain ones only where asked for."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    engine = open_engine(recipe, folder)
    try:
        prompts = [chat_tokens(tokenizer, problem.question) for problem in questions]
        measured = []
        for sampling in samplings:
            context = RolloutContext(engine, tokenizer, exit_policy(recipe), sampling)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                outcomes = zip(questions, rollouts(context, prompts), strict=True)
            graded = tuple(_outcome(recipe, tokenizer.eos_token_id, problem, one) for problem, one in outcomes)
            measured.append(Measured(folder.name, sampling, graded))
        return measured
    finally:
        engine.close()


def _outcome(recipe: Recipe, end: int, problem: Problem, rollout: Rollout) -> Outcome:
    finish = "stop" if rollout.completion_ids[-1:] == [end] else "length"
    graded = grade(rollout.text, problem.answer, recipe.markers, finish_reason=finish, think=recipe.model.think)
    return Outcome(problem, graded, len(rollout.completion_ids), rollout.probe_tokens)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tuned against base on the same questions, with paired bootstrap intervals over questions."""

    accuracy_difference: Interval
    savings_ratio: Interval


def compare(base: Measured, tuned: Measured, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Difference of accuracies and ``1 - mean tokens(tuned) / mean tokens(base)``; questions are resampled in pairs."""
    if [o.problem.question for o in base.outcomes] != [o.problem.question for o in tuned.outcomes]:
        raise ValueError("a paired comparison needs the same questions in the same order")
    rng = np.random.default_rng(seed)
    count = len(base.outcomes)
    picks = rng.integers(0, count, size=(resamples, count))
    gains = (tuned.correct - base.correct)[picks].mean(axis=1)
    savings = 1 - tuned.tokens[picks].mean(axis=1) / base.tokens[picks].mean(axis=1)
    return Comparison(
        _interval(float(tuned.correct.mean() - base.correct.mean()), gains),
        _interval(float(1 - tuned.tokens.mean() / base.tokens.mean()), savings),
    )


def _interval(mean: float, samples: np.ndarray) -> Interval:
    low, high = np.quantile(samples, (0.025, 0.975))
    return Interval(mean, float(low), float(high))


@dataclass(frozen=True, slots=True)
class Adaptivity:
    """Whether exits follow what a guess-and-check question needs.

    ``rank_correlation`` (Spearman) is between needed and exit step; ``before``, ``at`` and ``after`` are shares of the
    exits against the needed step.
    """

    rank_correlation: float
    before: float
    at: float
    after: float


def adaptivity(measured: Measured) -> Adaptivity:
    """Summarise how exits follow the question."""
    searches = [o for o in measured.outcomes if o.problem.family in GUESS_AND_CHECK]
    needed = np.array([o.problem.needed for o in searches])
    exits = np.array([o.exit_step for o in searches])
    return Adaptivity(
        rank_correlation=float(spearmanr(needed, exits).statistic),
        before=float((exits < needed).mean()),
        at=float((exits == needed).mean()),
        after=float((exits > needed).mean()),
    )


@dataclass(frozen=True, slots=True)
class ChainChecks:
    """The shares of chains that go on after a first pass that was right or wrong, of ``right`` and ``wrong`` chains."""

    after_right: float
    after_wrong: float
    right: int
    wrong: int


def chain_checks(measured: Measured, *, needed: int | None = None) -> ChainChecks:
    """Where chains are checked, all of them or those that need so many steps; NaN where there is no such first pass."""
    chains = [o for o in measured.outcomes if o.problem.family == "chain" and needed in (None, o.problem.needed)]
    right = [o.exit_step > 1 for o in chains if o.first_pass_right is True]
    wrong = [o.exit_step > 1 for o in chains if o.first_pass_right is False]
    return ChainChecks(
        after_right=float(np.mean(right)) if right else float("nan"),
        after_wrong=float(np.mean(wrong)) if wrong else float("nan"),
        right=len(right),
        wrong=len(wrong),
    )


@dataclass(frozen=True, slots=True)
class RepairShares:
    """Shares of chains with a wrong first pass and a right answer (rescued), and the reverse (spoiled).

    ``hidden``: with more passes over the operations than steps, so checked without a marker that would count.
    """

    rescued: float
    spoiled: float
    hidden: float


def repair_shares(measured: Measured) -> RepairShares:
    """What the steps after the first pass did to the answers of chains."""
    chains = [o for o in measured.outcomes if o.problem.family == "chain" and o.first_pass_right is not None]
    return RepairShares(
        rescued=float(np.mean([not o.first_pass_right and o.grade.correct for o in chains])),
        spoiled=float(np.mean([bool(o.first_pass_right) and not o.grade.correct for o in chains])),
        hidden=float(np.mean([o.passes > o.exit_step for o in chains])),
    )
