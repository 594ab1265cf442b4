"""One list of calls, made with the official OpenAI SDKs for Python and Node: both must get what the API promises."""

import json

import pytest
from sdks import node_outcomes, python_outcomes

pytestmark = pytest.mark.integration

FIELD = "reasoning_efficiency"


@pytest.fixture(scope="module", params=["python", "node"])
def outcomes(request, server, tmp_path_factory):
    if request.param == "python":
        return python_outcomes(server)
    return node_outcomes(server, tmp_path_factory.mktemp("node"))


def only(response):
    (choice,) = response["choices"]
    return choice


def test_models(outcomes, server):
    listed = outcomes["models"]
    assert [model["id"] for model in listed.get("data", listed)] == [server.model]


def test_chat(outcomes):
    choice, usage = only(outcomes["chat"]), outcomes["chat"]["usage"]
    assert choice["message"]["role"] == "assistant"
    tokens = choice[FIELD]["tokens"]
    assert tokens["completion"] == usage["completion_tokens"]
    assert tokens["reasoning"] == usage["completion_tokens_details"]["reasoning_tokens"] > 0


def test_a_stream_brings_what_the_whole_answer_holds(outcomes):
    *chunks, last = outcomes["chat stream"]
    whole = only(outcomes["chat"])
    for field in ("content", "reasoning"):
        text = "".join(choice["delta"].get(field) or "" for chunk in chunks for choice in chunk["choices"])
        assert text == (whole["message"].get(field) or "")
    reports = [choice[FIELD] for chunk in chunks for choice in chunk["choices"] if FIELD in choice]
    assert reports == [whole[FIELD]]
    assert last["usage"] == {name: value for name, value in outcomes["chat"]["usage"].items() if value is not None}


def test_several_choices(outcomes):
    choices = outcomes["several choices"]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert all(choice[FIELD]["tokens"]["completion"] > 0 for choice in choices)


def test_text_completions(outcomes):
    choices = outcomes["text completion"]["choices"]
    assert [choice[FIELD]["tokens"]["completion"] for choice in choices] == [8, 8]


def test_a_response(outcomes):
    response = outcomes["response"]
    assert response["status"] in ("completed", "incomplete")
    assert response[FIELD]["tokens"]["completion"] == response["usage"]["output_tokens"]


def test_structured_output(outcomes):
    assert json.loads(only(outcomes["structured output"])["message"]["content"])["x"] in (1, 2, 3)


ARGUMENTS = ({"a": 12, "b": 7}, {"a": 7, "b": 12})


@pytest.mark.parametrize(("call", "finish"), [("tool call", "stop"), ("required tool", "tool_calls")])
def test_a_tool_call(outcomes, call, finish):
    """A call of a tool that was named ends with `stop`, as in the OpenAI API."""
    choice = only(outcomes[call])
    (called,) = choice["message"]["tool_calls"]
    assert (called["type"], called["function"]["name"], choice["finish_reason"]) == ("function", "add", finish)
    assert json.loads(called["function"]["arguments"]) in ARGUMENTS
    assert choice[FIELD]["tokens"]["completion"] == outcomes[call]["usage"]["completion_tokens"]


def test_a_stream_brings_the_same_tool_call(outcomes):
    *chunks, last = outcomes["tool call stream"]
    whole = only(outcomes["tool call"])
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    parts = [part for choice in choices for part in choice["delta"].get("tool_calls") or ()]
    (name,) = [part["function"]["name"] for part in parts if part["function"].get("name")]
    arguments = "".join(part["function"].get("arguments") or "" for part in parts)
    (called,) = whole["message"]["tool_calls"]
    assert (name, json.loads(arguments)) == ("add", json.loads(called["function"]["arguments"]))
    (end,) = [choice for choice in choices if choice.get("finish_reason")]
    assert (end["finish_reason"], end[FIELD]) == (whole["finish_reason"], whole[FIELD])
    assert last["usage"]["completion_tokens"] == whole[FIELD]["tokens"]["completion"]


def test_the_result_of_a_tool_goes_back(outcomes):
    assert only(outcomes["tool result"])[FIELD]["tokens"]["completion"] > 0


def test_a_response_calls_a_tool(outcomes):
    response = outcomes["tool call of a response"]
    (called,) = [item for item in response["output"] if item["type"] == "function_call"]
    assert called["name"] == "add"
    assert json.loads(called["arguments"]) in ARGUMENTS
    assert response[FIELD]["tokens"]["completion"] == response["usage"]["output_tokens"]


def test_logprobs(outcomes):
    tokens = only(outcomes["logprobs"])["logprobs"]["content"]
    assert len(tokens) == 5
    assert all(token["logprob"] == max(top["logprob"] for top in token["top_logprobs"]) for token in tokens)


def test_exit_control(outcomes):
    report = only(outcomes["step budget"])[FIELD]
    assert report["steps"] <= 1


def test_the_report_can_be_left_out(outcomes):
    assert FIELD not in only(outcomes["no report"])


@pytest.mark.parametrize(
    ("call", "raised", "status", "param", "code"),
    [
        ("unknown model", "NotFoundError", 404, "model", "model_not_found"),
        ("bad parameter", "BadRequestError", 400, "max_tokens", None),
        ("bad parameter of a stream", "BadRequestError", 400, "max_tokens", None),
        ("bad exit control", "BadRequestError", 400, "max_reasoning_steps", None),
        ("unknown response", "NotFoundError", 404, "response_id", None),
    ],
)
def test_errors(outcomes, call, raised, status, param, code):
    expected = {"error": raised, "status": status, "code": code, "type": "invalid_request_error", "param": param}
    assert outcomes[call] == expected
