"""Spans of requests, by OpenTelemetry's names for generative models."""

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from server.request_id import RequestId
from server.tracing import Tracing

CHAT = "/v1/chat/completions"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """An app over a metered fake engine, and the spans that it exports."""

    def __init__(self, bench):
        self.bench, self.headers, self.status = bench, [], 200
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        routes = [Route(path, self._answer, methods=["POST"]) for path in (CHAT, "/v1/completions", "/tokenize")]
        app = RequestId(Tracing(Starlette(routes=routes), provider.get_tracer("test")))
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def _answer(self, request):
        self.headers.append(request.headers)
        if self.status == 200:
            self.bench.script.outputs = [
                self.bench.output(
                    (0, "<think>a. Wait, b.</think> c", "stop"), (1, "d e", "length"), prompt="<|im_start|>assistant\n"
                )
            ]
            engine = self.bench.engine
            assert [output async for output in engine.generate("prompt", self.bench.sampling(n=2), "id")]
        return JSONResponse({}, self.status)

    async def ask(self, path=CHAT, **headers):
        async with httpx.AsyncClient(transport=self._transport, base_url="http://x") as http:
            await http.post(path, headers=headers)
        return self._exporter.get_finished_spans()


@pytest.fixture
def traced(bench):
    return Traced(bench)


async def test_a_span_has_the_usage_and_the_reports(traced):
    (span,) = await traced.ask(**{"x-request-id": "mine"})
    assert (span.name, span.kind) == ("chat tuned", SpanKind.SERVER)
    reports = span.attributes
    assert reports["gen_ai.operation.name"] == "chat"
    assert reports["gen_ai.response.model"] == "tuned"
    assert reports["stepgrpo.request_id"] == "mine"
    assert reports["http.response.status_code"] == 200
    assert reports["stepgrpo.exit.reason"] == ("model", "none")
    assert reports["stepgrpo.steps"] == (2, 0)
    assert reports["stepgrpo.exit.step"] == (2, 0)
    thinking, answers = reports["stepgrpo.tokens.reasoning"], reports["stepgrpo.tokens.answer"]
    assert reports["gen_ai.usage.output_tokens"] == sum(thinking) + sum(answers)
    assert reports["gen_ai.usage.reasoning.output_tokens"] == sum(thinking)
    assert reports["gen_ai.usage.input_tokens"] > 0
    assert len(reports["stepgrpo.tokens_saved"]) == 2


async def test_it_stands_between_the_clients_span_and_vllms(traced):
    (span,) = await traced.ask(traceparent=PARENT)
    assert format(span.parent.span_id, "016x") == PARENT.split("-")[2]
    (headers,) = traced.headers
    assert headers["traceparent"].split("-")[1:3] == [PARENT.split("-")[1], format(span.context.span_id, "016x")]


@pytest.mark.parametrize(("status", "code"), [(400, StatusCode.UNSET), (503, StatusCode.ERROR)])
async def test_a_refusal_is_a_span_and_an_error_of_the_server_one_that_failed(traced, status, code):
    traced.status = status
    (span,) = await traced.ask("/v1/completions")
    assert (span.name, span.status.status_code) == ("text_completion", code)
    assert span.attributes["http.response.status_code"] == status


async def test_other_routes_are_not_traced(traced):
    assert await traced.ask("/tokenize") == ()
