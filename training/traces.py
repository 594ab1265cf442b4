"""Reasoning traces that overthink, written for the problems of :mod:`training.problems`.

The traces are what the base model imitates. They hold three behaviours that a real reasoning model shows and that a
post-training method has to tell apart: steps that are needed (candidates of a search, checks of a first pass that fell
short or went wrong), steps that are redundant (re-checks of a right answer), and a few that do harm (a check that
spoils a right answer). A marker opens every step after the first.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from training.problems import MONTHS, Operation, Problem

MARKERS = ("Wait", "Alternatively")
CONFUSED = {"*": "+", "/": "-"}


@dataclass(frozen=True, slots=True)
class Habits:
    """Whether a first pass reads a chain whole, and how often (all probabilities) traces err, check and overthink."""

    reads_whole: bool = False
    first_pass_slip: float = 0.15
    check_slip: float = 0.05
    false_accept: float = 0.05
    false_reject: float = 0.01
    overlook: float = 0.03
    redundant: tuple[float, ...] = (0.15, 0.2, 0.25, 0.2, 0.2)


DRILL = Habits(
    reads_whole=True,
    first_pass_slip=0,
    check_slip=0,
    false_accept=0,
    false_reject=0,
    overlook=0,
    redundant=(1.0,),
)
"""Plain solutions: a chain is read whole at once; every step is right and needed."""


@dataclass(frozen=True, slots=True)
class WrittenTrace:
    """The steps of one thinking block (each but the first opens with a marker) and the answer it ends with."""

    steps: tuple[str, ...]
    answer: str
    beliefs: tuple[str | None, ...]

    @property
    def thinking(self) -> str:
        """The text between the think tags, without the line breaks that border it."""
        return "\n".join(self.steps)


def write_trace(problem: Problem, rng: random.Random, habits: Habits) -> WrittenTrace:
    """Write one trace; ``beliefs[i]`` is the answer held after step i (None where the search goes on)."""
    return _write_chain(problem, rng, habits) if problem.family == "chain" else _write_search(problem, rng, habits)


def answer_text(answer: str) -> str:
    """What stands after the thinking block."""
    return f"The answer is \\boxed{{{answer}}}."


def _write_chain(problem: Problem, rng: random.Random, habits: Habits) -> WrittenTrace:
    read = problem.operations if habits.reads_whole else problem.operations[: problem.first_pass]
    first, belief = _chain_pass(problem, read, rng, habits.first_pass_slip)
    steps, beliefs = [f"{first}. So {belief}."], [belief]
    redundant = rng.choices(range(len(habits.redundant)), habits.redundant)[0]
    while redundant > 0 if belief == problem.answer else rng.random() >= habits.overlook:
        redundant -= belief == problem.answer
        text, value = _chain_pass(problem, problem.operations, rng, habits.check_slip)
        verdict = f"It is {value}." if value == belief else f"It is {value}, not {belief}."
        opening = rng.choice(("Wait, check it: ", "Alternatively, again: "))
        belief = value
        steps.append(f"{opening}{text}. {verdict}")
        beliefs.append(belief)
    return WrittenTrace(tuple(steps), belief, tuple(beliefs))


def _chain_pass(problem: Problem, operations: Sequence[Operation], rng: random.Random, slip: float) -> tuple[str, str]:
    """One pass over some operations, and its result; a slip adds instead of multiplying or subtracts for dividing."""
    parts: list[str] = []
    value = problem.start
    for month, operation in zip(MONTHS, operations, strict=False):
        applied = operation
        if operation.symbol in CONFUSED and rng.random() < slip:
            applied = Operation(CONFUSED[operation.symbol], operation.operand)
        result = applied.apply(value)
        if result is None:
            applied = operation
            result = operation.apply(value)
        if result is None:
            return ", ".join(parts), str(value)
        parts.append(f"{month} {applied.operand}: {value} {applied.symbol} {applied.operand} = {result}")
        value = result
    return ", ".join(parts), str(value)


def _write_search(problem: Problem, rng: random.Random, habits: Habits) -> WrittenTrace:
    steps: list[str] = []
    beliefs: list[str | None] = []
    at, belief = 0, None
    redundant = rng.choices(range(len(habits.redundant)), habits.redundant)[0]
    while belief is None or (redundant > 0 if belief == problem.answer else rng.random() >= habits.overlook):
        opening = rng.choice(("Wait, ", "Alternatively, ")) if steps else ""
        candidate = problem.candidates[at]
        if belief is None:
            accept = candidate.remainder == 0 or rng.random() < habits.false_accept
            seen = 0 if accept else candidate.remainder
            belief = candidate.answer if accept else None
            steps.append(f"{opening}{candidate.guess} leaves {seen}." + (f" So {belief}." if accept else ""))
            at += not accept
        else:
            redundant -= belief == problem.answer
            fits = candidate.remainder == 0
            confirm = fits and rng.random() >= habits.false_reject
            seen = candidate.remainder + (fits and not confirm)
            verdict = f"Yes, {belief}." if confirm else "No."
            steps.append(f"{opening}check {candidate.guess} leaves {seen}. {verdict}")
            belief = belief if confirm else None
            at += not fits
        beliefs.append(belief)
    return WrittenTrace(tuple(steps), belief, tuple(beliefs))
