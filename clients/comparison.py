"""Paired answers of two models, and what they say about tokens and accuracy."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, Literal

from math_verify import parse, verify

RESAMPLES: Final = 2000

Side = Literal["base", "tuned"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One model's answer to a question; steps and exit are None from servers that do not report them.

    ``correct`` is None where the right answer is not known.
    """

    tokens: int
    steps: int | None
    exit_reason: str | None
    correct: bool | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Both models' answers to a question."""

    question: str
    base: Measured
    tuned: Measured


@dataclass(frozen=True, slots=True)
class Failed:
    """A question that one of the two did not answer, and why."""

    question: str
    error: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval over questions like these."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class Comparison:
    """Two models on the same questions.

    Attributes:
        base: served name of the base model.
        tuned: served name of the tuned one.
        pairs: questions that both answered.
        failures: the others.
    """

    base: str
    tuned: str
    pairs: list[Pair] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)

    def savings(self) -> Estimate:
        """The tuned model's saved share of the base model's tokens, a ratio of means."""
        return bootstrap(self.pairs, lambda pairs: 1 - _mean_tokens(pairs, "tuned") / _mean_tokens(pairs, "base"))

    def accuracy_gain(self) -> Estimate | None:
        """Accuracy of the tuned model less that of the base; None where no right answers are known."""
        judged = [pair for pair in self.pairs if pair.base.correct is not None]
        if not judged:
            return None
        return bootstrap(
            judged, lambda pairs: fmean(bool(pair.tuned.correct) - bool(pair.base.correct) for pair in pairs)
        )

    def mean(self, side: Side, what: Literal["tokens", "steps", "correct"]) -> float | None:
        """Mean of one side over the pairs where it is known."""
        values = [value for pair in self.pairs if (value := getattr(getattr(pair, side), what)) is not None]
        return fmean(values) if values else None

    def verdict(self) -> str:
        """The result in one or two sentences."""
        saved = self.savings()
        text = (
            f"{self.tuned} saves {saved.value:.1%} of the tokens of {self.base}"
            f" (95 % interval {saved.low:.1%} to {saved.high:.1%}, {len(self.pairs)} questions)."
        )
        gain = self.accuracy_gain()
        if gain is not None:
            text += (
                f" Its accuracy differs by {100 * gain.value:+.1f} points"
                f" (95 % interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
            )
        return text


def _mean_tokens(pairs: Sequence[Pair], side: Side) -> float:
    return fmean(getattr(pair, side).tokens for pair in pairs)


def bootstrap(
    pairs: Sequence[Pair], statistic: Callable[[Sequence[Pair]], float], resamples: int = RESAMPLES
) -> Estimate:
    """A statistic of pairs with its percentile interval: whole pairs are drawn, so what they share cancels out."""
    rng = random.Random(0)
    drawn = sorted(statistic(rng.choices(pairs, k=len(pairs))) for _ in range(resamples))
    return Estimate(statistic(pairs), drawn[int(0.025 * resamples)], drawn[int(0.975 * resamples)])


def judge(text: str, right: str) -> bool:
    """Whether an answer's last formula or number equals the right one, as mathematics."""
    return bool(verify(parse(f"${right}$"), parse(text)))
