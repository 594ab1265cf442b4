"""Against what savings are measured. Every figure says its source; without one there are no savings to report."""

from dataclasses import dataclass
from typing import Literal

from reasoning import StepGrpoCard


@dataclass(frozen=True, slots=True)
class Baseline:
    """The base model's tokens, as known from the checkpoint's own paired calibration.

    Attributes:
        source: ``calibrated``, or ``none`` where the checkpoint brings no calibration.
        savings_ratio: mean share of completion tokens saved against the base; may be negative.
        mean_completion_tokens: the base model's mean on the calibration questions.
    """

    source: Literal["calibrated", "none"] = "none"
    savings_ratio: float | None = None
    mean_completion_tokens: float | None = None

    def completion_tokens(self, actual: int) -> float | None:
        """Tokens that the base model would have used where this checkpoint used ``actual``."""
        return None if self.savings_ratio is None else actual / (1 - self.savings_ratio)


def baseline_of(card: StepGrpoCard | None) -> Baseline:
    """The baseline that a checkpoint's card supports."""
    if card is None or card.calibration is None:
        return Baseline()
    calibration = card.calibration
    return Baseline("calibrated", calibration.savings_ratio.mean, calibration.base.completion_tokens.mean)
