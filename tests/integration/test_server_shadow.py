"""Shadow requests to the server's own address: an adapter is compared with the checkpoint that it was put on.

Both were taught their answers to one question, so what is compared is known to the token.
"""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import httpx
import pytest
from prometheus import free_port
from real_server import Server, start_server, stop_server
from teaching import taught_adapter, taught_checkpoint

from server.shadow import PRIORITY

pytestmark = pytest.mark.integration

NAME, ALIAS, ADAPTER = "base", "also-base", "adapter"
ASKED = "Tom has 12 apples and buys 7 more. How many apples does Tom have?"
LONG = "<think>\n12 plus 7 is 19.\nWait, 7 plus 12 is 19.\n</think>\n\nThe answer is \\boxed{19}."
SHORT = "<think>\n12 plus 7 is 19.\n</think>\n\nThe answer is \\boxed{19}."
LENGTHY = 1000
"""Tokens of answers that take seconds."""
PATIENCE = 300
"""Seconds that they may take on a busy machine."""
OUTCOMES = ("compared", "skipped", "failed")


@pytest.fixture(scope="module")
def shadowed(checkpoint, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("shadowed")
    taught = taught_checkpoint(checkpoint, folder / NAME, {ASKED: LONG, "How much is 12 plus 7?": SHORT})
    taught_adapter(taught, folder / ADAPTER, {ASKED: SHORT})
    port = free_port()
    options = ["--served-model-name", NAME, ALIAS, "--scheduling-policy", "priority", "--log-format", "json"]
    options += ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{ADAPTER}={folder / ADAPTER}"]
    options += ["--max-loras", "2"]  # one more than there are: vLLM's CPU build puts the last on the base as well
    options += ["--shadow-url", f"http://127.0.0.1:{port}", "--shadow-model", NAME, "--shadow-share", "1"]
    server = start_server(taught, folder / "log", *options, port=port)
    yield server
    stop_server(server)


def tokens_of_answer(server, model, **options):
    body = {"model": model, "messages": [{"role": "user", "content": ASKED}], "max_tokens": 200, "temperature": 0}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body | options, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["completion_tokens"]


def outcomes(server, model):
    """Shadow requests of a model by their outcome, those that occurred."""
    samples = server.metrics(model)
    counts = {name: samples[f"stepgrpo_shadow_requests_total|outcome={name}"] for name in OUTCOMES}
    return {name: count for name, count in counts.items() if count}


def answers(server, model):
    return server.metrics(model)["stepgrpo_completion_tokens_count"]


def pairs(server):
    """What was compared of the adapter: pairs, its own tokens, and those of the base model."""
    (found,) = httpx.get(f"{server.url}/v1/efficiency", params={"model": ADAPTER}).json()["data"]
    savings = found["savings"].get("shadow", {"answers": 0, "actual_tokens": 0, "baseline_tokens": 0})
    return savings["answers"], savings["actual_tokens"], savings["baseline_tokens"]


def next_pair(server, **options):
    """Ask the adapter, and wait for its pair: its own tokens and the base's. No replay stays under way."""
    before = pairs(server)
    answered = tokens_of_answer(server, ADAPTER, priority=-1, **options)
    deadline = time.monotonic() + PATIENCE
    while (after := pairs(server)) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    added = [new - old for new, old in zip(after, before, strict=True)]
    assert added[:2] == [1, answered]
    return added[1:]


def test_an_adapter_is_compared_with_its_own_base(shadowed):
    before = answers(shadowed, NAME)
    own, base = next_pair(shadowed)
    assert answers(shadowed, NAME) == before + 1
    assert own < base == tokens_of_answer(shadowed, NAME)


def test_the_base_answers_as_such_beside_the_adapter(shadowed):
    """With a place for one more adapter; without, vLLM's CPU build gives it the adapter's weights in a common batch."""
    alone, before = tokens_of_answer(shadowed, NAME), answers(shadowed, ADAPTER)
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(next_pair, shadowed, ignore_eos=True, max_tokens=LENGTHY)
        while shadowed.metrics()["vllm:num_requests_running"] == 0:
            assert not beside.done()
        assert tokens_of_answer(shadowed, NAME) == alone
        assert answers(shadowed, ADAPTER) == before
        assert beside.result() == [LENGTHY, LENGTHY]


@pytest.mark.parametrize("name", [NAME, ALIAS])
def test_the_base_is_not_compared_with_itself(shadowed, name):
    next_pair(shadowed)
    before = answers(shadowed, NAME)
    tokens_of_answer(shadowed, name)
    next_pair(shadowed)
    assert answers(shadowed, NAME) == before + 2
    assert outcomes(shadowed, NAME) == {}


def test_vllm_knows_the_header_that_puts_a_replay_last():
    assert import_module("vllm.entrypoints.generate.base.serving").PRIORITY_HEADER.lower() == PRIORITY


def test_a_replay_does_not_hold_up_the_end(shadowed):
    """Last, because it stops the server: the log says that its client has left the replay."""
    assert tokens_of_answer(shadowed, ADAPTER, ignore_eos=True, max_tokens=LENGTHY) == LENGTHY
    time.sleep(0.3)
    assert shadowed.metrics()["vllm:num_requests_running"] == 1
    shadowed.process.send_signal(signal.SIGTERM)
    assert shadowed.process.wait(60) == 0
    lines = [json.loads(line) for line in shadowed.log.read_text().splitlines() if line.startswith("{")]
    *_, asked, replayed = [line for line in lines if line.get("path") == "/v1/chat/completions"]
    assert (asked["model"], asked["status"], asked["completion_tokens"]) == (ADAPTER, 200, LENGTHY)
    assert (replayed["model"], replayed["status"], replayed["completion_tokens"]) == (NAME, None, 0)
