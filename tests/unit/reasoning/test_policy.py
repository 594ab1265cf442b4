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


def test_strict_mode_distrusts_a_trial_answer_that_does_not_close():
    machine = policy()
    machine.start()
    machine.advance(paused())
    assert isinstance(machine.advance(Probed((0.0, 0.0), closed=False)), Think)
    assert machine.probes == [0.0]


def test_the_models_own_exit_is_completed():
    machine = policy()
    machine.start()
    assert machine.advance(Sampled("done", 4, "stop", "</think>")) == Answer("</think>\n\n", 996)
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


def test_three_chunks_of_the_same_words_close_the_block():
    machine = policy()
    machine.start()
    for chunk in (", a b ", ", b a "):
        machine.advance(paused(chunk))
        machine.advance(UNSURE)
    assert isinstance(machine.advance(paused(", a b ")), Answer)
    assert machine.repeated


def test_a_word_that_merely_ends_like_a_marker_is_no_pause():
    machine = policy()
    machine.start()
    assert machine.advance(paused("some pre")) == Think("Wait", ("Wait", "</think>"), 890)
    assert machine.steps == 1


def test_a_step_budget_closes_at_the_boundary_without_probes():
    machine = policy(threshold=None, max_steps=2)
    machine.start()
    assert machine.advance(paused()) == Think("Wait", ("Wait", "</think>"), 890)
    assert machine.advance(paused(", more ")) == Answer("\n</think>\n\n", 980)
    assert machine.exit_reason == "step_budget"
