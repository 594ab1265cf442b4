import pytest

from reasoning import Segmenter, parse_trace


def texts(trace):
    return [step.text for step in trace.steps]


def test_steps_begin_at_the_start_and_at_markers():
    trace = parse_trace("<think>\nSo 4. Wait, 5.\nAlternatively 6.</think>\n\n\\boxed{6}")
    assert texts(trace) == ["\nSo 4. ", "Wait, 5.\n", "Alternatively 6."]
    assert [step.marker for step in trace.steps] == [None, "Wait", "Alternatively"]
    assert trace.answer == "\n\n\\boxed{6}"
    assert (trace.exit.reason, trace.exit.step) == ("model", 3)


def test_offsets_point_into_the_completion():
    trace = parse_trace("<think>a Wait b</think>c")
    assert [trace.text[step.start : step.end] for step in trace.steps] == texts(trace)


def test_markers_inside_words_and_after_the_block_do_not_split():
    trace = parse_trace("<think>Waiting for butter</think>Wait, Alternatively")
    assert len(trace.steps) == 1


def test_blank_space_before_an_opening_marker_belongs_to_its_step():
    trace = parse_trace("<think>\n Wait, x</think>")
    assert [(step.text, step.marker) for step in trace.steps] == [("\n Wait, x", "Wait")]


@pytest.mark.parametrize("block", ["", "\n\n"])
def test_a_blank_block_has_no_steps_and_its_tokens_count_to_the_answer(block):
    trace = parse_trace(f"<think>{block}</think>4", tokens=4)
    assert (trace.exit.reason, trace.exit.step, trace.exit.reasoning_tokens) == ("model", 0, 0)
    assert trace.answer_tokens == 4


def test_the_first_closing_tag_closes_and_later_tags_are_text():
    trace = parse_trace("<think>a<think>b</think>c</think><think>d")
    assert trace.reasoning == "a<think>b"
    assert trace.answer == "c</think><think>d"


@pytest.mark.parametrize(
    ("finish_reason", "stopped", "reason"),
    [("length", False, "length"), ("stop", False, "eos"), ("stop", True, "stop"), ("abort", False, "abort")],
)
def test_an_open_block_says_why_it_ended(finish_reason, stopped, reason):
    segmenter = Segmenter()
    segmenter.feed("<think>so", 2)
    assert segmenter.close(finish_reason, stopped=stopped).exit.reason == reason


def test_no_block_no_steps():
    trace = parse_trace("Wait, 4", tokens=3)
    assert (trace.exit.reason, trace.steps, trace.answer, trace.answer_tokens) == ("none", (), "Wait, 4", 3)


def test_an_abort_before_anything_was_sampled_is_an_abort():
    assert Segmenter().close("abort").exit.reason == "abort"


def test_a_disconnect_during_the_answer_keeps_the_models_exit():
    segmenter = Segmenter()
    segmenter.feed("<think>a</think>b")
    assert segmenter.close("abort").exit.reason == "model"


def test_a_policy_can_say_that_it_closed_the_block():
    segmenter = Segmenter()
    segmenter.feed("<think>a\n</think>\n\n4")
    assert segmenter.close("stop", forced="confidence").exit.reason == "confidence"


def test_the_prompt_may_have_opened_the_block():
    trace = parse_trace("so. Wait, 4</think>4", inside=True)
    assert texts(trace) == ["so. ", "Wait, 4"]


def test_a_closing_tag_alone_closes_a_block_that_began_with_the_completion():
    trace = parse_trace("so. Wait, 4</think>Wait, 4", tokens=26)
    assert (texts(trace), trace.answer) == (["so. ", "Wait, 4"], "Wait, 4")
    assert (trace.exit.reason, trace.exit.reasoning_tokens, trace.answer_tokens) == ("model", 19, 7)


def test_it_closes_nothing_where_the_prompt_has_closed_the_block_before():
    segmenter = Segmenter(implied=False)
    segmenter.feed("so. Wait, 4</think>4", 20)
    trace = segmenter.close("stop")
    assert (trace.exit.reason, trace.steps, trace.answer, trace.answer_tokens) == ("none", (), trace.text, 20)


def test_what_stands_before_an_opening_tag_is_no_thinking():
    trace = parse_trace("Hm. Wait, <think>a</think>4", tokens=27)
    assert (trace.preamble, texts(trace), trace.exit.reasoning_tokens) == ("Hm. Wait, ", ["a"], 16)


def test_tags_and_markers_split_over_chunks():
    segmenter = Segmenter()
    for piece in ("x<th", "ink>a W", "ai", "t", " b</", "thin", "k>c"):
        segmenter.feed(piece, 1)
    trace = segmenter.close("stop")
    assert (trace.preamble, texts(trace), trace.answer) == ("x", ["a ", "Wait b"], "c")


def test_a_marker_that_overlaps_an_earlier_one_does_not_count():
    segmenter = Segmenter(("a*", "*b"))
    for piece in ("<think>so a*b", ". c"):
        segmenter.feed(piece)
    assert texts(segmenter.close("stop")) == ["so ", "a*b. c"]


def test_tokens_lie_where_their_first_character_lies():
    segmenter = Segmenter()
    for token in ("<think>", "\n", "So", " 4", ".", " Wait", ",", " 5", "</think>", "\n\n", "5", ""):
        segmenter.feed(token, 1)
    trace = segmenter.close("stop")
    assert [step.tokens for step in trace.steps] == [6, 3]
    assert (trace.exit.reasoning_tokens, trace.answer_tokens, trace.completion_tokens) == (9, 3, 12)


def test_a_chunk_of_several_tokens_is_shared_out_by_its_characters():
    trace = parse_trace("<think>abc Wait, e</think>4", tokens=27)
    assert [step.tokens for step in trace.steps] == [11, 15]
    assert trace.answer_tokens == 1


def test_a_token_without_text_lies_where_the_next_character_will():
    segmenter = Segmenter()
    for token in ("<think>", "a ", "", "Wait", ", b", "</think>", ""):
        segmenter.feed(token, 1)
    trace = segmenter.close("stop")
    assert [step.tokens for step in trace.steps] == [2, 4]
    assert trace.answer_tokens == 1


@pytest.mark.parametrize(("ending", "steps"), [("Wait", 2), ("Wai", 1), ("Waiting", 1), ("</thin", 1)])
def test_what_is_held_back_is_decided_at_the_end(ending, steps):
    segmenter = Segmenter()
    for character in f"<think>a {ending}":
        segmenter.feed(character)
    trace = segmenter.close("length")
    assert len(trace.steps) == steps
    assert trace.reasoning == f"a {ending}"


@pytest.mark.parametrize("tags", [("", "</think>"), ("<t>", "<t>")])
def test_unusable_tags_are_refused(tags):
    with pytest.raises(ValueError, match="tags"):
        Segmenter(think=tags)
