import pytest

from reasoning import parse_trace
from server.report import ResponseReports, collecting, current_reports, report_of
from server.savings import Baseline, baseline_of


def test_the_report_of_a_calibrated_answer():
    trace = parse_trace("<think>" + "x" * 110 + "</think>" + "y" * 15, tokens=140)
    report = report_of(trace, Baseline("calibrated", 0.32, 200.0))
    assert report["baseline"] == {"source": "calibrated", "completion_tokens": 205.9}
    assert report["tokens_saved"] == 65.9
    assert report["savings_ratio"] == 0.32


def test_the_report_of_an_answer_without_a_baseline():
    report = report_of(parse_trace("<think>a</think>b", tokens=4), Baseline())
    assert report["baseline"] == {"source": "none", "completion_tokens": None}
    assert report["tokens_saved"] is None
    assert report["savings_ratio"] is None


def test_savings_may_be_negative():
    report = report_of(parse_trace("<think>a</think>b", tokens=110), Baseline("calibrated", -0.1, 100.0))
    assert report["tokens_saved"] == pytest.approx(-10)


def test_the_baseline_comes_from_the_card(card):
    assert baseline_of(card()) == Baseline("calibrated", 0.32, 200.0, (0.3, 0.34))
    assert baseline_of(card(calibration=None)) == Baseline()
    assert baseline_of(None) == Baseline()


def test_requests_find_the_response_that_they_belong_to():
    assert current_reports() is None
    with collecting(ResponseReports()) as reports:
        assert current_reports() is reports
        assert [reports.claim(2), reports.claim(1), reports.claim(3)] == [0, 2, 3]
    assert current_reports() is None
    assert reports.reasoning_tokens is None
