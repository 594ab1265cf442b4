"""The efficiency report of one choice, as clients see it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from reasoning import ExitReason, Trace
from server.savings import Baseline

Source = Literal["calibrated", "shadow", "none"]


class ExitReport(BaseModel):
    """How thinking ended: why, after which step (1-based) and after how many reasoning tokens."""

    model_config = ConfigDict(frozen=True)

    reason: ExitReason
    step: int
    reasoning_tokens: int


class TokenReport(BaseModel):
    """Tokens of one choice; ``completion`` is ``reasoning`` plus ``answer``."""

    model_config = ConfigDict(frozen=True)

    reasoning: int
    answer: int
    completion: int


class BaselineReport(BaseModel):
    """What the base model would have used for this answer, and how that is known."""

    model_config = ConfigDict(frozen=True)

    source: Source
    completion_tokens: float | None


class EfficiencyReport(BaseModel):
    """``choices[i].reasoning_efficiency``: steps, exit, tokens and savings of one choice.

    ``tokens_saved`` and ``savings_ratio`` are null where no baseline is known.
    """

    model_config = ConfigDict(frozen=True)

    steps: int
    exit: ExitReport
    tokens: TokenReport
    baseline: BaselineReport
    tokens_saved: float | None
    savings_ratio: float | None


def report_of(trace: Trace, baseline: Baseline) -> EfficiencyReport:
    """Put together the report of a finished choice."""
    completion = trace.completion_tokens
    expected = baseline.completion_tokens(completion)
    return EfficiencyReport(
        steps=len(trace.steps),
        exit=ExitReport(reason=trace.exit.reason, step=trace.exit.step, reasoning_tokens=trace.exit.reasoning_tokens),
        tokens=TokenReport(reasoning=trace.exit.reasoning_tokens, answer=trace.answer_tokens, completion=completion),
        baseline=BaselineReport(source=baseline.source, completion_tokens=expected and round(expected, 1)),
        tokens_saved=None if expected is None else round(expected - completion, 1),
        savings_ratio=baseline.savings_ratio,
    )
