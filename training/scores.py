"""What many answers to the same questions amount to, for one model and against another."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


class Answered(Protocol):
    """Answers to questions; arrays have shape ``(questions,)`` or ``(questions, samples)``."""

    @property
    def correct(self) -> np.ndarray:
        """1.0 where the answer is right."""
        ...

    @property
    def tokens(self) -> np.ndarray:
        """Completion tokens, thinking included."""
        ...

    @property
    def steps(self) -> np.ndarray:
        """Semantic steps."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers to a benchmark; arrays have shape ``(questions, samples)``.

    ``difficulty`` is per question; ``exits`` and ``exit_steps`` say per answer why and at which step thinking ended (0:
    there was none).
    """

    model: str
    benchmark: str
    correct: np.ndarray
    tokens: np.ndarray
    steps: np.ndarray
    difficulty: tuple[str, ...]
    exits: tuple[tuple[str, ...], ...]
    exit_steps: np.ndarray

    @property
    def samples(self) -> int:
        """Answers a question."""
        return int(self.correct.shape[1])

    @property
    def exit_shares(self) -> dict[str, float]:
        """Share of the answers that ended thinking for each reason."""
        return shares([reason for row in self.exits for reason in row])


@dataclass(frozen=True, slots=True)
class Pool:
    """Several measurements as one."""

    correct: np.ndarray
    tokens: np.ndarray
    steps: np.ndarray


def runs_of_a_question(runs: Sequence[Answered]) -> Pool:
    """Runs that answered the same questions once each, as samples; shape ``(questions, runs)``."""
    return _pool(lambda arrays: np.stack(arrays, axis=1), runs)


def all_questions(parts: Sequence[Answered]) -> Pool:
    """The questions of all parts, one part after the other."""
    return _pool(np.concatenate, parts)


def _pool(combine: Callable[[list[np.ndarray]], np.ndarray], parts: Sequence[Answered]) -> Pool:
    return Pool(
        combine([part.correct for part in parts]),
        combine([part.tokens for part in parts]),
        combine([part.steps for part in parts]),
    )


def average_at_k(answers: Answers) -> float:
    """Mean accuracy over questions and their samples (avg@k)."""
    return float(answers.correct.mean())


def pass_at_k(answers: Answers, k: int) -> float:
    """Chance that one of ``k`` samples is right, estimated without bias from all of them.

    Raises:
        ValueError: fewer than ``k`` samples.
    """
    count = answers.samples
    if not 1 <= k <= count:
        raise ValueError(f"pass@{k} needs at least {k} samples a question; there are {count}")
    right = answers.correct.sum(axis=1).astype(int)
    return float(np.mean([1 - math.comb(count - c, k) / math.comb(count, k) for c in right.tolist()]))


@dataclass(frozen=True, slots=True)
class Against:
    """A model against a reference on the same questions, with 95 % intervals of a paired bootstrap over questions.

    ``compression_rate`` is mean tokens over the reference's, ``savings_ratio`` the rest to one. ``efficiency_score``
    adds the share of tokens saved to three times the relative gain of accuracy, or takes five times its loss off
    (arXiv 2501.12570); over a reference that is never right, no gain is counted.
    """

    accuracy_difference: Interval
    savings_ratio: Interval
    compression_rate: Interval
    efficiency_score: Interval


def against(reference: Answered, model: Answered, *, resamples: int = 10_000, seed: int = 0) -> Against:
    """Compare in pairs. What a question has several answers to is averaged first: questions are resampled, whole.

    Raises:
        ValueError: they did not answer the same questions.
    """
    count = len(model.correct)
    if len(reference.correct) != count:
        raise ValueError("a paired comparison needs the same questions in the same order")
    picks = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    picks = np.concatenate([np.arange(count)[None, :], picks])  # the first is the estimate itself

    def resampled(values: np.ndarray) -> np.ndarray:
        return np.asarray(values.reshape(count, -1).mean(axis=1)[picks].mean(axis=1))

    accuracy, base_accuracy = resampled(model.correct), resampled(reference.correct)
    rate = resampled(model.tokens) / resampled(reference.tokens)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(base_accuracy > 0, (accuracy - base_accuracy) / base_accuracy, 0.0)
    score = 1 - rate + np.where(gain >= 0, 3 * gain, 5 * gain)
    return Against(_interval(accuracy - base_accuracy), _interval(1 - rate), _interval(rate), _interval(score))


def shares(labels: Sequence[str]) -> dict[str, float]:
    """How often each label is there, the most frequent first."""
    return {label: count / len(labels) for label, count in Counter(labels).most_common()}


@dataclass(frozen=True, slots=True)
class Level:
    """Answers to the questions of one difficulty: how many questions, and means over their answers."""

    questions: int
    accuracy: float
    tokens: float
    steps: float


def by_difficulty(answers: Answered, labels: Sequence[str]) -> dict[str, Level]:
    """The levels among the questions' labels, in alphabetical order, numbers by their size."""
    found = {}
    for label in sorted(set(labels), key=_natural):
        chosen = np.array(labels) == label
        means = (float(values[chosen].mean()) for values in (answers.correct, answers.tokens, answers.steps))
        found[label] = Level(int(chosen.sum()), *means)
    return found


def _natural(label: str) -> list[tuple[int, str]]:
    return [(int(number or 0), text) for number, text in re.findall(r"(\d+)|(\D+)", label)]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (accuracy, tokens) points, which none beats in one and equals or beats in the other."""
    return [
        not any(a >= accuracy and t <= tokens and (a, t) != (accuracy, tokens) for a, t in points)
        for accuracy, tokens in points
    ]


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))
