"""A span for each request for answers, by OpenTelemetry's names for generative models, with the efficiency reports.

vLLM exports spans of its own where ``--otlp-traces-endpoint`` is given: one per engine request with its latencies. They
become children of ours, which are children of the client's.
"""

from collections.abc import Awaitable
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.exchange import Exchange, current_exchange
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

            def send_noting(message: Message) -> Awaitable[None]:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                return send(message)

            try:
                await self._app(self._inside(scope), receive, send_noting)
            finally:
                exchange = current_exchange()
                if exchange is not None:
                    _note_exchange(span, operation, exchange)

    def _inside(self, scope: Scope) -> Scope:
        """The request with our span as the parent of what vLLM traces."""
        headers = MutableHeaders(raw=list(scope["headers"]))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        headers.update(carrier)
        return {**scope, "headers": headers.raw}


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _note_exchange(span: Span, operation: str, exchange: Exchange) -> None:
    span.set_attribute("stepgrpo.request_id", exchange.request_id)
    if not exchange.model:
        return
    span.update_name(f"{operation} {exchange.model}")
    reports = exchange.reports
    span.set_attributes(
        {
            "gen_ai.response.model": exchange.model,
            "gen_ai.usage.input_tokens": exchange.prompt_tokens,
            "gen_ai.usage.output_tokens": exchange.completion_tokens,
            "gen_ai.usage.reasoning.output_tokens": sum(report.tokens.reasoning for report in reports),
            "stepgrpo.aborted": exchange.aborted,
            "stepgrpo.steps": [report.steps for report in reports],
            "stepgrpo.exit.reason": [report.exit.reason for report in reports],
            "stepgrpo.exit.step": [report.exit.step for report in reports],
            "stepgrpo.tokens.reasoning": [report.tokens.reasoning for report in reports],
            "stepgrpo.tokens.answer": [report.tokens.answer for report in reports],
            "stepgrpo.tokens_saved": [report.tokens_saved for report in reports if report.tokens_saved is not None],
        }
    )
