"""The interval of savings that were measured on pairs of answers to the same question."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

LEAST_PAIRS: Final = 20
"""Below, no interval is given."""
CONFIDENCE: Final = 0.95


@dataclass(slots=True)
class PairedTokens:
    """Sums over pairs of an answer's tokens and those of the base model's answer to the same question."""

    pairs: int = 0
    actual: float = 0.0
    baseline: float = 0.0
    actual_squares: float = 0.0
    baseline_squares: float = 0.0
    products: float = 0.0

    def add(self, actual: float, baseline: float) -> None:
        """Count a pair."""
        self.pairs += 1
        self.actual += actual
        self.baseline += baseline
        self.actual_squares += actual * actual
        self.baseline_squares += baseline * baseline
        self.products += actual * baseline

    @property
    def savings_ratio(self) -> float | None:
        """One less the ratio of the means; None without any tokens of the base model."""
        return 1 - self.actual / self.baseline if self.baseline else None

    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the savings ratio; None where the pairs are too few to bound it.

        Fieller's interval for a ratio of means: the ratios ``r`` at which the paired differences ``actual - r *
        baseline`` have a mean that Student's t test does not tell from zero. Unlike one by the delta method it keeps
        its coverage where a few answers are very long. Source: E. C. Fieller, "Some problems in interval estimation",
        Journal of the Royal Statistical Society B 16 (1954), 175-185.
        """
        if self.pairs < LEAST_PAIRS:
            return None
        n = self.pairs
        actual, baseline = self.actual / n, self.baseline / n
        scale = _student(n - 1) ** 2 / (n * (n - 1))
        a = baseline**2 - scale * (self.baseline_squares - n * baseline**2)
        b = actual * baseline - scale * (self.products - n * actual * baseline)
        c = actual**2 - scale * (self.actual_squares - n * actual**2)
        root = b * b - a * c
        if a <= 0 or root < 0:
            return None
        half = math.sqrt(root)
        return 1 - (b + half) / a, 1 - (b - half) / a


def _student(freedom: int) -> float:
    """Upper quantile of Student's t, to 1e-4 from 19 degrees of freedom on (Cornish and Fisher's expansion)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
