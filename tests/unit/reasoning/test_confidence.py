import math

import pytest

from reasoning import answer_confidence


def test_geometric_mean_without_the_first_token():
    logprobs = [math.log(0.1), math.log(0.5), math.log(0.8)]
    assert answer_confidence(logprobs) == pytest.approx(math.sqrt(0.4))
    assert answer_confidence(logprobs, skip_first=False) == pytest.approx(0.04 ** (1 / 3))


@pytest.mark.parametrize("logprobs", [[], [-0.1]])
def test_nothing_to_judge_by_is_no_confidence(logprobs):
    assert answer_confidence(logprobs) == 0.0


def test_strict_mode_wants_a_closed_answer():
    assert answer_confidence([0.0, 0.0], closed=False) == 0.0
    assert answer_confidence([0.0, 0.0], closed=False, strict=False) == 1.0


def test_arithmetic_mean():
    assert answer_confidence([0.0, math.log(0.5), math.log(0.8)], mean="arithmetic") == pytest.approx(0.65)


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_a_broken_log_probability_is_no_confidence(broken):
    assert answer_confidence([0.0, broken]) == pytest.approx(0, abs=1e-9)


def test_rounding_never_exceeds_one():
    assert answer_confidence([0.0, 1e-9]) == 1.0
