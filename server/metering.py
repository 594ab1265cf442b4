"""Metering of requests: every sampled token of every choice goes through a segmenter, however the request ends."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from reasoning import Segmenter, Trace
from server.checkpoint import ServedCheckpoint
from server.metrics import EfficiencyMetrics
from server.report import EfficiencyReport, report_of
from server.savings import Baseline
from server.summary import EfficiencySummary

KEPT_REPORTS = 4096


class Output(Protocol):
    """The part of vLLM's ``CompletionOutput`` that is metered."""

    index: int
    token_ids: Sequence[int]
    finish_reason: str | None
    stop_reason: int | str | None


class RequestOutput(Protocol):
    """The part of vLLM's ``RequestOutput`` that is metered."""

    prompt_token_ids: Sequence[int] | None
    outputs: Sequence[Any]


class TokenText(Protocol):
    """Text of tokens: whole sequences, and one by one as they are sampled."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a token sequence, special tokens included."""

    def stream(self) -> Callable[[int], str]:
        """A new incremental decoder: feed it token ids, it returns the text that each one completes."""


class Meter:
    """Everything that is known of the requests that pass: reports, metrics and the running summary.

    Args:
        checkpoint: markers and tags to look for.
        baseline: what savings are measured against.
        metrics: Prometheus families.
        text: decoder of the served model's tokens.
        models: served names; the first is the default.
    """

    def __init__(
        self,
        checkpoint: ServedCheckpoint,
        baseline: Baseline,
        metrics: EfficiencyMetrics,
        text: TokenText,
        models: tuple[str, ...],
    ) -> None:
        self._checkpoint = checkpoint
        self._baseline = baseline
        self._metrics = metrics
        self._text = text
        self._models = models
        self._reports: OrderedDict[tuple[str, int], EfficiencyReport] = OrderedDict()
        self.summary = EfficiencySummary(models, baseline)

    def open(self, request_id: str, choices: int, model: str | None = None) -> "RequestMeter":
        """Start metering a request for ``choices`` completions; ``model`` is the adapter that it asked for, if any."""
        name = model if model in self._models else self._models[0]
        return RequestMeter(self, request_id, choices, name)

    def segmenter(self, prompt: Sequence[int]) -> Segmenter:
        """A segmenter for a completion of ``prompt``, inside the block where the chat template has opened it."""
        start = self._checkpoint.think[0]
        inside = self._text.decode(prompt[-16:]).rstrip().endswith(start)
        return Segmenter(self._checkpoint.markers, self._checkpoint.think, inside=inside)

    def decoder(self) -> Callable[[int], str]:
        """A new incremental decoder."""
        return self._text.stream()

    def record(self, request_id: str, index: int, model: str, trace: Trace) -> None:
        """Count a finished choice and keep its report until the response picks it up."""
        self._metrics.observe(model, trace, self._baseline)
        self.summary.add(model, trace)
        self._reports[request_id, index] = report_of(trace, self._baseline)
        if len(self._reports) > KEPT_REPORTS:
            self._reports.popitem(last=False)

    def take(self, request_id: str, index: int) -> EfficiencyReport | None:
        """The report of a finished choice, once."""
        return self._reports.pop((request_id, index), None)


class RequestMeter:
    """Meters the choices of one request."""

    def __init__(self, meter: Meter, request_id: str, choices: int, model: str) -> None:
        self._meter = meter
        self._id = request_id
        self._choices = choices
        self._model = model
        self._open: dict[int, tuple[Segmenter, Callable[[int], str]]] = {}
        self._finished: set[int] = set()

    def feed(self, output: RequestOutput) -> None:
        """Take in one engine output: new tokens of any choices, or all of them at once."""
        for choice in output.outputs:
            if choice.index in self._finished:
                continue
            if choice.index not in self._open:
                prompt = output.prompt_token_ids or ()
                self._open[choice.index] = self._meter.segmenter(prompt), self._meter.decoder()
            segmenter, decode = self._open[choice.index]
            for token in choice.token_ids:
                segmenter.feed(decode(token), 1)
            if choice.finish_reason is not None:
                stopped = choice.stop_reason is not None and choice.finish_reason == "stop"
                self._close(choice.index, choice.finish_reason, stopped)

    def close(self) -> None:
        """End the request: choices that did not finish were aborted. May be called again."""
        for index in range(self._choices):
            if index not in self._finished:
                self._close(index, "abort", stopped=False)

    def _close(self, index: int, finish_reason: str, stopped: bool) -> None:
        segmenter, _ = self._open.pop(index, None) or (self._meter.segmenter(()), None)
        self._finished.add(index)
        trace = segmenter.close(finish_reason, stopped=stopped)
        self._meter.record(self._id, index, self._model, trace)
