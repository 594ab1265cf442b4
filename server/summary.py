"""Running totals per model since the start, for ``GET /v1/efficiency``."""

from collections import Counter
from dataclasses import dataclass, field

from pydantic import BaseModel

from reasoning import EXIT_REASONS, Trace
from server.savings import Baseline


class ModelEfficiency(BaseModel):
    """Means per answer and totals of one served model; means are null before the first answer."""

    model: str
    choices: int
    completion_tokens: float | None
    reasoning_tokens: float | None
    steps: float | None
    exits: dict[str, int]
    baseline_source: str
    tokens_saved: float | None
    savings_ratio: float | None


@dataclass(slots=True)
class _Totals:
    choices: int = 0
    completion: int = 0
    reasoning: int = 0
    steps: int = 0
    exits: Counter[str] = field(default_factory=Counter)


class EfficiencySummary:
    """Adds up finished choices per model."""

    def __init__(self, models: tuple[str, ...], baseline: Baseline) -> None:
        self._totals = {model: _Totals() for model in models}
        self._baseline = baseline

    def add(self, model: str, trace: Trace) -> None:
        """Count one finished choice."""
        totals = self._totals[model]
        totals.choices += 1
        totals.completion += trace.completion_tokens
        totals.reasoning += trace.exit.reasoning_tokens
        totals.steps += len(trace.steps)
        totals.exits[trace.exit.reason] += 1

    def models(self) -> list[ModelEfficiency]:
        """The summary of every served model."""
        return [self._of(model, totals) for model, totals in self._totals.items()]

    def _of(self, model: str, totals: _Totals) -> ModelEfficiency:
        count = totals.choices
        expected = self._baseline.completion_tokens(totals.completion)
        return ModelEfficiency(
            model=model,
            choices=count,
            completion_tokens=totals.completion / count if count else None,
            reasoning_tokens=totals.reasoning / count if count else None,
            steps=totals.steps / count if count else None,
            exits={reason: totals.exits[reason] for reason in EXIT_REASONS},
            baseline_source=self._baseline.source,
            tokens_saved=None if expected is None else round(expected - totals.completion, 1),
            savings_ratio=self._baseline.savings_ratio,
        )
