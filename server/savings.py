"""Against what savings are measured. Every figure says its source; without one there are no savings to report."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from reasoning import StepGrpoCard

Source = Literal["calibrated", "shadow", "none"]
"""``calibrated``: by the checkpoint's own paired calibration. ``shadow``: by live replays. ``none``: not known."""

SOURCES: Final[tuple[Source, ...]] = get_args(Source)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of the base model's tokens.

    Attributes:
        source: how it is known.
        savings_ratio: share of the base model's completion tokens that the checkpoint saves on average (ratio of
            means); may be negative. None without a calibration.
        mean_completion_tokens: the base model's mean on the calibration questions.
        ci95: 95 % interval of the savings ratio, by the calibration.
    """

    source: Source = "none"
    savings_ratio: float | None = None
    mean_completion_tokens: float | None = None
    ci95: tuple[float, float] | None = None

    def completion_tokens(self, actual: int) -> float | None:
        """Tokens that the base model would have used, on average, where this checkpoint used ``actual``."""
        return None if self.savings_ratio is None else actual / (1 - self.savings_ratio)


def baseline_of(card: StepGrpoCard | None) -> Baseline:
    """The baseline that a checkpoint's card supports."""
    if card is None or card.calibration is None:
        return Baseline()
    calibration = card.calibration
    ratio = calibration.savings_ratio
    return Baseline("calibrated", ratio.mean, calibration.base.completion_tokens.mean, ratio.ci95)
