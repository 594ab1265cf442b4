"""The report in the response: on every choice, and the true number of reasoning tokens in ``usage``.

Works on what vLLM's handlers return, so everything else in a response is exactly theirs. Of a stream only the events
that end a choice, carry the usage or report an error are parsed and written again; no event is ever added, because the
OpenAI SDKs take every event for a chunk.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, Literal

from pydantic import BaseModel

from server.errors import openai_error
from server.events import body_of, event_of
from server.exit_control import ExitControl, InvalidExitControlError, asking, exit_control_of
from server.report import ResponseReports, collecting, current_reports

FIELD = "reasoning_efficiency"
"""Field of a choice that holds its report. In a request, false leaves the reports out of the response; the request is
metered all the same."""

logger = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[Any]]
Refusal = Callable[[str, str], Exception]


def _accept(_: Any) -> None:
    """Refuse nothing."""


class ErrorEvent(BaseModel):
    """What ends a stream of the Responses API that cannot go on.

    OpenAI's reference has the error's fields in the event; its SDKs, and its server, go by ``error``.
    """

    type: Literal["error"] = "error"
    sequence_number: int
    code: str
    message: str
    param: str | None
    error: dict[str, Any]


def with_reports(
    handler: Handler, refusal: Refusal, check: Callable[[Any], None] = _accept, lazy: bool = False
) -> Handler:
    """Wrap a handler so that its requests may ask for exit control and its response carries the reports.

    Args:
        handler: vLLM's.
        refusal: makes the exception that refuses a request, of a message and the name of a parameter.
        check: refuses what the engine would refuse; for lazy handlers.
        lazy: its streams call the engine only when they are read, too late for a refusal with a status.
    """

    @wraps(handler)
    async def reporting(request: Any, *args: Any, **options: Any) -> Any:
        wanted, control = _checked(request, refusal)
        reports = ResponseReports(wanted)
        with collecting(reports), asking(control):
            if lazy:
                check(request)
            response = await handler(request, *args, **options)
        if hasattr(response, "choices"):
            _report_response(response, reports)
        elif hasattr(response, "__aiter__"):
            return _continued(response, reports, control) if lazy else _reported_stream(response, reports)
        return response

    return reporting


def with_response_report(handler: Handler) -> Handler:
    """Wrap the handler that puts together a finished object of the Responses API, however it is then delivered.

    The object has no choices and carries the report itself: of its last turn, where it took several.
    """

    @wraps(handler)
    async def reporting(*args: Any, **options: Any) -> Any:
        response, reports = await handler(*args, **options), current_reports()
        last = reports.last if reports is not None else None
        if reports is not None and last is not None and hasattr(response, "output"):
            if reports.wanted:
                setattr(response, FIELD, last)
            if response.usage is not None:
                response.usage.output_tokens_details.reasoning_tokens = reports.reasoning_tokens
        return response

    return reporting


async def _continued(
    stream: AsyncGenerator[Any, None], reports: ResponseReports, control: ExitControl
) -> AsyncGenerator[Any, None]:
    """Step through a stream, each step in the context of its request; where one fails, the last event says so."""
    number = -1
    async with aclosing(stream):
        while True:
            with collecting(reports), asking(control):
                try:
                    event = await anext(stream)
                except StopAsyncIteration:
                    return
                except Exception as error:  # nobody else would tell the client: the status has been sent
                    logger.exception("a stream of /v1/responses ends early")
                    yield _last_event(error, number + 1)
                    return
            number = getattr(event, "sequence_number", number)
            yield event


def _last_event(error: Exception, number: int) -> ErrorEvent:
    status, param = 400 if hasattr(error, "parameter") else 500, getattr(error, "parameter", None)
    details = openai_error(status, {"error": {"message": str(error), "param": param}}, "")["error"]
    return ErrorEvent(
        sequence_number=number, code=details["type"], message=str(error), param=details["param"], error=details
    )


def _checked(request: Any, refusal: Refusal) -> tuple[bool, ExitControl]:
    """Whether the request wants its reports, and its exit control.

    Refuses what vLLM does not check, or without naming the parameter.
    """
    if getattr(request, "messages", None) == []:
        raise refusal("messages must hold at least one message", "messages")
    extra = request.model_extra or {}
    wanted = extra.get(FIELD, True)
    if not isinstance(wanted, bool):
        raise refusal(f"{FIELD} must be true or false", FIELD)
    try:
        control = exit_control_of(extra)
    except InvalidExitControlError as error:
        raise refusal(str(error), error.param) from error
    return wanted, control


def _report_response(response: Any, reports: ResponseReports) -> None:
    for choice in response.choices:
        report = reports.get(choice.index)
        if report is not None and reports.wanted:
            choice.model_extra[FIELD] = report  # a tenth of what setting the attribute takes
    tokens, usage = reports.reasoning_tokens, response.usage
    details = getattr(usage, "completion_tokens_details", None)
    if usage is not None and _is_to_correct(tokens, details):
        if details is None:
            corrected = {**usage.model_dump(), "completion_tokens_details": {"reasoning_tokens": tokens}}
            response.usage = type(usage).model_validate(corrected)
        else:
            details.reasoning_tokens = tokens


async def _reported_stream(stream: AsyncGenerator[str, None], reports: ResponseReports) -> AsyncGenerator[str, None]:
    try:
        async for event in stream:
            if event.startswith('data: {"error"'):
                yield _error_event(event)
            elif reports.last is not None and (
                '"finish_reason":"' in event or ('"choices":[]' in event and '"usage":{' in event)
            ):
                yield _reported_event(event, reports)
            else:
                yield event
    finally:
        await stream.aclose()


def _reported_event(event: str, reports: ResponseReports) -> str:
    chunk = body_of(event)
    tokens = reports.reasoning_tokens
    for choice in chunk["choices"]:
        report = reports.get(choice["index"])
        if report is not None:
            tokens = report["tokens"]["reasoning"]
            if reports.wanted and choice.get("finish_reason"):
                choice[FIELD] = report
    usage = chunk.get("usage")
    if usage and _is_to_correct(tokens, usage.get("completion_tokens_details")):
        chunk["usage"]["completion_tokens_details"] = {"reasoning_tokens": tokens}
    return event_of(chunk)


def _is_to_correct(tokens: int | None, details: Any) -> bool:
    """Whether the details of the usage have to say ``tokens``; without any, vLLM leaves them out, and so they stay."""
    return tokens is not None and (tokens > 0 or details is not None)


def _error_event(event: str) -> str:
    body = body_of(event)
    code = body["error"].get("code")
    return event_of(openai_error(code if isinstance(code, int) else 500, body, ""))
