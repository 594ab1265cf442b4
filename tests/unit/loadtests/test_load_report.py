import json
from dataclasses import replace

import pytest

from loadtests.load_report import Distribution, LoadReport, Thresholds
from loadtests.server_totals import Totals, totals_of

SEEN = Totals(answers=10, tokens=600, steps=25)
REPORT = LoadReport(
    scenario="steady",
    users=4,
    seconds=5,
    failures={},
    hang_ups=0,
    quantities={
        "time to first token": Distribution(10, 400, 40, 60, 70, 75),
        "time between tokens": Distribution(10, 50, 5, 6, 7, 8),
        "latency": Distribution(10, 4000, 400, 600, 650, 700),
        "tokens per answer": Distribution(10, 600, 60, 90, 95, 99),
        "steps per answer": Distribution(10, 25, 2, 5, 6, 6),
    },
    server=SEEN,
)


def test_a_run_that_meets_its_thresholds_passes():
    limits = Thresholds(0, 60, 6, 600, 2, exact_totals=True)
    assert replace(REPORT, thresholds=limits).verdicts() == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_first_token_p95": 59}, "time to first token: p95 is 60 ms, at most 59 ms may be"),
        ({"max_between_tokens_p95": 5}, "time between tokens: p95 is 6 ms"),
        ({"max_latency_p95": 500}, "latency: p95 is 600 ms"),
        ({"min_answers_per_second": 3}, "2.0 answers/s, at least 3 should be"),
    ],
)
def test_each_threshold_fails_the_run_by_itself(limits, said):
    (verdict,) = replace(REPORT, thresholds=Thresholds(**limits)).verdicts()
    assert said in verdict


def test_a_failure_fails_the_run():
    failed = replace(REPORT, failures={"refused": 2})
    assert failed.verdicts() == ["2 requests failed, at most 0 may"]
    assert replace(failed, thresholds=Thresholds(max_failures=2)).verdicts() == []
    assert "- 2 x refused" in failed.markdown()


def test_a_worker_whose_last_figures_are_missing_fails_the_run():
    (verdict,) = replace(REPORT, lost_workers=1).verdicts()
    assert "what they counted last is missing" in verdict


@pytest.mark.parametrize("server", [None, Totals(10, 601, 25), Totals(11, 600, 25), Totals(10, 600, 24)])
def test_totals_are_exact_or_the_run_fails(server):
    report = replace(REPORT, server=server, thresholds=Thresholds(exact_totals=True))
    assert len(report.verdicts()) == 1
    assert "**failed**" in report.markdown()


def test_no_answer_at_all_fails_the_run():
    empty = {name: Distribution(0, 0, 0, 0, 0, 0) for name in REPORT.quantities}
    assert replace(REPORT, quantities=empty, server=None).verdicts() == ["no answer came: see the failures"]


def test_the_report_in_words_and_in_json(tmp_path):
    REPORT.write(tmp_path / "new")
    text = (tmp_path / "new" / "load.md").read_text()
    assert "**passed**: 10 answers from 4 users in 5.0 s, 2.0 answers/s, 120 tokens/s" in text
    assert "| tokens per answer | 60.0 | 60 | 90 | 95 | 99 |" in text
    assert "| gained by the server's metrics | 10 | 600 | 25 |" in text
    figures = json.loads((tmp_path / "new" / "load.json").read_text())
    assert figures["seen"] == figures["server"] == {"answers": 10, "tokens": 600, "steps": 25}
    assert figures["verdicts"] == []


METRICS = """\
# TYPE stepgrpo_completion_tokens histogram
stepgrpo_completion_tokens_bucket{model_name="a",le="+Inf"} 3
stepgrpo_completion_tokens_count{model_name="a"} 3
stepgrpo_completion_tokens_sum{model_name="a"} 120
stepgrpo_completion_tokens_count{model_name="b"} 5
stepgrpo_completion_tokens_sum{model_name="b"} 500
# TYPE stepgrpo_reasoning_steps histogram
stepgrpo_reasoning_steps_count{model_name="a"} 3
stepgrpo_reasoning_steps_sum{model_name="a"} 7
"""


def test_the_servers_totals_are_of_the_model_asked():
    assert totals_of(METRICS, ["a"]) == Totals(answers=3, tokens=120, steps=7)
    assert totals_of(METRICS, ["a"]) - Totals(1, 20, 2) == Totals(2, 100, 5)
    assert totals_of("", ["a"]) is None
