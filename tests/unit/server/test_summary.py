"""What each model did, since the start or in a window of time."""

import pytest

from reasoning import parse_trace
from server import summary as summary_module
from server.savings import Baseline
from server.summary import EfficiencySummary

CALIBRATED = Baseline("calibrated", 0.5, 100.0, (0.4, 0.6))


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def summary(clock):
    summary = EfficiencySummary(clock)
    summary.add_model("tuned", CALIBRATED)
    return summary


def answer(summary, tokens, steps=1, baseline=CALIBRATED):
    thought = " Wait, ".join(["a"] * steps)
    summary.requested("tuned")
    summary.finished("tuned", parse_trace(f"<think>{thought}</think>b", tokens=tokens), baseline)


def of(summary, window=None):
    (model,) = summary.models(window)
    return model


def test_how_the_answers_were_spread(summary):
    for tokens in range(1, 101):
        answer(summary, tokens, steps=1 + (tokens > 95))
    spread = of(summary).per_answer
    assert spread.completion_tokens.model_dump() == {"mean": 50.5, "p50": 50, "p90": 90, "p99": 99}
    assert spread.reasoning_steps.model_dump() == {"mean": 1.05, "p50": 1, "p90": 1, "p99": 2}
    assert spread.reasoning_tokens.mean + spread.answer_tokens.mean == pytest.approx(50.5)


def test_a_snapshot_stays_as_it_was_while_answers_and_models_come(summary):
    answer(summary, 10)
    add_up = summary.snapshot(None, None)
    answer(summary, 30)
    summary.add_model("adapter", CALIBRATED)
    (model,) = add_up()
    assert (model.answers, model.per_answer.completion_tokens.p99) == (1, 10)
    assert [each.answers for each in summary.models()] == [2, 0]


def test_before_the_first_answer_nothing_is_known(summary):
    model = of(summary)
    assert set(model.per_answer.completion_tokens.model_dump().values()) == {None}
    assert (model.choices, model.savings["calibrated"].ci95) == (0, None)
    assert set(model.savings) == {"calibrated"}


def test_a_window_holds_what_happened_in_it(summary, clock):
    answer(summary, 10)
    clock.now += 100
    answer(summary, 30)
    summary.requested("tuned")
    summary.aborted("tuned")
    clock.now += 10
    recent, all_time = of(summary, 60), of(summary)
    assert (recent.seconds, recent.requests, recent.choices, recent.answers) == (60, 2, 2, 1)
    assert recent.tokens_per_answer.completion == recent.per_answer.completion_tokens.p99 == 30
    assert recent.exits["abort"] == 1
    assert recent.savings["calibrated"].actual_tokens == 30
    assert (all_time.seconds, all_time.requests, all_time.answers) == (110, 3, 2)
    assert all_time.per_answer.completion_tokens.p90 == 30
    assert of(summary, 1).answers == 0


def test_a_window_says_how_much_of_it_is_known(summary, clock, monkeypatch):
    clock.now += 5
    assert of(summary, 60).seconds == 5
    monkeypatch.setattr(summary_module, "KEPT", 4)
    summary.add_model("tuned", CALIBRATED)
    for _ in range(3):
        clock.now += 10
        answer(summary, 10)
    assert of(summary, 60).seconds == 10
    assert of(summary, 60).answers == 2
    assert of(summary).answers == 3


def test_calibrated_savings_have_the_interval_of_the_calibration(summary):
    answer(summary, 10)
    savings = of(summary).savings["calibrated"]
    assert (savings.answers, savings.baseline_tokens, savings.savings_ratio) == (1, 20.0, 0.5)
    assert savings.ci95 == (0.4, 0.6)


def test_shadow_savings_have_the_interval_of_their_pairs(summary, clock):
    for actual in range(50, 80):
        summary.compared("tuned", actual, 100 + actual % 7)
    clock.now += 100
    savings = of(summary).savings["shadow"]
    lower, upper = savings.ci95
    assert (savings.answers, savings.actual_tokens) == (30, sum(range(50, 80)))
    assert lower < savings.savings_ratio < upper
    assert "shadow" not in of(summary, 10).savings


def test_without_a_baseline_there_are_no_savings():
    summary = EfficiencySummary()
    summary.add_model("tuned", Baseline())
    answer(summary, 10, baseline=Baseline())
    savings = of(summary).savings["none"]
    assert (savings.answers, savings.actual_tokens) == (1, 10)
    assert {savings.baseline_tokens, savings.tokens_saved, savings.savings_ratio, savings.ci95} == {None}


def test_one_model_alone(summary):
    summary.add_model("adapter", Baseline())
    assert [model.model for model in summary.models()] == ["tuned", "adapter"]
    assert [model.model for model in summary.models(model="adapter")] == ["adapter"]
    assert summary.models(model="nobody") == []
