import math

import pytest

from reasoning import Answer, ExitPolicy, ExitPolicyConfig, Finish, Probe, Probed, Sampled, Think

SURE, UNSURE = Probed((0.0, -0.01, -0.01), closed=True), Probed((0.0, -1.0, -0.1), closed=True)


def policy(**settings):
    return ExitPolicy(
        ExitPolicyConfig(**{"markers": ("Wait",), "total_tokens": 1000, "thinking_tokens": 900} | settings)
    )


def paused(text="some thought ", tokens=10):
    return Sampled(text, tokens, "stop", "Wait")


def test_thinks_until_a_marker_or_the_closing_tag():
    assert policy().start() == Think("", ("Wait", "</think>"), 900)


def test_a_marker_is_probed_inside_the_block():
    machine = policy()
    machine.start()
    assert machine.advance(paused()) == Probe("\n**Final Answer**\n\\boxed", ("</think>",), 20)


def test_a_sure_trial_answer_closes_the_block_without_the_marker():
    machine = policy()
    machine.start()
    machine.advance(paused())
    assert machine.advance(SURE) == Answer("\n</think>\n\n", 990)
    assert machine.advance(Sampled("4", 5, "eos")) == Finish("confidence")


def test_an_unsure_trial_answer_puts_the_marker_back():
    machine = policy()
    machine.start()
    machine.advance(paused())
    assert machine.advance(UNSURE) == Think("Wait", ("Wait", "</think>"), 890)
    assert machine.steps == 2


def test_the_threshold_itself_is_not_sure_enough():
    machine = policy(threshold=1.0)
    machine.start()
    machine.advance(paused())
    assert isinstance(machine.advance(Probed((0.0, 0.0), closed=True)), Think)


@pytest.mark.parametrize(("mean", "goes_on"), [("geometric", True), ("arithmetic", False)])
def test_the_mean_is_the_configured_one(mean, goes_on):
    machine = policy(threshold=0.72, mean=mean)
    machine.start()
    machine.advance(paused())
    unequal = Probed((0.0, math.log(0.5), 0.0), closed=True)
    assert isinstance(machine.advance(unequal), Think if goes_on else Answer)


def test_a_trial_answer_that_does_not_close_is_not_trusted():
    machine = policy()
    machine.start()
    machine.advance(paused())
    assert isinstance(machine.advance(Probed((0.0, 0.0), closed=False)), Think)
    assert machine.probes == [0.0]


@pytest.mark.parametrize("after", ["", "\n\n"])
def test_after_its_own_exit_the_model_goes_on_as_it_would_have(after):
    """Nothing is written for it, or what follows the tag would never have been learned where a model ends by itself."""
    machine = policy()
    machine.start()
    assert machine.advance(Sampled("done", 4, "stop", "</think>", after)) == Answer(f"</think>{after}", 996)
    assert machine.exit_reason == "model"


def test_after_the_last_probe_thinking_runs_free():
    machine = policy(max_probes=1)
    machine.start()
    machine.advance(paused())
    assert machine.advance(UNSURE) == Think("Wait", ("</think>",), 890)


def test_near_the_thinking_budget_a_declined_trial_answer_closes_the_block():
    machine = policy(exit_margin=50)
    machine.start()
    machine.advance(paused(tokens=850))
    assert machine.advance(UNSURE) == Answer("\n</think>\n\n", 150)
    assert machine.exit_reason == "token_budget"


def test_the_thinking_budget_closes_the_block():
    machine = policy()
    machine.start()
    assert isinstance(machine.advance(Sampled("...", 900, "length")), Answer)
    assert machine.exit_reason == "token_budget"


def test_end_of_sequence_inside_the_block_ends_everything():
    machine = policy()
    machine.start()
    assert machine.advance(Sampled("...", 9, "eos")) == Finish("eos")


def test_without_a_limit_there_is_a_trial_answer_before_every_step():
    machine = policy(max_probes=None)
    machine.start()
    for number in range(20):
        assert isinstance(machine.advance(paused(f", step {number} ")), Probe)
        machine.advance(UNSURE)


def test_three_chunks_of_the_same_words_close_the_block():
    machine = policy()
    machine.start()
    for chunk in (", a b ", ", b a "):
        machine.advance(paused(chunk))
        machine.advance(UNSURE)
    assert isinstance(machine.advance(paused(", a b ")), Answer)
    assert machine.exit_reason == "repetition"


def test_a_word_that_merely_ends_like_a_marker_is_no_pause():
    machine = policy()
    machine.start()
    assert machine.advance(paused("some pre")) == Think("Wait", ("Wait", "</think>"), 890)
    assert machine.steps == 1


def test_a_word_that_begins_like_a_marker_is_put_back_whole():
    machine = policy()
    machine.start()
    assert machine.advance(Sampled("I am ", 10, "stop", "Wait", after="ing")).append == "Waiting"
    assert machine.steps == 1


def test_a_word_that_turns_out_to_begin_like_a_marker_is_no_step():
    machine = policy()
    machine.start()
    machine.advance(paused())
    machine.advance(UNSURE)
    assert machine.steps == 2
    machine.advance(paused("ing for it. "))
    assert machine.steps == 1


@pytest.mark.parametrize("text", ["", "\n", "<think>\n"])
def test_a_marker_that_opens_the_block_begins_the_first_step_unprobed(text):
    machine = policy()
    machine.start()
    assert machine.advance(paused(text)) == Think("Wait", ("Wait", "</think>"), 890)
    assert machine.steps == 1


def test_a_phrase_pauses_where_the_marker_that_it_begins_with_does():
    machine = policy(markers=("Wait", "Wait a minute", "Waiter"))
    assert machine.start().stop == ("Waiter", "Wait", "</think>")


def test_a_stop_string_of_the_request_ends_everything():
    machine = policy()
    machine.start()
    assert machine.advance(Sampled("so ", 3, "stop", "END")) == Finish("stop")


def test_without_a_thinking_budget_the_total_ends_the_path_inside_the_block():
    machine = policy(thinking_tokens=None)
    machine.start()
    assert machine.advance(Sampled("...", 1000, "length")) == Finish("length")


def test_a_block_is_not_closed_where_an_answer_would_not_fit():
    machine = policy(total_tokens=18, thinking_tokens=None)
    machine.start()
    assert machine.advance(Sampled("...", 10, "stop", "</think>")) == Finish("length")


def test_a_thinking_budget_leaves_room_to_close_the_block_and_to_answer():
    machine = policy(total_tokens=100, thinking_tokens=100)
    action = machine.start()
    closing = machine.advance(Sampled("...", action.max_tokens, "length"))
    assert closing.max_tokens == len(closing.append) + 1


@pytest.mark.parametrize("settings", [{"threshold": None, "max_steps": 9}, {"max_probes": 0, "max_steps": 9}])
def test_a_step_budget_alone_neither_probes_nor_looks_for_repetition(settings):
    machine = policy(**settings)
    machine.start()
    for _ in range(8):
        assert machine.advance(paused(", the same again ")).append == "Wait"
    assert machine.advance(paused(", the same again ")) == Answer("\n</think>\n\n", 910)


def test_repetition_starts_over_at_a_different_chunk():
    machine = policy()
    machine.start()
    for chunk in (", a ", ", a ", ", b ", ", a ", ", a "):
        assert isinstance(machine.advance(paused(chunk)), Probe)
        machine.advance(UNSURE)


def test_outside_the_block_only_the_opening_tag_is_waited_for():
    machine = policy(inside=False)
    assert machine.start() == Think("", ("<think>",), 1000)
    assert machine.advance(Sampled("", 0, "stop", "<think>", after="\n")) == Think(
        "<think>\n", ("Wait", "</think>"), 900
    )


@pytest.mark.parametrize("finish", ["eos", "length"])
def test_a_completion_without_a_block_is_left_alone(finish):
    machine = policy(inside=False)
    machine.start()
    assert machine.advance(Sampled("Wait, 4", 3, finish)) == Finish("none")


def test_a_result_that_was_not_asked_for_is_refused():
    machine = policy()
    with pytest.raises(RuntimeError, match="Sampled"):
        machine.advance(paused())
    machine.start()
    with pytest.raises(RuntimeError, match="Probed"):
        machine.advance(SURE)
    machine.advance(Sampled("", 1, "eos"))
    with pytest.raises(RuntimeError, match="Sampled"):
        machine.advance(paused())


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.5},
        {"total_tokens": 0},
        {"max_steps": 0},
        {"thinking_tokens": 0},
        {"probe_tokens": 0},
        {"exit_margin": -1},
        {"markers": ("",)},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).rstrip("s")):
        policy(**wrong)


def test_a_step_budget_closes_at_the_boundary_without_probes():
    machine = policy(threshold=None, max_steps=2)
    machine.start()
    assert machine.advance(paused()) == Think("Wait", ("Wait", "</think>"), 890)
    assert machine.advance(paused(", more ")) == Answer("\n</think>\n\n", 980)
    assert machine.exit_reason == "step_budget"
