"""The efficiency report of one choice, as clients see it, and the reports of one response while they come in."""

from contextvars import ContextVar
from typing import TypedDict

from reasoning import ExitReason, Trace
from server.context import Within
from server.savings import Baseline, Source


class ExitReport(TypedDict):
    """How thinking ended: why, after which step (1-based, 0 without any) and after how many reasoning tokens."""

    reason: ExitReason
    step: int
    reasoning_tokens: int


class TokenReport(TypedDict):
    """Tokens of one choice; ``completion`` is ``reasoning`` plus ``answer``."""

    reasoning: int
    answer: int
    completion: int


class BaselineReport(TypedDict):
    """What the base model would have used for this answer, and how that is known."""

    source: Source
    completion_tokens: float | None


class EfficiencyReport(TypedDict):
    """``choices[i].reasoning_efficiency``: steps, exit, tokens and savings of one choice.

    ``tokens_saved`` and ``savings_ratio`` are null where no baseline is known.
    """

    steps: int
    exit: ExitReport
    tokens: TokenReport
    baseline: BaselineReport
    tokens_saved: float | None
    savings_ratio: float | None


def report_of(trace: Trace, baseline: Baseline) -> EfficiencyReport:
    """Put together the report of a choice."""
    completion = trace.completion_tokens
    expected = baseline.completion_tokens(completion)
    return EfficiencyReport(
        steps=len(trace.steps),
        exit=ExitReport(reason=trace.exit.reason, step=trace.exit.step, reasoning_tokens=trace.exit.reasoning_tokens),
        tokens=TokenReport(reasoning=trace.exit.reasoning_tokens, answer=trace.answer_tokens, completion=completion),
        baseline=BaselineReport(
            source=baseline.source, completion_tokens=None if expected is None else round(expected, 1)
        ),
        tokens_saved=None if expected is None else round(expected - completion, 1),
        savings_ratio=baseline.savings_ratio,
    )


class ResponseReports:
    """The reports of one response by choice index.

    A response may stand on several engine requests (a text completion of several prompts); each claims its choices in
    the order in which it is made, which is the order in which the response numbers them.

    Args:
        wanted: whether the response shall carry them.

    Attributes:
        last: the report that came in last; None before the first.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.last: EfficiencyReport | None = None
        self._claimed = 0
        self._reports: dict[int, EfficiencyReport] = {}

    def claim(self, choices: int) -> int:
        """Reserve the next ``choices`` indices for an engine request; returns the first."""
        first = self._claimed
        self._claimed += choices
        return first

    def add(self, index: int, report: EfficiencyReport) -> None:
        """Keep the report of a finished choice."""
        self._reports[index] = self.last = report

    def get(self, index: int) -> EfficiencyReport | None:
        """The report of a choice; None as long as it is not finished."""
        return self._reports.get(index)

    @property
    def reasoning_tokens(self) -> int | None:
        """Reasoning tokens of all finished choices; None when there are none."""
        if not self._reports:
            return None
        return sum(report["tokens"]["reasoning"] for report in self._reports.values())


_current: ContextVar[ResponseReports | None] = ContextVar("stepgrpo_reports", default=None)


def collecting(reports: ResponseReports) -> Within[ResponseReports]:
    """Collect the reports of all engine requests that are made in this context."""
    return Within(_current, reports)


def current_reports() -> ResponseReports | None:
    """Where an engine request that is made now shall put its reports."""
    return _current.get()
