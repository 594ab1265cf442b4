"""What each served model did, since the start or in a window of time, for ``GET /v1/efficiency``."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from pydantic import BaseModel

from reasoning import EXIT_REASONS, ExitReason, Trace
from server.intervals import PairedTokens
from server.savings import Baseline, Source

KEPT: Final = 20_000
"""Events of a model that are kept for windows and percentiles: the latest ones."""


class TokensPerAnswer(BaseModel):
    """Mean tokens of the finished answers; null before the first."""

    completion: float | None
    reasoning: float | None
    answer: float | None


class Distribution(BaseModel):
    """Of one quantity over finished answers; null before the first. Percentiles are values that occurred."""

    mean: float | None
    p50: int | None
    p90: int | None
    p99: int | None


class PerAnswer(BaseModel):
    """How the finished answers were spread; since the start, percentiles are those of the latest answers."""

    completion_tokens: Distribution
    reasoning_tokens: Distribution
    answer_tokens: Distribution
    reasoning_steps: Distribution


class Savings(BaseModel):
    """Tokens used against the base model's, over the answers whose baseline has this source.

    ``ci95`` is the 95 % interval of ``savings_ratio``: for ``calibrated`` the calibration's own, for ``shadow`` that of
    the pairs; null where it is not known.
    """

    answers: int
    actual_tokens: int
    baseline_tokens: float | None
    tokens_saved: float | None
    savings_ratio: float | None
    ci95: tuple[float, float] | None


class ModelEfficiency(BaseModel):
    """One served model: what was asked of it and what its answers took. Means are over finished answers.

    ``seconds`` is the time that the figures cover: less than the window where the server is younger, or where more
    happened in the window than is kept.
    """

    model: str
    seconds: float
    requests: int
    choices: int
    answers: int
    tokens_per_answer: TokensPerAnswer
    steps_per_answer: float | None
    per_answer: PerAnswer
    exits: dict[ExitReason, int]
    savings: dict[Source, Savings]


class _Requested(NamedTuple):
    at: float


class _Aborted(NamedTuple):
    at: float


class _Compared(NamedTuple):
    at: float
    actual: int
    baseline: int


class _Finished(NamedTuple):
    at: float
    completion: int
    reasoning: int
    steps: int
    reason: ExitReason
    baseline: Baseline

    @property
    def answer(self) -> int:
        return self.completion - self.reasoning


_Event = _Requested | _Aborted | _Compared | _Finished


@dataclass(slots=True)
class _Totals:
    requests: int = 0
    answers: int = 0
    completion: int = 0
    reasoning: int = 0
    steps: int = 0
    exits: Counter[ExitReason] = field(default_factory=Counter)
    estimated: PairedTokens = field(default_factory=PairedTokens)
    shadowed: PairedTokens = field(default_factory=PairedTokens)

    def add(self, event: _Event) -> None:
        match event:
            case _Requested():
                self.requests += 1
            case _Aborted():
                self.exits["abort"] += 1
            case _Compared():
                self.shadowed.add(event.actual, event.baseline)
            case _Finished():
                self.answers += 1
                self.completion += event.completion
                self.reasoning += event.reasoning
                self.steps += event.steps
                self.exits[event.reason] += 1
                self.estimated.add(event.completion, event.baseline.completion_tokens(event.completion) or 0.0)


@dataclass(slots=True)
class _History:
    baseline: Baseline
    began: float
    totals: _Totals = field(default_factory=_Totals)
    kept: deque[_Event] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, event: _Event) -> None:
        self.totals.add(event)
        self.kept.append(event)

    def copy(self) -> "_History":
        return replace(self, totals=deepcopy(self.totals), kept=self.kept.copy())


class EfficiencySummary:
    """Adds up what every served model did.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._models: dict[str, _History] = {}

    def add_model(self, model: str, baseline: Baseline) -> None:
        """Begin a served model's totals."""
        self._models[model] = _History(baseline, self._clock())

    def remove_model(self, model: str) -> None:
        """End a model's totals; what still comes of it is counted nowhere."""
        del self._models[model]

    def requested(self, model: str) -> None:
        """Count a request that the engine took on."""
        self._add(model, _Requested(self._clock()))

    def finished(self, model: str, trace: Trace, baseline: Baseline) -> None:
        """Count an answer that came to its end."""
        tokens, end = trace.completion_tokens, trace.exit
        self._add(model, _Finished(self._clock(), tokens, end.reasoning_tokens, len(trace.steps), end.reason, baseline))

    def aborted(self, model: str) -> None:
        """Count a choice that did not come to its end."""
        self._add(model, _Aborted(self._clock()))

    def compared(self, model: str, actual: int, baseline: int) -> None:
        """Count an answer that the base model has answered, too, by the completion tokens of both."""
        self._add(model, _Compared(self._clock(), actual, baseline))

    def _add(self, model: str, event: _Event) -> None:
        if model in self._models:
            self._models[model].add(event)

    def models(self, window: float | None = None, model: str | None = None) -> list[ModelEfficiency]:
        """What every served model did, or the named one.

        Args:
            window: over the last so many seconds; None since the start.
            model: a served name; others give an empty list.
        """
        return self.snapshot(window, model)()

    def snapshot(self, window: float | None, model: str | None) -> Callable[[], list[ModelEfficiency]]:
        """As :meth:`models`, in two parts: this copies what is there, and what it returns adds up, in any thread."""
        now = self._clock()
        histories = {name: history.copy() for name, history in self._models.items() if model in (None, name)}
        return lambda: [_efficiency(name, history, now, window) for name, history in histories.items()]


def _efficiency(model: str, history: _History, now: float, window: float | None) -> ModelEfficiency:
    kept: Sequence[_Event] = history.kept
    totals, since = history.totals, history.began
    if window is not None:
        oldest = kept[0].at if len(kept) == KEPT else history.began
        since = max(now - window, oldest)
        kept = [event for event in kept if event.at >= since]
        totals = _Totals()
        for event in kept:
            totals.add(event)
    answers = [event for event in kept if isinstance(event, _Finished)]

    def mean(total: int) -> float | None:
        return round(total / totals.answers, 3) if totals.answers else None

    answered = totals.completion - totals.reasoning
    return ModelEfficiency(
        model=model,
        seconds=round(now - since, 3),
        requests=totals.requests,
        choices=totals.exits.total(),
        answers=totals.answers,
        tokens_per_answer=TokensPerAnswer(
            completion=mean(totals.completion), reasoning=mean(totals.reasoning), answer=mean(answered)
        ),
        steps_per_answer=mean(totals.steps),
        per_answer=PerAnswer(
            completion_tokens=_distribution(mean(totals.completion), [answer.completion for answer in answers]),
            reasoning_tokens=_distribution(mean(totals.reasoning), [answer.reasoning for answer in answers]),
            answer_tokens=_distribution(mean(answered), [answer.answer for answer in answers]),
            reasoning_steps=_distribution(mean(totals.steps), [answer.steps for answer in answers]),
        ),
        exits={reason: totals.exits[reason] for reason in EXIT_REASONS},
        savings=_savings(totals, history.baseline),
    )


def _distribution(mean: float | None, values: list[int]) -> Distribution:
    values.sort()

    def percentile(share: float) -> int | None:
        return values[math.ceil(share * len(values)) - 1] if values else None

    return Distribution(mean=mean, p50=percentile(0.5), p90=percentile(0.9), p99=percentile(0.99))


def _savings(totals: _Totals, baseline: Baseline) -> dict[Source, Savings]:
    known = baseline.source != "none"
    ci95 = baseline.ci95 if totals.estimated.baseline else None
    savings: dict[Source, Savings] = {baseline.source: _compared(totals.estimated, known, ci95)}
    if totals.shadowed.pairs:
        savings["shadow"] = _compared(totals.shadowed, known=True, ci95=totals.shadowed.interval())
    return savings


def _compared(tokens: PairedTokens, known: bool, ci95: tuple[float, float] | None) -> Savings:
    ratio = tokens.savings_ratio
    return Savings(
        answers=tokens.pairs,
        actual_tokens=round(tokens.actual),
        baseline_tokens=round(tokens.baseline, 1) if known else None,
        tokens_saved=round(tokens.baseline - tokens.actual, 1) if known else None,
        savings_ratio=None if ratio is None else round(ratio, 4),
        ci95=None if ci95 is None else (round(ci95[0], 4), round(ci95[1], 4)),
    )
