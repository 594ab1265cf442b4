"""The server under clients that no manual foresees: whatever they send or do, it answers, and its books balance."""

import json
import socket
import time

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.unruly import rehearse

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
ROUTES = {"/v1/chat/completions": "ChatCompletionRequest", "/v1/completions": "CompletionRequest"}
SMALL = {"max_tokens": 4, "max_completion_tokens": 4, "max_output_tokens": 4, "n": 1, "min_tokens": 0}
"""What may not be drawn, so that every answer is short."""

quick = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
)
OPERATIONS = "^/(v1|ready|health|version|tokenize|detokenize)"
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def answered_or_refused(answer):
    """An answer, or a refusal in OpenAI's form; never an error of the server."""
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
    return answer.status_code < 500


def test_whatever_the_openapi_document_allows_is_answered_or_refused(server):
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [each.ok() for each in document.include(path_regex=OPERATIONS).get_all_operations()]
    assert {CHAT, "/v1/efficiency", "/ready"} <= {operation.path for operation in operations}
    for operation in operations:

        @given(case=operation.as_strategy())
        @quick
        def check(case):
            if isinstance(case.body, dict):
                case.body |= SMALL
            answer = case.call(timeout=60)
            assert answer.status_code < 500 or answer.status_code == 501, (case.path, answer.text[:500])

        check()


@pytest.mark.parametrize("path", ROUTES)
def test_any_value_of_any_field_is_answered_or_refused(server, path):
    document = httpx.get(f"{server.url}/openapi.json").json()
    fields = sorted(document["components"]["schemas"][ROUTES[path]]["properties"].keys() - SMALL.keys() - {"model"})
    own = ["max_reasoning_steps", "early_exit", "reasoning_efficiency", "thinking_token_budget"]
    question = {"model": server.model, "max_tokens": 4, "prompt": "1 plus 2?"}
    if path == CHAT:
        question |= {"messages": [{"role": "user", "content": "1 plus 2?"}]}

    @given(st.dictionaries(st.sampled_from(sorted({*fields, *own})), junk, min_size=1, max_size=3))
    @settings(quick, max_examples=150)
    def check(drawn):
        body = json.dumps(question | drawn).encode()
        answer = http.post(path, content=body, headers={"content-type": "application/json"})
        assert answered_or_refused(answer), (answer.status_code, answer.text[:500])

    with httpx.Client(base_url=server.url, timeout=60) as http:
        check()


@given(
    body=st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | junk.map(lambda value: json.dumps(value).encode())
)
@settings(quick, max_examples=60)
def test_any_body_is_answered_or_refused(server, body):
    answer = httpx.post(server.url + CHAT, content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answered_or_refused(answer)


async def test_the_books_balance_after_unruly_clients(server):
    """The full size: ``python -m loadtests.unruly URL --requests 10000``."""
    outcome = await rehearse(server.url, requests=600, concurrency=16, seed=1)
    assert outcome.wrong == []


def raw(server, content):
    """A connection that has sent so much."""
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(content)
    return connection


def test_huge_headers_are_refused(server):
    with raw(server, b"GET /health HTTP/1.1\r\nx-filler: " + b"x" * 100_000) as connection:
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_reader_that_never_reads_holds_up_nobody_else(server, counted):
    body = {
        "model": server.model,
        "prompt": "1 plus 2?",
        "stream": True,
        "max_tokens": 1500,
        "ignore_eos": True,
        "n": 8,
    }
    content = json.dumps(body | {"logprobs": 5}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with raw(server, head % len(content) + content):
        began = time.monotonic()
        for _ in range(5):
            answer = server.openai.completions.create(model=server.model, prompt="1 plus 2?", max_tokens=4)
            assert answer.choices[0].finish_reason in ("length", "stop")
        assert time.monotonic() - began < 20
    deadline = time.monotonic() + 30
    while server.metrics()["vllm:num_requests_running"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert server.metrics()["vllm:num_requests_running"] == 0
    time.sleep(0.5)
    gained = counted()
    assert sum(value for key, value in gained.items() if key.startswith("stepgrpo_exits_total")) == 13
