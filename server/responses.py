"""The report in the response: on every choice, and the true number of reasoning tokens in ``usage``.

Works on what vLLM's handlers return, so everything else in a response is exactly theirs. Of a stream only the chunks
that carry a ``finish_reason`` or the usage are parsed and written again; no event is ever added.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import wraps
from typing import Any

from server.metering import Meter
from server.report import EfficiencyReport

FIELD = "reasoning_efficiency"
SWITCH = "reasoning_report"

Handler = Callable[..., Awaitable[Any]]


def with_reports(handler: Handler, meter: Meter) -> Handler:
    """Wrap a handler of chat or text completions so that its response carries the reports.

    A request turns its report off with ``"reasoning_report": false``; it is metered all the same.
    """

    @wraps(handler)
    async def reporting(request: Any, raw_request: Any = None, *args: Any, **options: Any) -> Any:
        response = await handler(request, raw_request, *args, **options)
        wanted = getattr(request, SWITCH, True) is not False
        if hasattr(response, "__aiter__"):
            return _reported_stream(response, Reports(meter, getattr(request, "n", None) or 1, wanted))
        if getattr(response, "choices", None):
            _report_response(response, Reports(meter, getattr(request, "n", None) or 1, wanted))
        return response

    return reporting


class Reports:
    """The reports of one response, as they are picked up; knows how choices map to engine requests.

    A text completion of several prompts is several engine requests (``<id>-<prompt>``) of ``n`` choices each.
    """

    def __init__(self, meter: Meter, n: int, wanted: bool) -> None:
        self._meter = meter
        self._n = n
        self._wanted = wanted
        self.reasoning_tokens = 0

    def take(self, response_id: str, index: int) -> dict[str, Any] | None:
        """The report of a choice as JSON values; None if it is unknown or not wanted."""
        report = self._find(response_id, index)
        if report is None:
            return None
        self.reasoning_tokens += report.tokens.reasoning
        return report.model_dump() if self._wanted else None

    def _find(self, response_id: str, index: int) -> EfficiencyReport | None:
        prompt, choice = divmod(index, self._n)
        return self._meter.take(response_id, index) or self._meter.take(f"{response_id}-{prompt}", choice)


def _report_response(response: Any, reports: Reports) -> None:
    for choice in response.choices:
        report = reports.take(response.id, choice.index)
        if report is not None:
            setattr(choice, FIELD, report)
    details = getattr(response.usage, "completion_tokens_details", None)
    if details is not None:
        details.reasoning_tokens = reports.reasoning_tokens


async def _reported_stream(stream: AsyncGenerator[str, None], reports: Reports) -> AsyncGenerator[str, None]:
    try:
        async for event in stream:
            yield _rewritten(event, reports) if _ends_choice(event) or _has_usage(event) else event
    finally:
        await stream.aclose()


def _ends_choice(event: str) -> bool:
    return '"finish_reason":"' in event


def _has_usage(event: str) -> bool:
    return '"usage":{' in event and '"choices":[]' in event


def _rewritten(event: str, reports: Reports) -> str:
    prefix, _, body = event.partition("data: ")
    chunk = json.loads(body)
    for choice in chunk.get("choices", ()):
        if choice.get("finish_reason"):
            report = reports.take(chunk["id"], choice["index"])
            if report is not None:
                choice[FIELD] = report
    usage = chunk.get("usage")
    if usage and usage.get("completion_tokens_details"):
        usage["completion_tokens_details"]["reasoning_tokens"] = reports.reasoning_tokens
    return f"{prefix}data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"
