import json
from dataclasses import replace

import numpy as np
import pytest

from training.evaluation import Measured, Outcome
from training.grading import grade
from training.problems import Operation, Problem
from training.report import Pair, exit_grid, write_report
from training.sampler import Sampling


def outcome(family, needed, text, tokens=10, operations=0):
    problem = Problem(family, f"{family} {needed}", "4", needed, operations=(Operation("+", 1),) * operations)
    return Outcome(problem, grade(text, "4", ("Wait",)), tokens)


def thought(steps, answer="4"):
    return f"<think>\n{' Wait, '.join(['x'] * steps)}\n</think>\n\n\\boxed{{{answer}}}"


def measured(*outcomes, name="base"):
    return Measured(name, Sampling(), outcomes)


def halved(side):
    return tuple(replace(each, tokens=each.tokens // 2) for each in side.outcomes)


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


@pytest.fixture
def searches():
    return [outcome("days", needed, thought(needed + 1), tokens=20 * needed) for needed in range(1, 7)]


def write(folder, base, tuned):
    write_report(folder, [Pair("T=1", base, tuned)], [], threshold=0.95)
    return json.loads((folder / "report.json").read_text(), parse_constant=refuse), (folder / "report.md").read_text()


def test_an_answer_without_a_step_stands_at_step_0_of_the_picture(searches):
    grid = exit_grid(measured(outcome("days", 2, "\\boxed{4}"), outcome("days", 2, thought(30)), *searches))
    assert grid.shape == (13, 6)
    assert grid[:, 1].tolist() == pytest.approx(np.eye(13)[[0, 3, 12]].sum(axis=0) / 3)


def test_what_cannot_be_computed_is_null_and_a_dash(tmp_path):
    base = measured(outcome("days", 1, thought(1)), outcome("days", 2, thought(1)))  # no chain, all exits alike
    found, text = write(tmp_path, base, replace(base, name="tuned"))
    side = found["pairs"]["T=1"]["base"]
    assert side["adaptivity"]["rank_correlation"] is None
    assert side["repairs"] == {"rescued": None, "spoiled": None, "hidden": None}
    assert "nan" not in text
    assert "| T=1 | base | - | - | - |" in text


def test_savings_exits_and_difficulty_of_a_pair(tmp_path, searches):
    chains = [outcome("chain", 1, thought(2), 60, operations=3), outcome("chain", 2, "<think>\nx", 100, operations=8)]
    base = measured(*searches, *chains)
    found, text = write(tmp_path, base, measured(*halved(base), name="tuned"))
    pair = found["pairs"]["T=1"]
    assert pair["comparison"]["compression_rate"]["mean"] == pair["comparison"]["efficiency_score"]["mean"] == 0.5
    assert pair["base"]["exits"] == {"eos": 0.125, "model": 0.875}
    levels = pair["tuned"]["difficulty"]
    assert list(levels) == ["chain of 3", "chain of 8", *(f"guess and check, {n} needed" for n in range(1, 7))]
    assert levels["chain of 8"] == {"questions": 1, "accuracy": 0.0, "tokens": 50.0, "steps": 1.0}
    assert "| T=1 | 50.0% [50.0%, 50.0%] | +0.0 [+0.0, +0.0] | 0.500 | 0.500 [0.500, 0.500] |" in text
    assert "| T=1 | base | 87.5% | 72.5 | 3.75 | model 87.5%, eos 12.5% |" in text
    assert "| chain of 3 | 1 | 100.0% / 100.0% | 60.0 / 30.0 | 2.00 / 2.00 |" in text
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["difficulty.png", "exits.png", "tokens.png"]


def test_trial_answers_of_a_method_at_inference_time_are_not_saved(tmp_path, searches):
    base = measured(*searches)
    exits = [replace(each, probe_tokens=each.tokens // 2) for each in halved(base)]
    found, text = write(tmp_path, base, measured(*exits, name="deer"))
    pair = found["pairs"]["T=1"]
    assert pair["tuned"]["tokens"] == pair["base"]["tokens"] * 3 / 4
    assert pair["comparison"]["savings_ratio"]["mean"] == 0.25
    assert "| T=1 | 25.0% [25.0%, 25.0%] |" in text
    assert "Tokens include those of trial answers" in text
    assert "trial answers" not in write(tmp_path, base, measured(*halved(base)))[1]
