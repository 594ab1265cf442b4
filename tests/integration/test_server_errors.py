"""Bad input is answered as the OpenAI API answers it, and counts nowhere."""

import httpx
import openai
import pytest

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code"),
    [
        (CHAT, {"model": "nope", "messages": HI}, 404, "model", "model_not_found"),
        (CHAT, {}, 400, "messages", None),
        (CHAT, {"messages": []}, 400, "messages", None),
        (CHAT, {"messages": "hi"}, 400, "messages", None),
        (CHAT, {"messages": HI, "max_tokens": -5}, 400, "max_tokens", None),
        (CHAT, {"messages": HI, "max_tokens": -5, "stream": True}, 400, "max_tokens", None),
        (CHAT, {"messages": HI, "temperature": -1}, 400, "temperature", None),
        (CHAT, {"messages": HI, "reasoning_efficiency": "no"}, 400, "reasoning_efficiency", None),
        (CHAT, {"messages": [{"role": "user", "content": "hi " * 9000}]}, 400, "messages", "context_length_exceeded"),
        (CHAT, '{"messages": [', 400, None, None),
        (CHAT, "", 400, None, None),
        ("/v1/completions", {"prompt": "hi", "max_tokens": -5}, 400, "max_tokens", None),
        ("/v1/completions", {"prompt": "hi " * 9000}, 400, "prompt", "context_length_exceeded"),
        ("/v1/responses", {"input": "hi", "background": True}, 400, "background", None),
        ("/v1/nope", {}, 404, None, None),
    ],
)
def test_bad_input(server, counted, path, body, status, param, code):
    if isinstance(body, dict):
        answer = httpx.post(server.url + path, json={"model": server.model} | body)
    else:
        answer = httpx.post(server.url + path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.pop("message")
    assert error == {"type": "invalid_request_error", "param": param, "code": code}
    gained = counted()
    assert not any(value for key, value in gained.items() if key.startswith("stepgrpo_") and "_created" not in key)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"model": "nope"}, 404, "not_found_error"),
        ({"messages": [{"role": "user", "content": "hi " * 9000}]}, 400, "invalid_request_error"),
    ],
)
def test_bad_input_on_an_anthropic_route(server, body, status, kind):
    asked = {"model": server.model, "messages": HI, "max_tokens": 8} | body
    answer = httpx.post(f"{server.url}/v1/messages", json=asked)
    assert answer.status_code == status
    refusal = answer.json()
    assert refusal["error"].pop("message")
    assert refusal == {"type": "error", "error": {"type": kind}}


def test_the_sdk_raises_its_own_errors(server):
    with pytest.raises(openai.NotFoundError) as missing:
        server.openai.chat.completions.create(model="nope", messages=HI)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as negative:
        server.openai.chat.completions.create(model=server.model, messages=HI, max_tokens=-5)
    assert (negative.value.type, negative.value.param) == ("invalid_request_error", "max_tokens")
