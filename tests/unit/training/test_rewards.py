import math

import pytest

from training.rewards import step_aware_relative_reward


def rewards(correct, steps, **options):
    size = len(correct)
    return step_aware_relative_reward(
        **{"correct": correct, "steps": steps, "formatted": [True] * size, "groups": ["q"] * size} | options
    )


def test_correct_answers_are_compared_with_the_mean_steps_of_the_correct_ones():
    short, long, wrong = rewards([True, True, False], [2, 6, 40])
    assert short == pytest.approx(0.9 * (1 + 0.5 * math.tanh(0.5)) + 0.1)
    assert long == pytest.approx(0.9 * (1 - 0.5 * math.tanh(0.5)) + 0.1)
    assert wrong == pytest.approx(0.1)


def test_a_lone_correct_answer_is_its_own_baseline():
    assert rewards([True, False], [7, 1]) == pytest.approx([1.0, 0.1])


def test_without_a_correct_answer_only_the_format_counts():
    assert rewards([False, False], [1, 9], formatted=[True, False]) == pytest.approx([0.1, 0.0])


def test_the_all_sample_mean_is_an_option():
    assert rewards([True, False], [2, 6], baseline="all")[0] == pytest.approx(0.9 * (1 + 0.5 * math.tanh(0.5)) + 0.1)


def test_beta_zero_leaves_the_steps_out():
    assert rewards([True, True], [1, 50], beta=0.0) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": [1]}, "same length"),
        ({"steps": [0, 1]}, "at least one"),
        ({"alpha": 1.5}, "alpha"),
        ({"beta": 1.0}, "beta"),
    ],
)
def test_bad_input_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        rewards([True, True], **{"steps": [1, 2]} | options)


def test_equally_long_correct_answers_are_worth_the_same():
    assert rewards([True] * 3, [4] * 3) == pytest.approx([1.0] * 3)


def test_a_lone_correct_answer_among_all_samples_is_compared_with_the_wrong_ones():
    assert rewards([True, False], [7, 1], baseline="all")[0] == pytest.approx(0.9 * (1 - 0.5 * math.tanh(0.75)) + 0.1)


def test_an_empty_batch_has_no_rewards():
    assert rewards([], []) == []
