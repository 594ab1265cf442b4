"""The rollout driver over an engine that plays back scripted continuations."""

import pytest

from training.paths import cut_at
from training.rollout import RolloutContext, plain_rollouts, truncated_rollouts
from training.tokenizer import END_OF_TURN

SURE, UNSURE = (0.0, -0.001, -0.001), (0.0, -2.0, -0.1)


@pytest.fixture
def roll(tokenizer, scripted_engine, exit_config):
    def run(script, trials=()):
        engine = scripted_engine(script, trials)
        return truncated_rollouts(RolloutContext(engine, tokenizer, exit_config), [tokenizer.encode("ask")])[0], engine

    return run


def test_a_sure_trial_answer_truncates_before_the_marker(roll):
    rollout, _ = roll("<think>\nSo 4.\nWait, more", [SURE])
    assert rollout.text == "<think>\nSo 4.\n\n</think>\n\n4."
    assert rollout.exit == "confidence"


def test_declined_trials_leave_no_trace_in_the_path(roll, tokenizer):
    script = "<think>\nSo 4.\nWait, so 5. Alternatively 4.\n</think>\n\nThe answer is 4."
    rollout, engine = roll(script, [UNSURE, UNSURE])
    assert rollout.text == script
    assert rollout.exit == "model"
    assert rollout.completion_ids == tokenizer.encode(script + END_OF_TURN)
    assert all(text.count("Wait") <= 1 for text in (tokenizer.decode(r.tokens) for r in engine.requests))


def test_tokens_that_the_policy_sampled_are_told_from_forced_ones(roll, tokenizer):
    script = "<think>\nSo 4.\nWait, so 5. Alternatively 4."
    rollout, _ = roll(script, [UNSURE, SURE])
    forced = [token for token, sampled in zip(rollout.completion_ids, rollout.sampled, strict=True) if not sampled]
    assert tokenizer.decode(forced).strip() == "</think>"
    assert len(rollout.sampled) == len(rollout.completion_ids)


def test_probes_cost_tokens_that_are_not_in_the_completion(roll, tokenizer):
    rollout, _ = roll("<think>\nSo 4.\nWait, more", [SURE])
    assert rollout.probe_tokens == len(tokenizer.encode("{4}</think>"))


def test_a_rollout_costs_what_was_sampled_and_probed(roll):
    rollout, _ = roll("<think>\nSo 4.\nWait, more", [SURE])
    assert rollout.cost == sum(rollout.sampled) + rollout.probe_tokens
    assert 0 < sum(rollout.sampled) < len(rollout.completion_ids)


def test_engine_time_goes_to_probes_by_their_share(roll):
    rollout, _ = roll("<think>\nSo 4.\nWait, more", [SURE])
    plain, _ = roll("<think>\nSo 4.\n</think>\n\n4.")
    assert rollout.probe_seconds > 0 == plain.probe_seconds


def test_samples_do_not_wait_for_each_other(tokenizer, scripted_engine, exit_config):
    engine = scripted_engine("<think>\nSo 4.\nWait, more", [SURE, SURE])
    truncated_rollouts(RolloutContext(engine, tokenizer, exit_config), [tokenizer.encode("ask")] * 2)
    kinds = ["probe" if request.with_logprobs else "sample" for request in engine.requests]
    assert kinds[:3] == ["sample", "sample", "probe"]


def test_a_plain_rollout_is_sampled_in_one_request(tokenizer, scripted_engine, exit_config):
    script = "<think>\nSo 4.\nWait, 4.\n</think>\n\n4."
    engine = scripted_engine(script)
    rollout = plain_rollouts(RolloutContext(engine, tokenizer, exit_config), [tokenizer.encode("ask")])[0]
    assert (rollout.text, rollout.exit, len(engine.requests)) == (script, "none", 1)
    assert set(rollout.sampled) == {1}


def test_a_stop_string_may_begin_inside_a_token(tokenizer):
    tokens = tokenizer.encode("So Alternatively")
    inside = next(i for i, token in enumerate(tokens) if tokenizer.decode(token) == " A")
    assert cut_at(tokenizer, tokens, "So ") == (inside, " ")
    assert cut_at(tokenizer, tokens, "So") == (inside, "")
