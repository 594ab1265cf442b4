"""The report in the response: on every choice, and the true number of reasoning tokens in ``usage``.

Works on what vLLM's handlers return, so everything else in a response is exactly theirs. Of a stream only the events
that end a choice, carry the usage or report an error are parsed and written again; no event is ever added, because the
OpenAI SDKs take every event for a chunk.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import wraps
from typing import Any

from server.errors import openai_error
from server.report import ResponseReports, collecting

FIELD = "reasoning_efficiency"
SWITCH = "reasoning_report"
"""Request field; false leaves the reports out of the response. The request is metered all the same."""

Handler = Callable[..., Awaitable[Any]]
Refusal = Callable[[str, str], Exception]


def with_reports(handler: Handler, refusal: Refusal) -> Handler:
    """Wrap a handler of chat or text completions so that its response carries the reports.

    Args:
        handler: vLLM's.
        refusal: makes the exception that refuses a request, of a message and the name of a parameter.
    """

    @wraps(handler)
    async def reporting(request: Any, *args: Any, **options: Any) -> Any:
        wanted = _checked(request, refusal)
        with collecting() as reports:
            response = await handler(request, *args, **options)
        if hasattr(response, "__aiter__"):
            return _reported_stream(response, reports, wanted)
        if hasattr(response, "choices"):
            _report_response(response, reports, wanted)
        return response

    return reporting


def _checked(request: Any, refusal: Refusal) -> bool:
    """Whether the request wants its reports. Refuses what vLLM does not check, or without naming the parameter."""
    if getattr(request, "messages", None) == []:
        raise refusal("messages must hold at least one message", "messages")
    wanted = getattr(request, SWITCH, True)
    if not isinstance(wanted, bool):
        raise refusal(f"{SWITCH} must be true or false", SWITCH)
    return wanted


def _report_response(response: Any, reports: ResponseReports, wanted: bool) -> None:
    for choice in response.choices:
        report = reports.get(choice.index)
        if report is not None and wanted:
            setattr(choice, FIELD, report.model_dump())
    tokens = reports.reasoning_tokens
    if tokens is not None and response.usage is not None:
        corrected = {**response.usage.model_dump(), "completion_tokens_details": {"reasoning_tokens": tokens}}
        response.usage = type(response.usage).model_validate(corrected)


async def _reported_stream(
    stream: AsyncGenerator[str, None], reports: ResponseReports, wanted: bool
) -> AsyncGenerator[str, None]:
    try:
        async for event in stream:
            if '"finish_reason":"' in event or ('"choices":[]' in event and '"usage":{' in event):
                yield _reported_event(event, reports, wanted)
            elif event.startswith('data: {"error"'):
                yield _error_event(event)
            else:
                yield event
    finally:
        await stream.aclose()


def _reported_event(event: str, reports: ResponseReports, wanted: bool) -> str:
    chunk = json.loads(event.removeprefix("data: "))
    tokens = reports.reasoning_tokens
    for choice in chunk["choices"]:
        report = reports.get(choice["index"])
        if report is not None:
            tokens = report.tokens.reasoning
            if wanted and choice.get("finish_reason"):
                choice[FIELD] = report.model_dump()
    if tokens is not None and chunk.get("usage"):
        chunk["usage"]["completion_tokens_details"] = {"reasoning_tokens": tokens}
    return _event(chunk)


def _error_event(event: str) -> str:
    body = json.loads(event.removeprefix("data: "))
    code = body["error"].get("code")
    return _event(openai_error(code if isinstance(code, int) else 500, body, ""))


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
