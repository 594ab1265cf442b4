import asyncio
from types import SimpleNamespace

import pytest

from reasoning import parse_trace
from server.engine import HANDOVER_SECONDS, ShuttingDownError
from server.metering import BATCH
from server.opening import opening_of
from server.report import ResponseReports, collecting

THOUGHT = "<think>\n12 plus 7 is 19.\nWait, 12 plus 7 is 19. Alternatively, 20 less 1.\n</think>\n\n"
ANSWER = "The answer is 19."
TEXT = THOUGHT + ANSWER
END = "<|im_end|>"


async def report_of(bench, *outputs, sampling=None):
    with collecting(ResponseReports()) as reports:
        await bench.run(*outputs, sampling=sampling)
    return reports.get(0)


async def test_an_answer_in_one_piece(bench):
    report = await report_of(bench, bench.output((0, TEXT + END, "stop")))
    trace = parse_trace(TEXT)
    tokens = len(bench.words.encode(TEXT + END))
    thinking = len(bench.words.encode(THOUGHT.rstrip()))
    assert report["steps"] == len(trace.steps) == 3
    assert report["exit"] == {"reason": "model", "step": 3, "reasoning_tokens": thinking}
    assert report["tokens"] == {
        "reasoning": thinking,
        "answer": tokens - thinking,
        "completion": tokens,
    }


async def test_a_stream_gives_the_same_report_however_it_is_cut(bench):
    pieces = bench.words.encode(TEXT + END)
    whole = await report_of(bench, bench.output((0, TEXT + END, "stop")))
    for size in (1, 2, 3, 7):
        cuts = [bench.words.decode(pieces[i : i + size]) for i in range(0, len(pieces), size)]
        outputs = [bench.output((0, cut, None)) for cut in cuts[:-1]] + [bench.output((0, cuts[-1], "stop"))]
        assert await report_of(bench, *outputs) == whole


async def test_outputs_pass_unchanged(bench):
    outputs = [bench.output((0, "<think> hm", None)), bench.output((0, " so", "length"))]
    assert await bench.run(*outputs) == outputs


async def test_every_choice_is_counted_once(bench):
    sampling = bench.sampling(n=2)
    first = bench.output((0, TEXT, None), (1, "<think> hm", None))
    await bench.run(
        first, bench.output((0, END, "stop")), bench.output((0, "", "stop"), (1, " so", "length")), sampling=sampling
    )
    assert bench.exits() == {"model": 1, "length": 1}
    expected = len(bench.words.encode(TEXT + END + "<think> hm so"))
    assert bench.value("stepgrpo_completion_tokens_sum") == expected
    assert bench.value("stepgrpo_completion_tokens_count") == 2


@pytest.mark.parametrize(
    ("text", "finish", "stop", "reason"),
    [
        (TEXT + END, "stop", None, "model"),
        (TEXT, "length", None, "model"),
        ("<think> 12 plus", "length", None, "length"),
        ("<think> 12 plus" + END, "stop", None, "eos"),
        ("<think> 12 plus" + END, "stop", 151643, "eos"),
        ("<think> 12 plus" + END, "stop", 7, "stop"),
        ("<think> 12 plus", "stop", " plus", "stop"),
        ("<think> 12 plus plus plus", "repetition", None, "stop"),
        (ANSWER + END, "stop", None, "none"),
        (TEXT.removeprefix("<think>") + END, "stop", None, "model"),
    ],
)
async def test_how_thinking_ended(bench, text, finish, stop, reason):
    sampling = bench.sampling(stop_token_ids=[7], stop=[" plus"] if stop == " plus" else [])
    await bench.run(bench.output((0, text, finish, stop)), sampling=sampling)
    assert bench.exits() == {reason: 1}
    assert bench.value("stepgrpo_exit_step_count", reason=reason) == 1


async def test_a_client_that_leaves(bench):
    bench.script.outputs = [bench.output((0, "<think> hm", None)), bench.output((0, " so", None))]
    stream = bench.engine.generate("prompt", bench.sampling(), "id")
    await anext(stream)
    await stream.aclose()
    assert bench.script.closed == 1
    assert bench.exits() == {"abort": 1}
    assert bench.value("stepgrpo_completion_tokens_count") == 0
    assert bench.value("stepgrpo_exit_step_count", reason="abort") == 0


async def test_a_client_that_leaves_before_the_first_token(bench):
    async def never(*_, **__):
        await asyncio.sleep(60)
        yield

    bench.script.generate = never
    request = asyncio.ensure_future(anext(bench.engine.generate("prompt", bench.sampling(n=2), "id")))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert bench.exits() == {"abort": 2}
    assert bench.meter.summary.models()[0].requests == 1


async def test_a_client_that_leaves_after_one_of_two_choices(bench):
    bench.script.outputs = [bench.output((0, TEXT, "stop"), (1, "<think> hm", None)), bench.output((1, " so", None))]
    stream = bench.engine.generate("prompt", bench.sampling(n=2), "id")
    await anext(stream)
    await stream.aclose()
    assert bench.exits() == {"model": 1, "abort": 1}


async def test_a_refused_request_counts_nowhere(bench):
    with pytest.raises(ValueError, match="too long"):
        await bench.run(ValueError("too long"))
    assert bench.exits() == {}
    assert bench.meter.summary.models()[0].requests == 0


async def test_an_engine_that_fails_underway(bench):
    with pytest.raises(RuntimeError, match="dead"):
        await bench.run(bench.output((0, "<think> hm", None)), RuntimeError("dead"))
    assert bench.exits() == {"abort": 1}


@pytest.mark.parametrize("choices", [1, 2])
async def test_an_engine_that_fails_before_it_says_anything(bench, choices):
    with pytest.raises(type(bench.failure)):
        await bench.run(bench.failure, sampling=bench.sampling(n=choices))
    assert bench.exits() == {"abort": choices}
    assert bench.meter.summary.models()[0].requests == 1


async def test_an_abort_by_the_engine(bench):
    await bench.run(bench.output((0, "<think> hm", None)), bench.output((0, "", "abort")))
    assert bench.exits() == {"abort": 1}


async def test_a_failing_meter_does_not_cost_the_answer(bench, caplog):
    outputs = [SimpleNamespace(prompt_token_ids=None, outputs=[object()])] * 2
    assert await bench.run(*outputs) == outputs
    assert caplog.text.count("cannot be metered") == 1


async def test_labels_that_are_read_off_one_token_are_no_answers_but_where_a_response_has_choices(bench):
    labels = bench.sampling(max_tokens=1, logprob_token_ids=[1, 2])
    await bench.run(bench.output((0, "hm", "length")), sampling=labels)
    assert bench.exits() == {}
    with collecting(ResponseReports()):
        await bench.run(bench.output((0, "hm", "length")), sampling=labels)
    assert sum(bench.exits().values()) == 1


async def test_single_steps_of_a_beam_search_are_no_answers(bench):
    await bench.run(bench.output((0, "hm", "length")), sampling=bench.sampling(detokenize=False))
    assert bench.exits() == {}


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_stop_string_is_counted_but_not_read(bench, size):
    seen = "<think> 12 plus 7.\n"
    sampling = bench.sampling(stop=["Wait, no", "zzzzzzzz"])
    pieces = bench.words.encode(seen + "Wait, no")
    cuts = [bench.words.decode(pieces[i : i + size]) for i in range(0, len(pieces), size)]
    outputs = [bench.output((0, cut, None)) for cut in cuts[:-1]]
    report = await report_of(bench, *outputs, bench.output((0, cuts[-1], "stop", "Wait, no")), sampling=sampling)
    assert report["steps"] == 1
    assert report["exit"]["reason"] == "stop"
    assert report["tokens"]["completion"] == len(pieces)


async def test_text_that_was_held_back_for_a_stop_string_is_read(bench):
    sampling = bench.sampling(stop=["never said"])
    report = await report_of(bench, bench.output((0, "<think> a.\nWait, b", "length")), sampling=sampling)
    assert report["steps"] == 2


async def test_a_stop_string_that_stays_in_the_text_is_read(bench):
    sampling = bench.sampling(stop=["Wait,"], include_stop_str_in_output=True)
    report = await report_of(bench, bench.output((0, "<think> a.\nWait,", "stop", "Wait,")), sampling=sampling)
    assert report["steps"] == 2


async def test_the_end_of_the_sequence_has_no_text(bench):
    """It counts as a token, but is no part of the last step's text, so it cannot spoil a marker beside it."""
    output = bench.output((0, "<think> a.\nWait", "stop"))
    output.outputs[0].token_ids += bench.words.encode("letters")
    report = await report_of(bench, output)
    assert report["steps"] == 2
    assert report["tokens"]["completion"] == len(bench.words.encode("<think> a.\nWait")) + 1


async def test_a_long_answer_lets_other_requests_have_their_turn(bench):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    await asyncio.sleep(0)
    before = turns
    await bench.run(bench.output((0, "<think>" + " hm" * (5 * BATCH), "length")))
    task.cancel()
    assert turns - before >= 5
    assert bench.value("stepgrpo_completion_tokens_sum") == 5 * BATCH + 1


async def test_a_tokenizer_that_cannot_stream_is_read_by_the_engines_text(bench):
    bench.words.stream = lambda skip_special: None
    text = "<think> a.\nWait, b.</think> c"
    report = await report_of(bench, bench.output((0, text + " c" * 2 * BATCH, "stop")))
    assert report["steps"] == 2
    assert report["tokens"]["completion"] == len(bench.words.encode(text)) + 2 * BATCH


@pytest.mark.parametrize("added", [True, False], ids=["tags are tokens", "tags are text"])
@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        ("<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n12 plus 7", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n<think> a </think> b<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n", False),
        ("<|im_start|>user\nwhat is <think> for<|im_end|>\n<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n<think> a </think> b <think> c", True),
        ("<think> no template", True),
        ("", False),
    ],
)
async def test_whether_the_prompt_left_the_block_open(bench, prompt, inside, added):
    if not added:
        bench.words.token = lambda text: None
    opening = opening_of(bench.words.encode(prompt), bench.words, ("<think>", "</think>"))
    assert opening.inside is inside
    assert opening.tokens == (len(bench.words.encode(prompt.rpartition("<think>")[2])) if inside else 0)
    await bench.run(bench.output((0, "a.\nWait, b." + END, "stop"), prompt=prompt))
    assert bench.exits() == ({"eos": 1} if inside else {"none": 1})


@pytest.mark.parametrize(("prompt", "reason"), [("<think>\n\n</think>\n\n", "none"), ("", "model")])
async def test_a_closing_tag_alone_ends_no_thinking_where_it_is_off(bench, prompt, reason):
    await bench.run(bench.output((0, "a.\nWait, b.</think> c", "stop"), prompt="<|im_start|>assistant\n" + prompt))
    assert bench.exits() == {reason: 1}


async def test_reports_are_numbered_in_the_order_of_the_requests(bench):
    with collecting(ResponseReports()) as reports:
        streams = [bench.engine.generate("prompt", bench.sampling(n=2), name) for name in "ab"]
    assert reports.get(0) is None
    for stream, texts in reversed(list(zip(streams, [("a", "b b"), ("c c c", "d d d d")], strict=True))):
        bench.script.outputs = [bench.output((0, texts[0], "length"), (1, texts[1], "length"))]
        assert [output async for output in stream]
    assert [reports.get(index)["tokens"]["completion"] for index in range(4)] == [
        len(bench.words.encode(text)) for text in ("a", "b b", "c c c", "d d d d")
    ]
    assert reports.reasoning_tokens == 0


async def test_a_shutdown_lets_answers_end_before_the_engine_hears_of_it(bench):
    bench.script.outputs = [bench.output((0, text, reason)) for text, reason in [("a", None), ("b", "stop")]]
    answer = bench.engine.generate("prompt", bench.sampling(), "id")
    await anext(answer)
    assert not bench.engine.draining
    shutdown = asyncio.create_task(asyncio.to_thread(bench.engine.shutdown, timeout=30))
    await asyncio.sleep(HANDOVER_SECONDS / 2)
    assert bench.engine.draining
    late = bench.engine.generate("prompt", bench.sampling(), "let in before")
    await asyncio.sleep(2 * HANDOVER_SECONDS)
    with pytest.raises(ShuttingDownError):
        bench.engine.generate("prompt", bench.sampling(), "new")
    bench.engine.generate("prompt", bench.sampling(detokenize=False), "a step of a beam search")
    assert bench.script.shut_down is None
    assert [output async for output in late]
    assert [output async for output in answer]
    await shutdown
    assert 20 < bench.script.shut_down < 30


async def test_a_shutdown_waits_for_what_is_not_metered_too_but_not_for_ever(bench):
    bench.script.unfinished = 1
    await asyncio.to_thread(bench.engine.shutdown, timeout=3 * HANDOVER_SECONDS)
    assert bench.script.shut_down == 0


async def test_a_shutdown_without_time_is_one_at_once(bench):
    bench.script.unfinished = 1
    bench.engine.shutdown(timeout=0)
    assert bench.script.shut_down == 0


FOUR_TOKENS = "<think> a b c d</think> e"


async def test_an_exit_that_the_policy_forced_is_reported_as_such(bench):
    output = bench.output((0, FOUR_TOKENS, "stop"))
    output.outputs[0].forced_exit = "step_budget"
    await bench.run(output)
    assert bench.exits() == {"step_budget": 1}


@pytest.mark.parametrize(
    ("budget", "reason"), [(3, "token_budget"), (4, "token_budget"), (5, "model"), (None, "model")]
)
async def test_a_token_budget_that_was_used_up_ended_the_thinking(bench, budget, reason):
    """Four tokens stand between the tags."""
    await bench.run(bench.output((0, FOUR_TOKENS, "length")), sampling=bench.sampling(thinking_token_budget=budget))
    assert bench.exits() == {reason: 1}


async def test_a_token_budget_counts_what_the_prompt_thought(bench):
    output = bench.output((0, " c d</think> e", "length"), prompt="<|im_start|>assistant\n<think> a b")
    await bench.run(output, sampling=bench.sampling(thinking_token_budget=4))
    assert bench.exits() == {"token_budget": 1}


async def test_a_token_budget_of_nothing(bench):
    output = bench.output((0, "<think></think> e", "length"))
    await bench.run(output, sampling=bench.sampling(thinking_token_budget=0))
    assert bench.exits() == {"token_budget": 1}


async def test_a_token_budget_is_not_the_reason_where_thinking_went_on_to_the_limit(bench):
    output = bench.output((0, "<think> a b c d", "length"))
    await bench.run(output, sampling=bench.sampling(thinking_token_budget=4))
    assert bench.exits() == {"length": 1}
