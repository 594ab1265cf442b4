"""The reports in answers of the real server, read with the official SDK and checked against the returned text."""

import asyncio

import httpx
import pytest

from reasoning import parse_trace

pytestmark = pytest.mark.integration

QUESTION = [{"role": "user", "content": "Tom has 12 apples and buys 7 more. How many apples does Tom have?"}]
THINKING = "<|im_start|>user\nHow much is 12 plus 7?<|im_end|>\n<|im_start|>assistant\n<think>\n"
FIELD = "reasoning_efficiency"


def report(choice):
    return choice.model_extra[FIELD]


def text_of(message):
    """The completion, put together again from what the parser made of it."""
    thinking = message.model_extra.get("reasoning")
    return (message.content or "") if thinking is None else f"<think>{thinking}</think>{message.content or ''}"


def agrees_with_text(report, message, markers):
    trace = parse_trace(text_of(message), markers)
    return report["steps"] == report["exit"]["step"] == len(trace.steps)


def agrees_with_itself(report, card):
    tokens = report["tokens"]
    ratio = card.calibration.savings_ratio.mean
    expected = tokens["completion"] / (1 - ratio)
    assert tokens["completion"] == tokens["reasoning"] + tokens["answer"]
    assert tokens["reasoning"] == report["exit"]["reasoning_tokens"]
    assert report["baseline"] == {"source": "calibrated", "completion_tokens": round(expected, 1)}
    assert report["tokens_saved"] == round(expected - tokens["completion"], 1)
    assert report["savings_ratio"] == ratio
    return True


def stream_chat(server, **options):
    return list(
        server.openai.chat.completions.create(
            model=server.model, messages=QUESTION, stream=True, stream_options={"include_usage": True}, **options
        )
    )


def test_an_answer(server):
    answer = server.openai.chat.completions.create(model=server.model, messages=QUESTION, max_tokens=400)
    (choice,) = answer.choices
    assert agrees_with_text(report(choice), choice.message, server.card.markers)
    assert agrees_with_itself(report(choice), server.card)
    assert report(choice)["tokens"]["completion"] == answer.usage.completion_tokens
    assert report(choice)["tokens"]["reasoning"] == answer.usage.completion_tokens_details.reasoning_tokens


def test_the_checkpoint_thinks_in_steps(server):
    """Where the bundled checkpoint is served, answers really have a thinking block that the model closes itself."""
    if server.card.recipe.name == "tiny":
        pytest.skip("a random model does not think")
    answer = server.openai.chat.completions.create(model=server.model, messages=QUESTION, temperature=0)
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert report(choice)["exit"]["reason"] == "model"
    assert report(choice)["steps"] >= 1
    assert choice.message.model_extra["reasoning"].strip()
    assert "boxed" in choice.message.content


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 3, "temperature": 1.0}])
def test_a_stream_reports_the_same_as_the_whole_answer(server, options):
    options |= {"max_tokens": 300}
    whole = server.openai.chat.completions.create(model=server.model, messages=QUESTION, **options)
    chunks = stream_chat(server, **options)
    ended = [choice for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    carrying = [choice for chunk in chunks for choice in chunk.choices if FIELD in (choice.model_extra or {})]
    assert ended == carrying
    content = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert content == (whole.choices[0].message.content or "")
    assert report(ended[0]) == report(whole.choices[0])
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.completion_tokens_details == whole.usage.completion_tokens_details


def test_several_choices(server):
    answer = server.openai.chat.completions.create(
        model=server.model, messages=QUESTION, n=3, max_tokens=300, temperature=1.0, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert agrees_with_text(report(choice), choice.message, server.card.markers)
    tokens = [report(choice)["tokens"] for choice in answer.choices]
    assert sum(part["completion"] for part in tokens) == answer.usage.completion_tokens
    assert sum(part["reasoning"] for part in tokens) == answer.usage.completion_tokens_details.reasoning_tokens
    chunks = stream_chat(server, n=3, max_tokens=300, temperature=1.0, seed=1)
    streamed = {choice.index: report(choice) for chunk in chunks for choice in chunk.choices if choice.finish_reason}
    assert streamed == {choice.index: report(choice) for choice in answer.choices}


def test_text_completions_of_several_prompts(server):
    prompts = [THINKING, THINKING + "12 plus 7 is 19.\nWait, ", "19"]
    options = {"model": server.model, "prompt": prompts, "n": 2, "max_tokens": 40, "temperature": 1.0, "seed": 5}
    answer = server.openai.completions.create(**options)
    assert [choice.index for choice in answer.choices] == list(range(6))
    for choice in answer.choices:
        trace = parse_trace(choice.text, server.card.markers, inside=choice.index < 4)
        assert report(choice)["steps"] == len(trace.steps)
    assert sum(report(choice)["tokens"]["completion"] for choice in answer.choices) == answer.usage.completion_tokens
    chunks = list(server.openai.completions.create(stream=True, **options))
    streamed = {choice.index: report(choice) for chunk in chunks for choice in chunk.choices if choice.finish_reason}
    assert streamed == {choice.index: report(choice) for choice in answer.choices}


def test_the_token_limit_within_the_thinking(server):
    answer = server.openai.completions.create(
        model=server.model, prompt=THINKING, max_tokens=4, temperature=0, **server.endless(*server.card.markers)
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "length"
    tokens = 4 if choice.text.strip() else 0  # a blank block counts as none
    assert report(choice)["exit"] == {"reason": "length", "step": tokens // 4, "reasoning_tokens": tokens}


def test_a_stop_string_within_the_thinking(server):
    """Its tokens count, its text does not; whether it comes in one piece or as a stream."""
    options = {"model": server.model, "prompt": THINKING, "max_tokens": 200, "temperature": 0, **server.endless()}
    free = server.openai.completions.create(**options).choices[0].text
    stop = free[10:14]
    options |= {"stop": [stop]}
    whole = server.openai.completions.create(**options)
    (choice,) = whole.choices
    assert choice.finish_reason == "stop"
    assert choice.text == free[: free.index(stop)]
    assert report(choice)["exit"]["reason"] == "stop"
    assert report(choice)["steps"] == len(parse_trace(choice.text, server.card.markers, inside=True).steps)
    assert report(choice)["tokens"]["completion"] == whole.usage.completion_tokens
    chunks = list(server.openai.completions.create(stream=True, **options))
    assert [report(c) for chunk in chunks for c in chunk.choices if c.finish_reason] == [report(choice)]


def test_a_block_that_the_prompt_has_opened(server):
    answer = server.openai.chat.completions.create(
        model=server.model,
        messages=[*QUESTION, {"role": "assistant", "content": "<think>\n12 plus 7"}],
        max_tokens=3,
        logit_bias=server.endless()["logit_bias"],
        extra_body={"add_generation_prompt": False, "continue_final_message": True, "ignore_eos": True},
    )
    assert report(answer.choices[0])["exit"]["reason"] == "length"
    assert report(answer.choices[0])["tokens"]["reasoning"] == 3
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


def test_thinking_in_earlier_turns(server):
    history = [
        *QUESTION,
        {"role": "assistant", "content": "<think>\n12 plus 7. Wait, 19.\n</think>\n\nThe answer is \\boxed{19}."},
        {"role": "user", "content": "What does <think> mean?"},
    ]
    answer = server.openai.chat.completions.create(model=server.model, messages=history, max_tokens=300, temperature=0)
    (choice,) = answer.choices
    assert agrees_with_text(report(choice), choice.message, server.card.markers)


def test_the_report_can_be_turned_off(server, counted):
    off = {"extra_body": {"reasoning_efficiency": False}}
    answer = server.openai.chat.completions.create(model=server.model, messages=QUESTION, max_tokens=50, **off)
    assert FIELD not in answer.choices[0].model_extra
    chunks = stream_chat(server, max_tokens=50, **off)
    assert not any(FIELD in (choice.model_extra or {}) for chunk in chunks for choice in chunk.choices)
    assert counted()["stepgrpo_completion_tokens_count"] == 2


def test_everything_else_is_vllms(server):
    """Log-probabilities and token ids come through beside the report."""
    answer = server.openai.chat.completions.create(
        model=server.model,
        messages=QUESTION,
        logprobs=True,
        top_logprobs=2,
        max_tokens=30,
        extra_body={"return_token_ids": True},
    )
    (choice,) = answer.choices
    assert len(choice.logprobs.content) == len(choice.model_extra["token_ids"]) == answer.usage.completion_tokens


async def test_many_at_once(server, counted):
    """Whatever is interleaved with what: every answer has its own report, and the sums agree with vLLM's."""
    client = server.async_openai

    async def whole(seed):
        answer = await client.chat.completions.create(
            model=server.model, messages=QUESTION, max_tokens=200, temperature=1.0, seed=seed
        )
        return report(answer.choices[0])

    async def streamed(seed):
        stream = await client.chat.completions.create(
            model=server.model, messages=QUESTION, max_tokens=200, temperature=1.0, seed=seed, stream=True
        )
        (end,) = [choice async for chunk in stream for choice in chunk.choices if choice.finish_reason]
        return report(end)

    reports = await asyncio.gather(*(ask(seed) for seed in range(16) for ask in (whole, streamed)))
    assert reports[0::2] == reports[1::2]
    gained = counted()
    assert gained["stepgrpo_completion_tokens_count"] == 32
    assert gained["stepgrpo_completion_tokens_sum"] == sum(report["tokens"]["completion"] for report in reports)
    assert gained["vllm:request_generation_tokens_sum"] == gained["stepgrpo_completion_tokens_sum"]


def test_the_summary(server, counted):
    before = httpx.get(f"{server.url}/v1/efficiency").json()["data"][0]
    server.openai.chat.completions.create(model=server.model, messages=QUESTION, n=2, max_tokens=100)
    after = httpx.get(f"{server.url}/v1/efficiency").json()["data"][0]
    gained = counted()
    assert after["model"] == server.model
    assert after["requests"] - before["requests"] == 1
    assert after["answers"] - before["answers"] == 2
    for reason, count in after["exits"].items():
        assert count - before["exits"][reason] == gained[f"stepgrpo_exits_total|reason={reason}"]
    saved = after["savings"]["calibrated"]
    assert saved["answers"] == after["answers"]
    assert saved["savings_ratio"] == pytest.approx(server.card.calibration.savings_ratio.mean, abs=1e-3)


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/v1/models", "/metrics"])
def test_the_server_answers_on(server, path):
    assert httpx.get(server.url + path).status_code == 200
