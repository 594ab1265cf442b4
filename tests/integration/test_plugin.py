"""The second door: vLLM's own server, started as its users start it, with our plug-in."""

import os
import signal
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from real_server import Server, start_stock_server, stop_server

pytestmark = pytest.mark.integration

QUESTION = [{"role": "user", "content": "Tom has 12 apples and buys 7 more. How many apples does Tom have?"}]
CAP = 40
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
ADD = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}}
CALL = r'<tool_call>\n\{"name": "add", "arguments": \{"a": [12]\}\}\n</tool_call>'
"""What a model that knows tools would write; the bundled one is held to it."""


@pytest.fixture(scope="module")
def stock(checkpoint, tmp_path_factory) -> Iterator[Server]:
    options = ("--host", "127.0.0.1", "--dtype", "float32", "--reasoning-parser", "qwen3", *TOOLS)
    options += ("--shutdown-timeout", "120")  # a busy machine is slow to end its answers
    environment = {
        "VLLM_PLUGINS": "stepgrpo",
        "STEPGRPO_THINKING_TOKEN_BUDGET_CAP": str(CAP),
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
    }
    server = start_stock_server(checkpoint, tmp_path_factory.mktemp("stock") / "log", *options, **environment)
    yield server
    stop_server(server)


def test_a_stock_server_reports_and_steers(stock):
    def chat(**fields):
        return stock.openai.chat.completions.create(
            model=stock.model, messages=QUESTION, max_tokens=200, temperature=0, **fields
        )

    before = stock.metrics()
    (choice,) = chat().choices
    report = choice.model_extra["reasoning_efficiency"]
    assert report["baseline"]["source"] == "calibrated"
    *_, last = chat(stream=True)
    assert last.choices[0].model_extra["reasoning_efficiency"] == report

    steered = chat(extra_body={"max_reasoning_steps": 1})
    assert steered.choices[0].model_extra["reasoning_efficiency"]["steps"] <= 1
    assert report["tokens"]["reasoning"] <= CAP + 2  # both tags

    after = stock.metrics()
    gained = {name: after[name] - before[name] for name in after if name in before}
    assert gained["stepgrpo_completion_tokens_count"] == 3
    (efficiency,) = httpx.get(f"{stock.url}/v1/efficiency").json()["data"]
    assert (efficiency["model"], efficiency["requests"]) == (stock.model, 3)
    assert httpx.get(f"{stock.url}/ready").status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_beam_search_cannot_evade_a_cap(stock, stream):
    with pytest.raises(openai.BadRequestError, match="with this server's limits on thinking"):
        stock.openai.chat.completions.create(
            model=stock.model, messages=QUESTION, stream=stream, extra_body={"use_beam_search": True}
        )


@pytest.mark.parametrize("control", [{}, {"max_reasoning_steps": 1}])
def test_a_tool_call_is_metered(stock, control):
    answer = stock.openai.chat.completions.create(
        model=stock.model,
        messages=QUESTION,
        max_tokens=300,
        temperature=0,
        tools=[{"type": "function", "function": ADD}],
        extra_body={"structured_outputs": {"regex": CALL}} | control,
    )
    (choice,) = answer.choices
    assert choice.message.tool_calls[0].function.name == "add"
    report = choice.model_extra["reasoning_efficiency"]
    assert report["tokens"]["completion"] == answer.usage.completion_tokens


def test_a_stock_server_that_drains_is_not_ready(stock):
    """Last, because it stops the server."""
    with httpx.Client(base_url=stock.url, timeout=60) as http:
        body = {
            "model": stock.model,
            "messages": QUESTION,
            "stream": True,
            "ignore_eos": True,
            "max_tokens": 1500,
            "n": 4,
        }
        with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            events = answer.iter_lines()
            next(events)
            assert http.get("/ready").status_code == 200
            stock.process.send_signal(signal.SIGTERM)
            while http.get("/ready").status_code != 503:
                time.sleep(0.1)
            *_, done = (line for line in events if line)
    assert done == "data: [DONE]"
    assert stock.process.wait(30) == 0
