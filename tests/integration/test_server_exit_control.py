"""Exit control on the real server: what a client gets, in one piece and as a stream, and how it is counted."""

import json

import httpx
import openai
import pytest

from reasoning import parse_trace

pytestmark = pytest.mark.integration

QUESTION = [
    {
        "role": "user",
        "content": "Leo spends exactly 42 coins on tickets. Large ones cost 5 coins and small ones take 3. "
        "What is the smallest number of large tickets, at least 1, that Leo can have bought?",
    }
]
ONE_STEP = {"max_reasoning_steps": 1}
UNSURE = {"early_exit": {"policy": "confidence", "threshold": 1.0}}
SURE = {"early_exit": {"policy": "confidence", "threshold": 0.0}}
CONTROLS = [
    ONE_STEP,
    {"max_reasoning_steps": 2},
    {"thinking_token_budget": 12},
    {"max_reasoning_steps": 2, "thinking_token_budget": 12},
    SURE,
    SURE | {"max_reasoning_steps": 1},
]


@pytest.fixture(autouse=True)
def thinking_model(server):
    if server.card.recipe.name == "tiny":
        pytest.skip("a random model does not think")


def chat(server, control, **options):
    """A whole reply; greedy unless said otherwise."""
    body = {"model": server.model, "messages": QUESTION, "max_tokens": 300, "temperature": 0}
    return server.openai.chat.completions.create(
        **(body | options), extra_body=control | {"return_token_ids": True, "skip_special_tokens": False}
    )


def stream(server, control, **options):
    return list(chat(server, control, stream=True, stream_options={"include_usage": True}, **options))


def text_of(message):
    return (message.model_extra.get("reasoning") or "", message.content or "")


def report(choice):
    return choice.model_extra["reasoning_efficiency"]


def joined(chunks):
    """Reasoning, content and token ids of a streamed choice."""
    deltas = [choice for chunk in chunks for choice in chunk.choices]
    reasoning = "".join(choice.delta.model_extra.get("reasoning") or "" for choice in deltas)
    content = "".join(choice.delta.content or "" for choice in deltas)
    tokens = [token for choice in deltas for token in choice.model_extra.get("token_ids") or ()]
    return (reasoning, content), tokens


def untagged(texts):
    """vLLM leaves a second closing tag, of a model that thinks on behind a forced one, in a stream's content alone."""
    return tuple(text.replace("</think>", "") for text in texts)


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_a_stream_is_the_whole_reply(server, control):
    whole = chat(server, control)
    (choice,) = whole.choices
    chunks = stream(server, control)
    text, tokens = joined(chunks)
    (end,) = [each for chunk in chunks for each in chunk.choices if each.finish_reason]
    assert untagged(text) == untagged(text_of(choice.message))
    assert tokens == choice.model_extra["token_ids"]
    assert (end.finish_reason, report(end)) == (choice.finish_reason, report(choice))
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == len(tokens) == report(choice)["tokens"]["completion"]
    assert whole.usage.completion_tokens_details.reasoning_tokens == report(choice)["tokens"]["reasoning"]


def test_a_step_budget(server, counted):
    free = chat(server, {}).choices[0]
    assert report(free)["steps"] >= 2
    (choice,) = chat(server, ONE_STEP).choices
    assert report(choice)["exit"]["reason"] == "step_budget"
    assert report(choice)["steps"] == report(choice)["exit"]["step"] == 1
    first = parse_trace(f"<think>{text_of(free.message)[0]}</think>", server.card.markers).steps[0].text
    assert text_of(choice.message)[0].strip() == first.strip()
    assert "boxed" in choice.message.content
    assert counted()["stepgrpo_exits_total|reason=step_budget"] == 1


def test_a_budget_that_is_not_reached_changes_nothing(server):
    free, steered = chat(server, {}), chat(server, {"max_reasoning_steps": 50})
    assert text_of(steered.choices[0].message) == text_of(free.choices[0].message)
    assert steered.choices[0].model_extra["token_ids"] == free.choices[0].model_extra["token_ids"]
    assert report(steered.choices[0]) == report(free.choices[0])
    assert report(steered.choices[0])["exit"]["reason"] == "model"


def test_trial_answers_that_are_not_sure_leave_no_trace(server):
    free, steered = chat(server, {}), chat(server, UNSURE)
    assert text_of(steered.choices[0].message) == text_of(free.choices[0].message)
    assert steered.usage == free.usage


def test_a_sure_trial_answer_ends_the_thinking(server):
    (choice,) = chat(server, SURE).choices
    assert report(choice)["exit"]["reason"] == "confidence"
    assert "Final" not in text_of(choice.message)[0]


@pytest.mark.parametrize("budget", [0, 1, 5, 12])
def test_a_token_budget_is_told_from_the_models_own_exit(server, budget):
    """vLLM forces the closing tag and says nothing of it."""
    for control in ({}, {"max_reasoning_steps": 9}):
        (choice,) = chat(server, control | {"thinking_token_budget": budget}).choices
        assert report(choice)["exit"]["reason"] == "token_budget"
        thought = choice.model_extra["token_ids"].index(server.token("</think>")) - 1
        assert thought == budget


def test_a_token_budget_that_is_not_reached_is_not_the_reason(server):
    (choice,) = chat(server, {"thinking_token_budget": 250}).choices
    assert report(choice)["exit"]["reason"] == "model"


@pytest.mark.parametrize("limit", [1, 2, 3, 18, 19, 20, 21, 22, 23, 24, 25, 26])
def test_max_tokens_holds_over_all_pieces(server, limit):
    for control in (ONE_STEP, SURE):
        answer = chat(server, control, max_tokens=limit)
        assert answer.usage.completion_tokens <= limit
        assert answer.choices[0].finish_reason == "length"
        chunks = stream(server, control, max_tokens=limit)
        assert joined(chunks)[0] == text_of(answer.choices[0].message)


def test_log_probabilities_of_every_token(server):
    for control in (ONE_STEP, SURE):
        (choice,) = chat(server, control, logprobs=True, top_logprobs=2).choices
        entries = choice.logprobs.content
        assert len(entries) == len(choice.model_extra["token_ids"])
        assert "".join(entry.token for entry in entries).startswith("<think>")
        assert all(len(entry.top_logprobs) >= 2 and entry.logprob <= 0 for entry in entries)
        chunks = stream(server, control, logprobs=True, top_logprobs=2)
        streamed = [e for chunk in chunks for each in chunk.choices if each.logprobs for e in each.logprobs.content]
        assert [entry.token for entry in streamed] == [entry.token for entry in entries]
        assert [e.logprob for e in streamed] == pytest.approx([e.logprob for e in entries], abs=1e-3)


@pytest.mark.parametrize("before", [0, 200], ids=["alone", "behind a block of the prefix cache"])
def test_the_score_of_what_was_forced_is_the_models_own(server, before):
    """The tokens of a forced closing get the log-probability that the model gives them there."""
    messages = [{"role": "system", "content": "plus 7 " * before}] * bool(before) + QUESTION
    (choice,) = chat(server, ONE_STEP, logprobs=True, messages=messages).choices
    tokens = choice.model_extra["token_ids"]
    prompt = httpx.post(f"{server.url}/tokenize", json={"model": server.model, "messages": messages}).json()["tokens"]
    scored = server.openai.completions.create(
        model=server.model, prompt=prompt + tokens, max_tokens=1, extra_body={"prompt_logprobs": 0}
    )
    entries = scored.choices[0].model_extra["prompt_logprobs"][len(prompt) :]
    expected = [entry[str(token)]["logprob"] for entry, token in zip(entries, tokens, strict=True)]
    assert [entry.logprob for entry in choice.logprobs.content] == pytest.approx(expected, abs=2e-3)


def test_several_choices_with_a_seed(server):
    options = {"n": 3, "temperature": 1.0, "seed": 4}
    whole = chat(server, ONE_STEP, **options)
    again = chat(server, ONE_STEP, **options)
    assert [text_of(c.message) for c in whole.choices] == [text_of(c.message) for c in again.choices]
    assert all(report(choice)["steps"] <= 1 for choice in whole.choices)
    chunks = stream(server, ONE_STEP, **options)
    ends = {each.index: report(each) for chunk in chunks for each in chunk.choices if each.finish_reason}
    assert ends == {choice.index: report(choice) for choice in whole.choices}
    assert chunks[-1].usage == whole.usage


def test_a_stop_string_across_a_pause(server):
    thinking = text_of(chat(server, {}).choices[0].message)[0]
    marker = next(each for each in server.card.markers if each in thinking)
    at = thinking.index(marker)
    stop = thinking[at : at + len(marker) + 4]
    plain, steered = chat(server, {}, stop=[stop]), chat(server, {"max_reasoning_steps": 9}, stop=[stop])
    assert steered.choices[0].model_extra["stop_reason"] == stop
    assert text_of(steered.choices[0].message) == text_of(plain.choices[0].message)
    assert report(steered.choices[0])["exit"] == report(plain.choices[0])["exit"]
    assert joined(stream(server, {"max_reasoning_steps": 9}, stop=[stop]))[0] == text_of(plain.choices[0].message)


def test_structured_output_after_a_forced_exit(server):
    schema = {"type": "object", "properties": {"x": {"enum": [1, 2, 3]}}, "required": ["x"]}
    answer = chat(
        server, ONE_STEP, response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    )
    assert json.loads(answer.choices[0].message.content)["x"] in (1, 2, 3)
    assert report(answer.choices[0])["exit"]["reason"] == "step_budget"


def test_text_completions_of_several_prompts(server):
    text = f"<|im_start|>user\n{QUESTION[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    options = {"model": server.model, "prompt": [text, text + "<think>"], "max_tokens": 200, "temperature": 0}
    whole = server.openai.completions.create(**options, extra_body=ONE_STEP)
    assert [report(choice)["exit"]["reason"] for choice in whole.choices] == ["step_budget"] * 2
    assert whole.choices[0].text.removeprefix("<think>") == whole.choices[1].text
    chunks = list(server.openai.completions.create(stream=True, **options, extra_body=ONE_STEP))
    for choice in whole.choices:
        parts = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert report(parts[-1]) == report(choice)


def test_the_responses_api(server):
    options = {"model": server.model, "input": QUESTION[0]["content"], "temperature": 0, "max_output_tokens": 300}
    for control, reason in (({}, "model"), (ONE_STEP, "step_budget"), ({"thinking_token_budget": 5}, "token_budget")):
        whole = server.openai.responses.create(**options, extra_body=control)
        found = whole.model_extra["reasoning_efficiency"]
        assert found["exit"]["reason"] == reason
        assert whole.usage.output_tokens == found["tokens"]["completion"]
        assert whole.usage.output_tokens_details.reasoning_tokens == found["tokens"]["reasoning"]
        *_, last = server.openai.responses.create(stream=True, **options, extra_body=control)
        assert last.type == "response.completed"
        assert last.response.model_extra["reasoning_efficiency"] == found
        assert last.response.usage == whole.usage
    off = server.openai.responses.create(**options, extra_body={"reasoning_efficiency": False})
    assert "reasoning_efficiency" not in off.model_extra


def test_thinking_that_is_off_is_left_alone(server):
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    assert text_of(chat(server, off | ONE_STEP).choices[0].message) == text_of(chat(server, off).choices[0].message)
    assert report(chat(server, off | ONE_STEP).choices[0])["exit"]["reason"] == "none"


def test_a_client_that_leaves_is_counted_once(server, counted):
    parts = chat(server, {"max_reasoning_steps": 50, "ignore_eos": True}, stream=True, max_tokens=1500)
    next(iter(parts))
    parts.close()
    answered = chat(server, ONE_STEP)
    gained = counted()
    assert sum(value for key, value in gained.items() if key.startswith("stepgrpo_exits_total|")) == 2
    assert gained["stepgrpo_exits_total|reason=abort"] == 1
    assert gained["stepgrpo_completion_tokens_sum"] == answered.usage.completion_tokens


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_reasoning_steps": 0}, "max_reasoning_steps"),
        ({"max_reasoning_steps": "one"}, "max_reasoning_steps"),
        ({"early_exit": {"policy": "luck"}}, "early_exit.policy"),
        ({"early_exit": {"policy": "confidence", "threshold": 2}}, "early_exit.threshold"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        (ONE_STEP | {"min_tokens": 5}, "min_tokens"),
        (ONE_STEP | {"presence_penalty": 0.5}, "presence_penalty"),
        (ONE_STEP | {"logprobs": True, "logprob_token_ids": [5, 6]}, "logprob_token_ids"),
        (ONE_STEP | {"use_beam_search": True}, "use_beam_search"),
    ],
)
def test_what_does_not_fit_is_refused(server, body, param):
    with pytest.raises(openai.BadRequestError) as refused:
        chat(server, body)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_a_stream_of_a_response_is_refused_before_it_begins(server):
    with pytest.raises(openai.BadRequestError) as refused:
        server.openai.responses.create(
            model=server.model, input="2 + 2?", stream=True, extra_body=ONE_STEP | {"presence_penalty": 0.5}
        )
    assert refused.value.param == "presence_penalty"
