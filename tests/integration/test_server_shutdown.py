"""Last of the server's tests, because it stops the server that they share."""

import signal

import httpx
import pytest

pytestmark = pytest.mark.integration

QUESTION = [{"role": "user", "content": "How much is 12 plus 7?"}]


def test_requests_in_flight_are_finished_after_sigterm(server):
    stream = server.openai.chat.completions.create(
        model=server.model, messages=QUESTION, max_tokens=800, stream=True, extra_body={"ignore_eos": True}
    )
    first = next(iter(stream))
    server.process.send_signal(signal.SIGTERM)
    chunks = [first, *stream]
    ended = [choice for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert [choice.finish_reason for choice in ended] == ["length"]
    assert ended[0].model_extra["reasoning_efficiency"]["tokens"]["completion"] == 800
    assert server.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")
