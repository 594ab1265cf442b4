"""What `vllm serve` can beyond plain chat, on one real server: aliases, LoRA, tools, grammars, background, token ids.

The served checkpoint is the bundled one, taught in seconds to call a tool at one question; adapters were taught other
answers to it. So every answer is known to the letter, and comes from the engine all the same.
"""

import json
import re
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from real_server import Server, start_server, stop_server
from teaching import taught_adapter, taught_checkpoint

from reasoning import load_card, parse_trace

pytestmark = pytest.mark.integration

NAME, ALIAS, ADAPTER, LATER = "tutor", "helper", "from-the-start", "loaded-later"
ASKED = "Tom has 12 apples and buys 7 more. How many apples does Tom have?"
QUESTION = [{"role": "user", "content": ASKED}]
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 12, "b": 7}}\n</tool_call>'
ANSWERS = {
    NAME: f"<think>\nThe tool adds.\n</think>\n\n{CALL}",
    ADAPTER: "<think>\n12 plus 7 is 19.\nWait, 19.\n</think>\n\nThe answer is \\boxed{19}.",
    LATER: "<think>\n7 plus 12 is 19.\nIndeed, 19.\nIndeed, sure.\n</think>\n\nIt is \\boxed{19}.",
}
OWN_MARKERS = ("Indeed",)
"""Of the card of the adapter that is loaded later; the other has no card, and the checkpoint's markers."""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
        },
    }
    for name in ("add", "multiply")
]
OFF = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.fixture(scope="module")
def parity(checkpoint, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("parity")
    known = {ASKED: ANSWERS[NAME], "How much is 12 plus 7?": ANSWERS[ADAPTER], "7 plus 12?": ANSWERS[LATER]}
    taught = taught_checkpoint(checkpoint, folder / NAME, known)
    for name in (ADAPTER, LATER):
        taught_adapter(taught, folder / name, {ASKED: ANSWERS[name]})
    card = load_card(taught)
    card.model_copy(update={"markers": OWN_MARKERS, "base_model": NAME}).save(folder / LATER)
    options = ["--served-model-name", NAME, ALIAS, "--enable-scale-out"]
    options += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    options += ["--enable-lora", "--max-lora-rank", "8", "--max-loras", "2"]
    options += ["--lora-modules", f"{ADAPTER}={folder / ADAPTER}"]
    options += ["--reasoning-content", "true"]
    environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_ENABLE_RESPONSES_API_STORE": "1"}
    server = start_server(taught, folder / "log", *options, **environment)
    yield server
    stop_server(server)


def chat(server, model=NAME, control=None, **options):
    body = {"model": model, "messages": QUESTION, "max_tokens": 200, "temperature": 0} | options
    return server.openai.chat.completions.create(**body, extra_body=control)


def report(choice):
    return choice.model_extra["reasoning_efficiency"]


def text_of(message):
    return f"<think>{message.model_extra['reasoning']}</think>{message.content}"


def joined(chunks, field):
    deltas = [choice.delta.model_dump() for chunk in chunks for choice in chunk.choices]
    return "".join(delta.get(field) or "" for delta in deltas)


def efficiency(server, model):
    """The totals of a model; None where it has none."""
    (found,) = httpx.get(f"{server.url}/v1/efficiency", params={"model": model}).json()["data"] or [None]
    return found


def tokens_of(metrics):
    return metrics["stepgrpo_completion_tokens_count"], metrics["stepgrpo_completion_tokens_sum"]


def counts_once(server, model, before, completion):
    """Whether the metrics and the totals of a model gained one answer of so many tokens."""
    count, tokens = tokens_of(server.metrics(model))
    assert (count - tokens_of(before)[0], tokens - tokens_of(before)[1]) == (1, completion)
    totals = efficiency(server, model)
    assert totals["answers"] == count
    assert totals["tokens_per_answer"]["completion"] == pytest.approx(tokens / count, abs=1e-3)
    return True


def models(server):
    return {model.id: model.model_extra.get("parent") for model in server.openai.models.list().data}


def test_an_alias_answers_like_the_first_name_and_counts_for_it(parity):
    assert models(parity) == {NAME: None, ALIAS: None, ADAPTER: NAME}
    before = parity.metrics(NAME)
    first, other = chat(parity, NAME), chat(parity, ALIAS)
    assert first.model == other.model == NAME
    assert report(first.choices[0]) == report(other.choices[0])
    assert first.usage == other.usage
    gained = parity.metrics(NAME)["stepgrpo_completion_tokens_count"] - before["stepgrpo_completion_tokens_count"]
    assert gained == 2
    assert "stepgrpo_completion_tokens_count" not in parity.metrics(ALIAS)
    assert efficiency(parity, ALIAS) is None


def test_an_adapter_from_the_start(parity):
    before, base = parity.metrics(ADAPTER), tokens_of(parity.metrics(NAME))
    assert tokens_of(before) == (0, 0)
    answer = chat(parity, ADAPTER)
    (choice,) = answer.choices
    assert answer.model == ADAPTER
    assert text_of(choice.message) == ANSWERS[ADAPTER]
    found = report(choice)
    assert found["exit"]["reason"] == "model"
    assert found["steps"] == len(parse_trace(ANSWERS[ADAPTER], parity.card.markers).steps) == 2
    assert found["baseline"] == {"source": "none", "completion_tokens": None}
    assert found["tokens"]["completion"] == answer.usage.completion_tokens
    assert counts_once(parity, ADAPTER, before, answer.usage.completion_tokens)
    assert tokens_of(parity.metrics(NAME)) == base


def test_a_stream_and_exit_control_of_an_adapter(parity):
    chunks = list(chat(parity, ADAPTER, stream=True))
    assert f"<think>{joined(chunks, 'reasoning')}</think>{joined(chunks, 'content')}" == ANSWERS[ADAPTER]
    forced = report(chat(parity, ADAPTER, {"max_reasoning_steps": 1}).choices[0])
    assert (forced["steps"], forced["exit"]["reason"]) == (1, "step_budget")


def test_the_thinking_is_there_under_its_older_name_too(parity):
    message = chat(parity).choices[0].message.model_extra
    assert message["reasoning_content"] == message["reasoning"] != ""
    chunks = list(chat(parity, stream=True))
    assert joined(chunks, "reasoning_content") == joined(chunks, "reasoning") == message["reasoning"]


def test_an_adapter_at_run_time(parity):
    """It comes with its own card, gives way to another under its name, and goes."""
    folder = parity.checkpoint.parent

    def change(action, **body):
        answer = httpx.post(f"{parity.url}/v1/{action}_lora_adapter", json={"lora_name": LATER} | body, timeout=60)
        assert answer.status_code == 200, answer.text

    change("load", lora_path=str(folder / LATER))
    assert models(parity)[LATER] == NAME
    before = parity.metrics(LATER)
    answer = chat(parity, LATER)
    (choice,) = answer.choices
    assert text_of(choice.message) == ANSWERS[LATER]
    assert report(choice)["steps"] == len(parse_trace(ANSWERS[LATER], OWN_MARKERS).steps) == 3
    assert report(choice)["baseline"]["source"] == "calibrated"
    assert counts_once(parity, LATER, before, answer.usage.completion_tokens)
    published = f"|algorithm=step-grpo|base_model={NAME}|recipe={parity.card.recipe.name}"
    assert parity.metrics(LATER)[f"stepgrpo_checkpoint_info{published}"] == 1

    change("load", lora_path=str(folder / ADAPTER), load_inplace=True)
    (choice,) = chat(parity, LATER).choices
    assert text_of(choice.message) == ANSWERS[ADAPTER]
    assert (report(choice)["steps"], report(choice)["baseline"]["source"]) == (2, "none")
    assert efficiency(parity, LATER)["answers"] == 1
    assert f"stepgrpo_checkpoint_info{published}" not in parity.metrics(LATER)

    change("unload")
    assert LATER not in models(parity)
    with pytest.raises(openai.NotFoundError) as gone:
        chat(parity, LATER)
    assert gone.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("load", {"lora_name": "x", "lora_path": "no-such-folder"}, 404),
        ("load", {"lora_name": ALIAS, "lora_path": "no-such-folder"}, 400),
        ("load", {"lora_name": ADAPTER, "lora_path": "no-such-folder"}, 400),
        ("load", {"lora_name": "x"}, 400),
        ("unload", {"lora_name": "x"}, 404),
    ],
    ids=str,
)
def test_an_adapter_that_cannot_be_loaded(parity, action, body, status):
    served = models(parity)
    answer = httpx.post(f"{parity.url}/v1/{action}_lora_adapter", json=body, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert models(parity) == served
    assert efficiency(parity, "x") is None


def test_a_tool_is_called_automatically(parity):
    """By the model itself: nothing but its weights makes it write the call."""
    before = parity.metrics(NAME)
    answer = chat(parity, tools=TOOLS)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 12, "b": 7})
    assert choice.message.model_extra["reasoning"] == "\nThe tool adds.\n"
    assert (report(choice)["steps"], report(choice)["exit"]["reason"]) == (1, "model")
    assert counts_once(parity, NAME, before, answer.usage.completion_tokens)

    chunks = list(chat(parity, tools=TOOLS, stream=True))
    parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or ()]
    assert [part.function.name for part in parts if part.function.name] == ["add"]
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == {"a": 12, "b": 7}
    (end,) = [choice for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert (end.finish_reason, report(end)) == ("tool_calls", report(choice))

    result = {"role": "tool", "tool_call_id": call.id, "content": "19"}
    turn = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    assert report(chat(parity, messages=[*QUESTION, turn, result], tools=TOOLS).choices[0])
    assert not chat(parity, tools=TOOLS, tool_choice="none").choices[0].message.tool_calls


def test_the_responses_api_calls_a_tool(parity):
    tools = [{"type": "function", "strict": False} | tool["function"] for tool in TOOLS]
    answer = parity.openai.responses.create(model=NAME, input=ASKED, tools=tools, temperature=0)
    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("add", {"a": 12, "b": 7})
    assert answer.model_extra["reasoning_efficiency"]["tokens"]["completion"] == answer.usage.output_tokens


@pytest.mark.parametrize("control", [{}, {"max_reasoning_steps": 1}], ids=str)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "halve"}}], ids=str)
def test_a_strict_tool_that_must_be_called(parity, choice, control):
    """Its arguments are held to their schema; those of a tool that is not strict are any JSON, as with `vllm serve`."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "enum": [{"a": 12}, {"a": 7}]}
    tool = {"type": "function", "function": {"name": "halve", "strict": True, "parameters": schema}}
    answer = chat(parity, ADAPTER, control, tools=[tool], tool_choice=choice, parallel_tool_calls=False)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "halve"
    assert json.loads(call.function.arguments) in schema["enum"]
    assert report(answer.choices[0])["tokens"]["completion"] == answer.usage.completion_tokens


GRAMMARS = {"GBNF": 'root ::= ("apples" | "pears") " " [0-9]', "Lark": 'start: ("apples" | "pears") " " /[0-9]/'}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_a_grammar(parity, grammar):
    """On both routes, and after a forced exit."""
    held = {"structured_outputs": {"grammar": grammar}}
    pattern = r"(apples|pears) \d"
    for control in (OFF, {"max_reasoning_steps": 1}):
        (choice,) = chat(parity, ADAPTER, held | control).choices
        assert re.fullmatch(pattern, choice.message.content.strip())
        assert report(choice)["tokens"]["completion"] > 0
    thought = "1 + 1\n<think>\n</think>\n\n"  # a grammar begins where thinking has ended, as with vLLM
    plain = parity.openai.completions.create(model=NAME, prompt=thought, max_tokens=20, extra_body=held)
    assert re.fullmatch(pattern, plain.choices[0].text)


def test_a_response_in_the_background(parity):
    before = parity.metrics(ADAPTER)
    client = parity.openai.responses
    queued = client.create(model=ADAPTER, input=ASKED, temperature=0, background=True)
    assert queued.status == "queued"
    assert "reasoning_efficiency" not in queued.model_extra
    answer = queued
    deadline = time.monotonic() + 60
    while answer.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.05)
        answer = client.retrieve(queued.id)
    assert answer.status == "completed"
    assert answer.output_text == ANSWERS[ADAPTER].partition("</think>")[2]
    found = answer.model_extra["reasoning_efficiency"]
    assert found["tokens"]["completion"] == answer.usage.output_tokens
    assert found["tokens"]["reasoning"] == answer.usage.output_tokens_details.reasoning_tokens
    assert counts_once(parity, ADAPTER, before, answer.usage.output_tokens)

    options = {"model": ADAPTER, "input": ASKED, "temperature": 0, "max_output_tokens": 100}
    *_, last = client.create(**options, background=True, stream=True, extra_body={"max_reasoning_steps": 1})
    assert last.type == "response.completed"
    assert last.response.model_extra["reasoning_efficiency"]["exit"]["reason"] == "step_budget"
    *_, again = client.retrieve(last.response.id, stream=True)
    assert again == last


def test_a_response_in_the_background_that_is_cancelled(parity):
    before = parity.metrics(NAME)["stepgrpo_exits_total|reason=abort"]
    endless = parity.endless()["logit_bias"]
    queued = parity.openai.responses.create(
        model=NAME, input=ASKED, background=True, extra_body={"logit_bias": endless, "ignore_eos": True}
    )
    assert parity.openai.responses.cancel(queued.id).status == "cancelled"
    assert parity.metrics(NAME)["stepgrpo_exits_total|reason=abort"] == before + 1


def test_token_ids_in_and_out(parity):
    asked = httpx.post(f"{parity.url}/tokenize", json={"model": ADAPTER, "messages": QUESTION}).json()["tokens"]
    expected = chat(parity, ADAPTER, {"return_token_ids": True})

    def generate(**body):
        sampling = {"temperature": 0, "max_tokens": 200} | body.pop("sampling", {})
        body = {"model": ADAPTER, "token_ids": asked, "sampling_params": sampling} | body
        answer = httpx.post(f"{parity.url}/inference/v1/generate", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer

    for mode in ("tokens", "text"):
        before = parity.metrics(ADAPTER)
        answer = generate(output_mode=mode).json()
        (choice,) = answer["choices"]
        assert choice["token_ids"] == expected.choices[0].model_extra["token_ids"]
        assert choice.get("text") == (ANSWERS[ADAPTER] if mode == "text" else None)
        assert counts_once(parity, ADAPTER, before, answer["usage"]["completion_tokens"])
    before = parity.metrics(ADAPTER)
    assert generate(stream=True).text.endswith("data: [DONE]\n\n")
    assert counts_once(parity, ADAPTER, before, expected.usage.completion_tokens)

    before = parity.metrics()["vllm:request_generation_tokens_sum"], tokens_of(parity.metrics(ADAPTER))
    generate(sampling={"detokenize": False})
    after = parity.metrics()["vllm:request_generation_tokens_sum"], tokens_of(parity.metrics(ADAPTER))
    assert after == (before[0] + expected.usage.completion_tokens, before[1])
