"""What many answers to the same questions amount to, for one model and against another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation import Interval


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers to a benchmark; arrays have shape ``(questions, samples)``.

    ``difficulty`` and ``exits`` are per question and per answer.
    """

    model: str
    benchmark: str
    correct: np.ndarray
    tokens: np.ndarray
    steps: np.ndarray
    difficulty: tuple[str, ...]
    exits: tuple[tuple[str, ...], ...]

    @property
    def samples(self) -> int:
        """Answers a question."""
        return int(self.correct.shape[1])

    @property
    def exit_shares(self) -> dict[str, float]:
        """Share of the answers that ended thinking for each reason."""
        flat = [reason for row in self.exits for reason in row]
        return {reason: flat.count(reason) / len(flat) for reason in sorted(set(flat))}


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

    ``compression_rate`` is mean tokens over the reference's. ``efficiency_score`` adds the share of tokens saved to
    three times the relative gain of accuracy, or takes five times its loss off (arXiv 2501.12570).
    """

    accuracy_difference: Interval
    compression_rate: Interval
    efficiency_score: Interval


def against(reference: Answers, model: Answers, *, resamples: int = 10_000, seed: int = 0) -> Against:
    """Compare in pairs.

    Raises:
        ValueError: they did not answer the same questions.
    """
    if len(reference.correct) != len(model.correct) or reference.benchmark != model.benchmark:
        raise ValueError("a paired comparison needs the same questions in the same order")
    count = len(model.correct)
    picks = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    picks = np.concatenate([np.arange(count)[None, :], picks])  # the first is the estimate itself
    accuracy, base_accuracy = (one.correct.mean(axis=1)[picks].mean(axis=1) for one in (model, reference))
    tokens, base_tokens = (one.tokens.mean(axis=1)[picks].mean(axis=1) for one in (model, reference))
    rate = tokens / base_tokens
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(base_accuracy > 0, (accuracy - base_accuracy) / base_accuracy, 0.0)
    score = 1 - rate + np.where(gain >= 0, 3 * gain, 5 * gain)
    return Against(_interval(accuracy - base_accuracy), _interval(rate), _interval(score))


def by_difficulty(answers: Answers) -> dict[str, tuple[int, float, float]]:
    """Questions, accuracy and mean tokens of each difficulty."""
    found = {}
    labels = np.array(answers.difficulty)
    for label in sorted(set(answers.difficulty)):
        chosen = labels == label
        found[label] = (int(chosen.sum()), float(answers.correct[chosen].mean()), float(answers.tokens[chosen].mean()))
    return found


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (accuracy, tokens) points, which none beats in one and equals or beats in the other."""
    return [
        not any(a >= accuracy and t <= tokens and (a, t) != (accuracy, tokens) for a, t in points)
        for accuracy, tokens in points
    ]


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high))
