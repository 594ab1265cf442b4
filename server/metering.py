"""Metering of requests: every sampled token of every choice is counted once, however the request ends."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from reasoning import Segmenter, Trace
from server.choice import Choice
from server.exchange import current_exchange
from server.metrics import EfficiencyMetrics
from server.models import Adapter, ServedModel, model_of_adapter
from server.opening import Opening, PromptText, opening_of
from server.report import current_reports, report_of
from server.summary import EfficiencySummary

UNREAD: Final = Opening("none")
BATCH = 1024
"""Tokens of an output that are metered in one go before other requests get their turn: about two milliseconds."""


class Output(Protocol):
    """The part of vLLM's ``CompletionOutput`` that is metered."""

    index: int
    text: str
    token_ids: Sequence[int]
    finish_reason: str | None
    stop_reason: int | str | None


class RequestOutput(Protocol):
    """The part of vLLM's ``RequestOutput`` that is metered."""

    prompt_token_ids: Sequence[int] | None
    outputs: Sequence[Any]


class TokenText(PromptText, Protocol):
    """Text of the served model's tokens."""

    def stream(self, skip_special: bool) -> Callable[[Sequence[int]], list[str]] | None:
        """A new incremental decoder: the text that each of the next tokens completes. None if the tokenizer has none.

        With ``skip_special``, special tokens have no text, save the thinking tags.
        """


class Meter:
    """What is known of the requests that pass: metrics and running totals, per served model.

    Args:
        base: the served checkpoint.
        text: decoder of its tokens.
        metrics: Prometheus families.
        failures: exceptions with which the engine ends requests underway; with any other it refuses one.

    Attributes:
        underway: requests that have begun and not ended.
    """

    def __init__(
        self, base: ServedModel, text: TokenText, metrics: EfficiencyMetrics, failures: tuple[type[Exception], ...]
    ) -> None:
        self.failures = failures
        self.text = text
        self.metrics = metrics
        self.summary = EfficiencySummary()
        self.underway = 0
        self._base = base
        self._models: dict[str, ServedModel] = {}
        self._add(base)

    def open(
        self, sampling: Any, adapter: Adapter | None = None, charged: bool = True, prompt: int = 0
    ) -> "RequestMeter":
        """Start metering a request.

        Args:
            sampling: vLLM's ``SamplingParams``.
            adapter: the one that it asked for, if any.
            charged: whether sampled tokens count to the exchange; they do not where they have been counted before.
            prompt: tokens of the prompt, charged where the request is left before the engine says anything.
        """
        return RequestMeter(self, self.model(adapter), sampling, charged, prompt)

    def model(self, adapter: Adapter | None = None) -> ServedModel:
        """The served model that a request asks for."""
        if adapter is None:
            return self._base
        return self._models.get(adapter.lora_name) or self.load(adapter)

    def load(self, adapter: Adapter) -> ServedModel:
        """Take up an adapter: its card is read, and its totals begin, also where another one had its name before."""
        return self._add(model_of_adapter(adapter, self._base))

    def unload(self, name: str) -> None:
        """Forget an adapter that is served no longer. Its answers under way are counted nowhere."""
        if self._models.pop(name, None) is not None:
            self.metrics.remove_model(name)
            self.summary.remove_model(name)

    def _add(self, model: ServedModel) -> ServedModel:
        self._models[model.name] = model
        self.metrics.add_model(model.name, model.card)
        self.summary.add_model(model.name, model.baseline)
        return model


class RequestMeter:
    """Meters the choices of one engine request. Made where the request is made, so that it finds its response."""

    def __init__(self, meter: Meter, model: ServedModel, sampling: Any, charged: bool, prompt: int) -> None:
        self._meter = meter
        self._prompt = prompt
        self._model = model
        self._unfinished = set(range(sampling.n))
        self._stop_tokens = frozenset(sampling.stop_token_ids or ())
        self._skip_special = bool(sampling.skip_special_tokens)
        self._hidden_stops = () if sampling.include_stop_str_in_output else tuple(sampling.stop or ())
        self._choices: dict[int, Choice] = {}
        self._budget: int | None = sampling.thinking_token_budget
        self._opening = UNREAD
        self._counted = False
        self._reports = current_reports()
        self._first = self._reports.claim(sampling.n) if self._reports is not None else 0
        self._exchange = current_exchange()
        if self._exchange is not None:
            self._exchange.model = model.name
        self._charged = self._exchange if charged else None

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """Exceptions with which the engine ends a request underway."""
        return self._meter.failures

    @property
    def started(self) -> bool:
        """Whether the engine has answered anything yet."""
        return bool(self._choices)

    def begin(self) -> None:
        """Count the request among those underway, until its ``end``."""
        self._meter.underway += 1

    def end(self) -> None:
        """Nothing more of the request is wanted from the engine."""
        self._meter.underway -= 1

    async def feed(self, outputs: Sequence[RequestOutput]) -> None:
        """Take in engine outputs, each the new tokens of some choices, or all tokens of all."""
        self.charge(outputs)
        for output in outputs:
            prompt = output.prompt_token_ids or ()
            if self._exchange is not None and not self._choices:
                self._exchange.prompted(len(prompt))
            for part in output.outputs:
                if part.index in self._unfinished:
                    await self._take(part, self._choices.get(part.index) or self._open(part.index, prompt))

    def charge(self, outputs: Sequence[RequestOutput]) -> None:
        """Charge the new tokens of outputs to the exchange; ``feed`` does."""
        if self._charged is not None and outputs:
            self._charged.sampled(sum(len(part.token_ids) for output in outputs for part in output.outputs))

    async def _take(self, part: Output, choice: Choice) -> None:
        tokens = part.token_ids
        while choice.exact and len(tokens) > BATCH:
            choice.feed(tokens[:BATCH], "")
            tokens = tokens[BATCH:]
            await asyncio.sleep(0)
        if part.finish_reason is None:
            choice.feed(tokens, part.text)
        elif part.finish_reason in ("abort", "error"):
            self._abort(part.index)
        else:
            self._finish(part, choice, tokens)

    def close(self) -> None:
        """End the request: choices that did not finish were aborted. May be called again."""
        if self._exchange is not None and self._unfinished and not self._choices:
            self._exchange.prompted(self._prompt)
        for index in sorted(self._unfinished):
            self._abort(index)

    def _open(self, index: int, prompt: Sequence[int]) -> Choice:
        if not self._choices:
            self._count()
            self._opening = opening_of(prompt, self._meter.text, self._model.think)
        opening = self._opening
        segmenter = Segmenter(self._model.markers, self._model.think, opening.inside, implied=opening.state != "closed")
        choice = self._choices[index] = Choice(
            segmenter, self._meter.text.stream(self._skip_special), self._hidden_stops
        )
        return choice

    def _finish(self, part: Output, choice: Choice, tokens: Sequence[int]) -> None:
        stop = part.stop_reason
        if isinstance(stop, int) and tokens and tokens[-1] != stop:  # beam search leaves the ending token out
            choice.feed(tokens, part.text)
            tokens = ()
        if isinstance(stop, int) and stop not in self._stop_tokens:
            stop = None  # one of the model's own ends of sequence
        trace = choice.finish(tokens, part.text, part.finish_reason or "", stop, getattr(part, "forced_exit", None))
        if trace.exit.reason == "model" and self._budget is not None and self._spent(trace) >= self._budget:
            trace = replace(trace, exit=replace(trace.exit, reason="token_budget"))
        self._unfinished.remove(part.index)
        self._meter.metrics.finished(self._model.name, trace, self._model.baseline)
        self._meter.summary.finished(self._model.name, trace, self._model.baseline)
        report = report_of(trace, self._model.baseline)
        if self._reports is not None:
            self._reports.add(self._first + part.index, report)
        if self._exchange is not None:
            self._exchange.reports.append(report)

    def _spent(self, trace: Trace) -> int:
        """Thinking tokens as vLLM counts them against a budget: those between the tags, the prompt's included."""
        encode, (opening, closing) = self._meter.text.encode, self._model.think
        if not trace.steps:
            return self._opening.tokens + len(encode(trace.reasoning))
        tags = len(encode(closing)) + (0 if self._opening.inside else len(encode(opening)))
        return self._opening.tokens + trace.exit.reasoning_tokens - tags

    def _abort(self, index: int) -> None:
        self._count()
        self._unfinished.remove(index)
        self._meter.metrics.aborted(self._model.name)
        self._meter.summary.aborted(self._model.name)
        if self._exchange is not None:
            self._exchange.aborted += 1

    def _count(self) -> None:
        if not self._counted:
            self._counted = True
            self._meter.summary.requested(self._model.name)
