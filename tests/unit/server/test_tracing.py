"""Spans of requests, by OpenTelemetry's names for generative models."""

import json

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
from server.tracing import LONGEST_NAME, MOST_BYTES, Tracing, asked_model

CHAT = "/v1/chat/completions"
QUESTION = {"messages": [{"role": "user", "content": "unspeakable"}], "model": "alias"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """An app over a metered fake engine, and the spans that it exports."""

    def __init__(self, bench):
        self.bench, self.headers, self.status, self.reads = bench, [], 200, True
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        routes = [Route(path, self._answer, methods=["POST"]) for path in (CHAT, "/v1/completions", "/tokenize")]
        app = RequestId(Tracing(Starlette(routes=routes), provider.get_tracer("test")))
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def _answer(self, request):
        self.headers.append(request.headers)
        if self.reads:
            await request.body()
        if self.status == 200:
            self.bench.script.outputs = [
                self.bench.output(
                    (0, "<think>a. Wait, b.</think> c", "stop"), (1, "d e", "length"), prompt="<|im_start|>assistant\n"
                )
            ]
            engine = self.bench.engine
            assert [output async for output in engine.generate("prompt", self.bench.sampling(n=2), "id")]
        return JSONResponse({}, self.status)

    async def ask(self, path=CHAT, body=b"", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(transport=self._transport, base_url="http://x") as http:
            await http.post(path, headers=headers, content=_pieces(content))
        return self._exporter.get_finished_spans()


async def _pieces(content):
    yield content[: len(content) // 2]
    yield content[len(content) // 2 :]


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


async def test_a_span_is_named_after_the_model_that_was_asked_for(traced):
    (span,) = await traced.ask(body=QUESTION)
    assert span.name == "chat alias"
    assert span.attributes["gen_ai.request.model"] == "alias"
    assert span.attributes["gen_ai.response.model"] == "tuned"
    assert "unspeakable" not in span.to_json()


@pytest.mark.parametrize("status", [400, 404, 429])
async def test_a_refusal_has_the_model_that_was_asked_for(traced, status):
    traced.status = status
    (span,) = await traced.ask(body=QUESTION)
    assert (span.name, span.attributes["gen_ai.request.model"]) == ("chat alias", "alias")
    assert "gen_ai.response.model" not in span.attributes


async def test_what_is_refused_unread_has_no_model(traced):
    traced.status, traced.reads = 429, False
    (span,) = await traced.ask(body=QUESTION)
    assert span.name == "chat"
    assert "gen_ai.request.model" not in span.attributes


async def test_a_body_that_is_too_large_is_named_after_the_model_that_answered(traced):
    (span,) = await traced.ask(body=QUESTION | {"user": "x" * MOST_BYTES})
    assert span.name == "chat tuned"
    assert "gen_ai.request.model" not in span.attributes


@pytest.mark.parametrize("name", ["step-grpo", "Qwen/Qwen3-8B", "/models/a_b.c:1@2+3", "x" * LONGEST_NAME])
def test_names_of_models(name):
    assert asked_model(json.dumps(QUESTION | {"model": name}).encode()) == name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b'"model"',
        b'{"model": "a"',
        b'{"model": "\xff"}',
        b'{"model": null}',
        b'{"model": 3}',
        b'{"model": ""}',
        b'{"model": "What is 1 plus 2?"}',
        b'{"a": {"model": "inner"}}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b', "model": "a"}',
        json.dumps({"model": "x" * (LONGEST_NAME + 1)}).encode(),
    ],
    ids=lambda body: body[:30],
)
def test_what_is_no_name_of_a_model(body):
    assert asked_model(body) is None


async def test_other_routes_are_not_traced(traced):
    assert await traced.ask("/tokenize") == ()
