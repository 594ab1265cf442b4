"""A span for each request for answers, by OpenTelemetry's names for generative models, with the efficiency reports.

vLLM exports spans of its own where ``--otlp-traces-endpoint`` is given: one per engine request with its latencies. They
become children of ours, which are children of the client's.
"""

import re
from typing import Final

import msgspec
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.exchange import Exchange, current_exchange
from server.outlet import Outlet
from server.route import route_path

OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/batch": "chat",
    "/v1/completions": "text_completion",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/inference/v1/generate": "text_completion",
}
"""Routes that are traced, and the operation of each."""
MOST_BYTES: Final = 2**20
"""Larger bodies are not searched for the model that they ask for."""
LONGEST_NAME: Final = 256
NAME: Final = re.compile(rf"[\w./:@+-]{{1,{LONGEST_NAME}}}", re.ASCII)
"""What is taken for the name of a model; anything else that stands in its place could be something that was asked."""


class Tracing:
    """Middleware that traces requests for answers.

    Args:
        app: what answers.
        tracer: makes the spans; None for the process's own, which vLLM sets up.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer or trace.get_tracer("stepgrpo")
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on inside a span."""
        operation = OPERATIONS.get(route_path(scope)) if scope["type"] == "http" and scope["method"] == "POST" else None
        if operation is None:
            await self._app(scope, receive, send)
            return
        context = self._propagator.extract(dict(Headers(scope=scope)))
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "stepgrpo",
            "http.request.method": "POST",
            "http.route": route_path(scope),
        }
        with self._tracer.start_as_current_span(operation, context, SpanKind.SERVER, attributes) as span:
            asked = _Asked(receive, span, operation)

            def note(head: Message) -> None:
                _note_status(span, head["status"])

            outlet = Outlet.at(send).watch(note)
            try:
                await self._app(self._inside(scope), asked.receive if span.is_recording() else receive, outlet)
            finally:
                exchange = current_exchange()
                if exchange is not None:
                    if exchange.model and asked.model is None:
                        span.update_name(f"{operation} {exchange.model}")
                    _note_exchange(span, exchange)

    def _inside(self, scope: Scope) -> Scope:
        """The request with our span as the parent of what vLLM traces."""
        headers = MutableHeaders(raw=list(scope["headers"]))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        headers.update(carrier)
        return {**scope, "headers": headers.raw}


class _Asked:
    """Reads a request's body along with the app, and names the span after the model that it asks for.

    A body that the app does not read, because it refuses the request before, is not read here either.
    """

    def __init__(self, receive: Receive, span: Span, operation: str) -> None:
        self._receive = receive
        self._span = span
        self._operation = operation
        self._parts: list[bytes] = []
        self._room = MOST_BYTES
        self.model: str | None = None

    async def receive(self) -> Message:
        """The app's next message."""
        message = await self._receive()
        if message["type"] == "http.request" and self._room >= 0:
            self._take(message.get("body", b""), last=not message.get("more_body", False))
        return message

    def _take(self, part: bytes, last: bool) -> None:
        self._parts.append(part)
        self._room -= len(part)
        if last and self._room >= 0:
            self.model = asked_model(b"".join(self._parts))
            if self.model is not None:
                self._span.set_attribute("gen_ai.request.model", self.model)
                self._span.update_name(f"{self._operation} {self.model}")
        if last or self._room < 0:
            self._parts.clear()
            self._room = -1


class _Body(msgspec.Struct):
    model: str


def asked_model(body: bytes) -> str | None:
    """The model that a request asks for; None where it names none, or what cannot be the name of one."""
    try:
        name = msgspec.json.decode(body, type=_Body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return name if NAME.fullmatch(name) else None


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _note_exchange(span: Span, exchange: Exchange) -> None:
    span.set_attribute("stepgrpo.request_id", exchange.request_id)
    if not exchange.model:
        return
    reports = exchange.reports
    span.set_attributes(
        {
            "gen_ai.response.model": exchange.model,
            "gen_ai.usage.input_tokens": exchange.prompt_tokens,
            "gen_ai.usage.output_tokens": exchange.completion_tokens,
            "gen_ai.usage.reasoning.output_tokens": sum(report["tokens"]["reasoning"] for report in reports),
            "stepgrpo.aborted": exchange.aborted,
            "stepgrpo.steps": [report["steps"] for report in reports],
            "stepgrpo.exit.reason": [report["exit"]["reason"] for report in reports],
            "stepgrpo.exit.step": [report["exit"]["step"] for report in reports],
            "stepgrpo.tokens.reasoning": [report["tokens"]["reasoning"] for report in reports],
            "stepgrpo.tokens.answer": [report["tokens"]["answer"] for report in reports],
            "stepgrpo.tokens_saved": [saved for report in reports if (saved := report["tokens_saved"]) is not None],
        }
    )
