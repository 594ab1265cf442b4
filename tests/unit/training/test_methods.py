"""The compared methods on batches small enough to work out by hand."""

import math
import random

import pytest

from training.comparison import GRIDS, compare_methods, grid
from training.methods import METHODS, MethodError, PolicyGradient, Scored, load_method
from training.methods.s_grpo import serial_rollouts
from training.recipe import RewardSettings, load_recipe
from training.rollout import RolloutContext, plain_rollouts, truncated_rollouts

SETTINGS = RewardSettings()


def scored(correct, *, tokens=10, steps=1, group="q", formatted=True, limit=100):
    return Scored(correct, formatted, steps, tokens, limit, group, text="", question="", answer="")


def rewards(name, *batch, **settings):
    return METHODS[name].rewards(batch, SETTINGS.model_copy(update=settings))


def test_grpo_knows_accuracy_and_format_only():
    batch = [scored(True, tokens=99, steps=9), scored(False), scored(False, formatted=False)]
    assert rewards("grpo", *batch) == pytest.approx([1.0, 0.1, 0.0])


def test_the_length_penalty_compares_correct_completions_of_a_group():
    short, long, wrong = rewards("length-penalty", scored(True, tokens=10), scored(True, tokens=30), scored(False))
    sigmoid = 1 / (1 + math.exp(-1))  # both lie one standard deviation from the mean
    assert short == pytest.approx(0.9 * (1 - 0.6 * (1 - sigmoid)) + 0.1)
    assert long == pytest.approx(0.9 * (1 - 0.6 * sigmoid) + 0.1)
    assert wrong == pytest.approx(0.1)


def test_the_length_penalty_of_equally_long_answers_is_its_middle():
    assert rewards("length-penalty", scored(True), scored(True)) == pytest.approx([0.9 * 0.7 + 0.1] * 2)


def test_grpo_lambda_penalises_the_most_accurate_groups_only():
    easy = [scored(True, tokens=10, group="easy"), scored(True, tokens=30, group="easy")]
    hard = [scored(True, tokens=10, group="hard"), scored(False, tokens=30, group="hard")]
    found = rewards("grpo-lambda", *hard, *easy, lambda_share=0.5)
    assert found[:2] == pytest.approx([1.0, 0.1])
    assert found[2:] == rewards("length-penalty", *easy)


@pytest.mark.parametrize(("tokens", "punishment"), [(80, 0), (90, 0.5), (100, 1), (10, 0)])
def test_soft_overlong_punishment_grows_over_the_buffer(tokens, punishment):
    assert rewards("soft-overlong", scored(True, tokens=tokens)) == pytest.approx([1 - punishment])


def test_s_grpo_halves_the_reward_of_each_later_right_exit():
    batch = [scored(False), scored(True), scored(False), scored(True), scored(True)]
    assert rewards("s-grpo", *batch) == [0, 1, 0, 0.5, 0.25]
    assert not METHODS["s-grpo"].scale_advantages


def test_step_grpo_and_its_ablations():
    batch = [scored(True, steps=2), scored(True, steps=6), scored(False, steps=16)]
    short = 0.9 * (1 + 0.5 * math.tanh(0.5)) + 0.1
    assert rewards("step-grpo", *batch)[0] == pytest.approx(short)
    assert rewards("step-grpo-no-truncation", *batch)[0] == pytest.approx(short)
    assert rewards("step-grpo-no-step-reward", *batch) == pytest.approx([1.0, 1.0, 0.1])
    assert rewards("step-grpo-all-sample-mean", *batch)[0] == pytest.approx(0.9 * (1 + 0.5 * math.tanh(0.75)) + 0.1)
    assert METHODS["step-grpo"].rollouts is METHODS["step-grpo-no-step-reward"].rollouts is truncated_rollouts
    assert METHODS["step-grpo-no-truncation"].rollouts is plain_rollouts


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if isinstance(method, PolicyGradient)])
def test_no_method_prefers_a_wrong_answer_to_the_right_one_beside_it(name):
    right, wrong = rewards(name, scored(True, tokens=50, steps=3), scored(False, tokens=50, steps=3))
    assert right > wrong


def test_own_methods_are_named_by_module_and_attribute():
    assert load_method("training.methods.grpo:METHOD") is METHODS["grpo"]


@pytest.mark.parametrize(
    ("attribute", "setting"),
    [
        ("grpo:METHOD", "grpo.learning_rate"),
        ("deer:DISTILLED", "distill.learning_rate"),
        ("deer:METHOD", "rollout.threshold"),
    ],
)
def test_a_comparison_tries_learning_rates_for_ones_own_method_and_thresholds_where_nothing_is_trained(
    attribute, setting
):
    tried = grid(f"training.methods.{attribute}")
    assert [list(settings) for settings in tried] == [[setting]] * 3


def test_a_comparison_tries_for_a_bundled_method_what_matters_most_to_it():
    assert grid("step-grpo") is GRIDS["step-grpo"]


def test_a_comparison_refuses_what_is_no_method_before_anything_is_trained(tmp_path):
    with pytest.raises(MethodError, match="bundled: grpo"):
        compare_methods(load_recipe("quickstart"), tmp_path, lambda _: pytest.fail("began"), methods=("gpro",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "says"),
    [("gpro", "bundled: grpo"), ("nowhere:METHOD", "nowhere"), ("math:pi", "PolicyGradient"), ("math:pie", "pie")],
)
def test_what_is_no_method_is_refused_in_a_line(name, says):
    with pytest.raises(MethodError, match=says):
        load_method(name)


def test_a_serial_group_exits_along_one_trajectory(tokenizer, scripted_engine, exit_config):
    script = "<think>\nSo 4.\nWait, so 5.\n</think>\n\nThe answer is 5."
    engine = scripted_engine(script)
    context = RolloutContext(engine, tokenizer, exit_config, group_size=4, rng=random.Random(1))
    *exits, whole = serial_rollouts(context, [tokenizer.encode("ask")] * 4)
    assert whole.text == script
    assert [len(one.completion_ids[: one.reused]) for one in exits] == sorted(one.reused for one in exits)
    for one in exits:
        kept = tokenizer.decode(one.completion_ids[: one.reused])
        forced = [token for token, sampled in zip(one.completion_ids, one.sampled, strict=True) if not sampled]
        assert script.startswith(kept)
        assert "</think>" not in kept
        assert "Time is limited" in tokenizer.decode(forced)
        assert one.text.endswith("</think>\n\n4.")
        assert one.cost < len(one.completion_ids)
    assert len(engine.requests) == 4


def test_a_thought_without_an_end_keeps_no_end_of_sequence_inside_its_exits(tokenizer, scripted_engine, exit_config):
    engine = scripted_engine("<think>\n4")
    context = RolloutContext(engine, tokenizer, exit_config, group_size=40, rng=random.Random(1))
    *exits, whole = serial_rollouts(context, [tokenizer.encode("ask")] * 40)
    assert whole.completion_ids[-1] == tokenizer.eos_token_id
    assert {one.reused for one in exits} >= {1, len(whole.completion_ids) - 1}
    for one in exits:
        assert tokenizer.eos_token_id not in one.completion_ids[:-1]
