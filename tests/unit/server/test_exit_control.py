import pytest

from server.exit_control import EarlyExit, ExitControl, ExitLimits, InvalidExitControlError, exit_control_of
from server.settings import ServerSettings


def sure(threshold):
    return EarlyExit(policy="confidence", threshold=threshold)


def limits(**settings):
    return ExitLimits.of(ServerSettings(**settings))


def test_a_request_that_asks_for_nothing_is_left_alone():
    assert exit_control_of({"model": "tuned", "max_tokens": 5}) == ExitControl()
    assert limits().effective(ExitControl()) == ExitControl()
    assert not ExitControl().paused


def test_what_a_request_may_ask_for():
    body = {"max_reasoning_steps": 2, "thinking_token_budget": 0, "early_exit": {"policy": "confidence"}}
    assert exit_control_of(body) == ExitControl(max_reasoning_steps=2, thinking_token_budget=0, early_exit=sure(0.95))


def test_null_is_nothing():
    assert exit_control_of({"max_reasoning_steps": None, "early_exit": None}) == ExitControl()
    assert exit_control_of({"thinking_token_budget": -1}) == ExitControl()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_reasoning_steps": 0}, "max_reasoning_steps"),
        ({"max_reasoning_steps": 1.5}, "max_reasoning_steps"),
        ({"max_reasoning_steps": "2"}, "max_reasoning_steps"),
        ({"max_reasoning_steps": True}, "max_reasoning_steps"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        ({"early_exit": True}, "early_exit"),
        ({"early_exit": {}}, "early_exit.policy"),
        ({"early_exit": {"policy": "entropy"}}, "early_exit.policy"),
        ({"early_exit": {"policy": "confidence", "threshold": 1.1}}, "early_exit.threshold"),
        ({"early_exit": {"policy": "confidence", "patience": 2}}, "early_exit.patience"),
        ({"early_exit": {"policy": "confidence", "mean": "median"}}, "early_exit.mean"),
    ],
)
def test_a_field_that_does_not_fit_is_named(body, param):
    with pytest.raises(InvalidExitControlError, match=param) as invalid:
        exit_control_of(body)
    assert invalid.value.param == param


@pytest.mark.parametrize(
    ("asked", "default", "cap", "effective"),
    [
        (None, None, None, None),
        (3, None, None, 3),
        (None, 4, None, 4),
        (3, 4, None, 3),
        (5, 4, None, 5),
        (5, 4, 2, 2),
        (None, 4, 2, 2),
        (None, None, 2, 2),
        (1, None, 2, 1),
    ],
)
def test_a_request_gets_its_own_word_or_the_default_within_the_cap(asked, default, cap, effective):
    by_steps = limits(max_reasoning_steps=default, max_reasoning_steps_cap=cap)
    assert by_steps.effective(ExitControl(max_reasoning_steps=asked)).max_reasoning_steps == effective
    by_tokens = limits(thinking_token_budget=default, thinking_token_budget_cap=cap)
    assert by_tokens.effective(ExitControl(thinking_token_budget=asked)).thinking_token_budget == effective
    tenth = [None if value is None else value / 10 for value in (asked, default, cap, effective)]
    by_confidence = limits(early_exit_threshold=tenth[1], early_exit_threshold_cap=tenth[2])
    own = ExitControl(early_exit=None if tenth[0] is None else sure(tenth[0]))
    assert by_confidence.effective(own).early_exit == (None if tenth[3] is None else sure(tenth[3]))


def test_the_mean_is_the_requests_own_under_any_limit():
    asked = exit_control_of({"early_exit": {"policy": "confidence", "mean": "arithmetic", "threshold": 0.9}})
    for within in (limits(), limits(early_exit_threshold_cap=0.8), limits(early_exit_threshold=0.7)):
        assert within.effective(asked).early_exit.mean == "arithmetic"
    assert limits(early_exit_threshold_cap=0.8).effective(asked).early_exit.threshold == 0.8
    assert limits(early_exit_threshold=0.7).effective(ExitControl()).early_exit.mean == "geometric"


def test_only_steps_and_confidence_pause_the_thinking():
    assert not ExitControl(thinking_token_budget=5).paused
    assert ExitControl(max_reasoning_steps=5).paused
    assert ExitControl(early_exit=sure(0.5)).paused


def test_limits_say_whether_they_need_budgets():
    assert not limits(max_reasoning_steps=1).budgets_tokens
    assert limits(thinking_token_budget=1).budgets_tokens
    assert limits(thinking_token_budget_cap=1).budgets_tokens
