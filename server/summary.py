"""Running totals per model since the start, for ``GET /v1/efficiency``."""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel

from reasoning import EXIT_REASONS, ExitReason, Trace
from server.savings import Baseline, Source


class TokensPerAnswer(BaseModel):
    """Mean tokens of the finished answers; null before the first."""

    completion: float | None
    reasoning: float | None
    answer: float | None


class Savings(BaseModel):
    """Tokens used against the base model's, over the answers whose baseline has this source."""

    answers: int
    actual_tokens: int
    baseline_tokens: float | None
    tokens_saved: float | None
    savings_ratio: float | None


class ModelEfficiency(BaseModel):
    """One served model: what was asked of it and what its answers took. Means are over finished answers."""

    model: str
    requests: int
    answers: int
    tokens_per_answer: TokensPerAnswer
    steps_per_answer: float | None
    exits: dict[ExitReason, int]
    savings: dict[Source, Savings]


@dataclass(slots=True)
class _Comparison:
    answers: int = 0
    actual: int = 0
    baseline: float = 0.0


@dataclass(slots=True)
class _Totals:
    requests: int = 0
    answers: int = 0
    completion: int = 0
    reasoning: int = 0
    steps: int = 0
    exits: Counter[ExitReason] = field(default_factory=Counter)
    comparisons: dict[Source, _Comparison] = field(default_factory=dict)


class EfficiencySummary:
    """Adds up what every served model did."""

    def __init__(self) -> None:
        self._totals: dict[str, _Totals] = {}

    def add_model(self, model: str, baseline: Baseline) -> None:
        """Begin a served model's totals."""
        self._totals[model] = _Totals(comparisons={baseline.source: _Comparison()})

    def requested(self, model: str) -> None:
        """Count a request that the engine took on."""
        self._totals[model].requests += 1

    def finished(self, model: str, trace: Trace, baseline: Baseline) -> None:
        """Count an answer that came to its end."""
        totals = self._totals[model]
        totals.answers += 1
        totals.completion += trace.completion_tokens
        totals.reasoning += trace.exit.reasoning_tokens
        totals.steps += len(trace.steps)
        totals.exits[trace.exit.reason] += 1
        comparison = totals.comparisons.setdefault(baseline.source, _Comparison())
        comparison.answers += 1
        comparison.actual += trace.completion_tokens
        comparison.baseline += baseline.completion_tokens(trace.completion_tokens) or 0.0

    def aborted(self, model: str) -> None:
        """Count a choice that did not come to its end."""
        self._totals[model].exits["abort"] += 1

    def models(self) -> list[ModelEfficiency]:
        """The totals of every served model."""
        return [_efficiency(model, totals) for model, totals in self._totals.items()]


def _efficiency(model: str, totals: _Totals) -> ModelEfficiency:
    def mean(total: int) -> float | None:
        return round(total / totals.answers, 3) if totals.answers else None

    return ModelEfficiency(
        model=model,
        requests=totals.requests,
        answers=totals.answers,
        tokens_per_answer=TokensPerAnswer(
            completion=mean(totals.completion),
            reasoning=mean(totals.reasoning),
            answer=mean(totals.completion - totals.reasoning),
        ),
        steps_per_answer=mean(totals.steps),
        exits={reason: totals.exits[reason] for reason in EXIT_REASONS},
        savings={source: _savings(source, compared) for source, compared in totals.comparisons.items()},
    )


def _savings(source: Source, compared: _Comparison) -> Savings:
    known = source != "none"
    return Savings(
        answers=compared.answers,
        actual_tokens=compared.actual,
        baseline_tokens=round(compared.baseline, 1) if known else None,
        tokens_saved=round(compared.baseline - compared.actual, 1) if known else None,
        savings_ratio=round(1 - compared.actual / compared.baseline, 4) if compared.baseline else None,
    )
