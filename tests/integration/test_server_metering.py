"""Every path to an answer on the real server: each finished choice counts once, in the metrics and in its report."""

import httpx
import pytest

pytestmark = pytest.mark.integration

QUESTION = [{"role": "user", "content": "Tom has 12 apples and buys 7 more. How many apples does Tom have?"}]
CHAT = "/v1/chat/completions"


def post(server, path, **body):
    body = {"model": server.model, "max_tokens": 120, "temperature": 0} | body
    answer = httpx.post(server.url + path, json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def counted_choices(gained):
    return sum(value for key, value in gained.items() if key.startswith("stepgrpo_exits_total|"))


def reports(answer):
    return [choice["reasoning_efficiency"] for choice in answer["choices"]]


@pytest.mark.parametrize(
    ("path", "body", "choices"),
    [
        (CHAT, {"messages": QUESTION}, 1),
        (CHAT, {"messages": QUESTION, "n": 2, "temperature": 1.0}, 2),
        (CHAT, {"messages": QUESTION, "chat_template_kwargs": {"enable_thinking": False}}, 1),
        (CHAT, {"messages": QUESTION, "stop": ["boxed"]}, 1),
        (CHAT, {"messages": QUESTION, "use_beam_search": True, "n": 2, "max_tokens": 12}, 2),
        ("/v1/chat/completions/batch", {"messages": [QUESTION, QUESTION]}, 2),
        ("/v1/completions", {"prompt": ["1 + 1", "2 + 2"], "n": 2, "temperature": 1.0}, 4),
        ("/v1/completions", {"prompt": "1 + 1", "echo": True, "logprobs": 1}, 1),
        ("/v1/completions", {"prompt": "1 + 1", "structured_outputs": {"choice": ["yes", "no"]}}, 1),
        ("/v1/completions", {"prompt": "1 + 1", "structured_outputs": {"regex": "[0-9]{2}"}}, 1),
    ],
    ids=str,
)
def test_every_choice_has_a_report_and_counts_once(server, counted, path, body, choices):
    answer = post(server, path, **body)
    assert len(answer["choices"]) == len(reports(answer)) == choices
    tokens = [report["tokens"]["completion"] for report in reports(answer)]
    assert sum(tokens) == answer["usage"]["completion_tokens"]
    gained = counted()
    assert counted_choices(gained) == gained["stepgrpo_completion_tokens_count"] == choices
    assert gained["stepgrpo_completion_tokens_sum"] == sum(tokens)


def test_messages_as_anthropic_words_them(server, counted):
    answer = post(server, "/v1/messages", messages=QUESTION)
    gained = counted()
    assert counted_choices(gained) == 1
    assert gained["stepgrpo_completion_tokens_sum"] == answer["usage"]["output_tokens"]


def test_what_is_refused_counts_nowhere(server, counted):
    for body in ({"messages": []}, {"messages": QUESTION, "max_tokens": -1}, {"messages": QUESTION, "top_p": 7}):
        answer = httpx.post(server.url + CHAT, json={"model": server.model} | body)
        assert answer.status_code == 400
    assert counted_choices(counted()) == 0
