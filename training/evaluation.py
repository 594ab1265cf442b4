"""Plain decoding of checkpoints on the same questions, and what it shows. No probe, no forced exit."""

import re
from collections.abc import Callable, Sequence
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
from training.scores import Against, against

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
        """Step after which thinking ended; 0 without any."""
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
        """Tokens that were decoded, those of trial answers included; shape ``(questions,)``."""
        return np.array([float(outcome.tokens + outcome.probe_tokens) for outcome in self.outcomes])

    @property
    def steps(self) -> np.ndarray:
        """Semantic steps; shape ``(questions,)``."""
        return np.array([float(outcome.grade.steps) for outcome in self.outcomes])

    @property
    def exits(self) -> list[str]:
        """Why thinking ended, for each question."""
        return [outcome.grade.trace.exit.reason for outcome in self.outcomes]

    @property
    def difficulty(self) -> list[str]:
        """What each question asks for."""
        return [difficulty(outcome.problem) for outcome in self.outcomes]


def difficulty(problem: Problem) -> str:
    """What a question asks for: a chain of so many operations, or so many steps of guess and check."""
    if problem.family == "chain":
        return f"chain of {problem.difficulty}"
    return f"guess and check, {problem.difficulty} needed"


def measure(
    recipe: Recipe,
    model: str | Path,
    questions: Sequence[Problem],
    samplings: Sequence[Sampling],
    rollouts: RolloutPolicy = plain_rollouts,
    *,
    seed: int = 0,
    on_answer: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """Answer every question once with each way of sampling; ``rollouts`` other than plain ones only where asked for.

    ``on_answer`` is called with each answer that comes.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    engine = open_engine(recipe, model)
    try:
        prompts = [chat_tokens(tokenizer, problem.question + recipe.data.suffix) for problem in questions]
        measured = []
        for sampling in samplings:
            context = RolloutContext(engine, tokenizer, exit_policy(recipe), sampling, on_rollout=on_answer)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                outcomes = zip(questions, rollouts(context, prompts), strict=True)
            graded = tuple(_outcome(recipe, tokenizer.eos_token_id, problem, one) for problem, one in outcomes)
            measured.append(Measured(Path(model).name, sampling, graded))
        return measured
    finally:
        engine.close()


def _outcome(recipe: Recipe, end: int, problem: Problem, rollout: Rollout) -> Outcome:
    finish = "stop" if rollout.completion_ids[-1:] == [end] else "length"
    graded = grade(
        rollout.text,
        problem.answer,
        recipe.markers,
        finish_reason=finish,
        think=recipe.model.think,
        inside=recipe.model.thinking_in_prompt,
    )
    return Outcome(problem, graded, len(rollout.completion_ids), rollout.probe_tokens)


def compare(base: Measured, tuned: Measured, *, resamples: int = 10_000, seed: int = 0) -> Against:
    """Tuned against base on the same questions, in pairs.

    Raises:
        ValueError: the questions differ.
    """
    if [o.problem.question for o in base.outcomes] != [o.problem.question for o in tuned.outcomes]:
        raise ValueError("a paired comparison needs the same questions in the same order")
    return against(base, tuned, resamples=resamples, seed=seed)


@dataclass(frozen=True, slots=True)
class Adaptivity:
    """Whether exits follow what a guess-and-check question needs.

    ``rank_correlation`` (Spearman) is between needed and exit step; ``before``, ``at`` and ``after`` are shares of the
    exits against the needed step. NaN where there is nothing to relate.
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
    varied = len(set(needed)) > 1 and len(set(exits)) > 1
    return Adaptivity(
        rank_correlation=float(spearmanr(needed, exits).statistic) if varied else float("nan"),
        before=_share(exits < needed),
        at=_share(exits == needed),
        after=_share(exits > needed),
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
        after_right=_share(right),
        after_wrong=_share(wrong),
        right=len(right),
        wrong=len(wrong),
    )


@dataclass(frozen=True, slots=True)
class RepairShares:
    """Shares of chains with a wrong first pass and a right answer (rescued), and the reverse (spoiled).

    ``hidden``: with more passes over the operations than steps, so checked without a marker that would count. All are
    NaN where there is no chain with a first pass.
    """

    rescued: float
    spoiled: float
    hidden: float


def repair_shares(measured: Measured) -> RepairShares:
    """What the steps after the first pass did to the answers of chains."""
    chains = [o for o in measured.outcomes if o.problem.family == "chain" and o.first_pass_right is not None]
    return RepairShares(
        rescued=_share([not o.first_pass_right and o.grade.correct for o in chains]),
        spoiled=_share([bool(o.first_pass_right) and not o.grade.correct for o in chains]),
        hidden=_share([o.passes > o.exit_step for o in chains]),
    )


def _share(found: Sequence[bool] | np.ndarray) -> float:
    """Of those that are true; NaN of none."""
    return float(np.mean(found)) if len(found) else float("nan")
