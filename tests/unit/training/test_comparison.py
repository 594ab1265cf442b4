import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from training import evaluation
from training.comparison import BASE, GRIDS, Result, Run, carry_out, choose, compare_methods
from training.comparison_report import interval, summarise, write_comparison
from training.data import DataError
from training.errors import TrainingError
from training.evaluation import Measured, Outcome
from training.grading import grade
from training.methods import METHODS
from training.problems import take
from training.recipe import load_recipe
from training.sampler import Sampling


def result(method, accuracy, tokens, *, seed=0, probe_tokens=0.0, useful=0.5, **settings):
    return Result(method, seed, settings, accuracy, tokens, probe_tokens, 2.0, 0.1, useful, 1000.0, 60.0)


def test_every_method_is_tried_as_often_with_settings_that_a_recipe_has():
    variants = {settings["method"] for trials in GRIDS.values() for settings in trials if "method" in settings}
    assert set(GRIDS) | variants == set(METHODS)
    assert {len(trials) for trials in GRIDS.values()} == {3}
    recipe = load_recipe("quickstart")
    for trials in GRIDS.values():
        assert len({recipe.overridden(settings).digest for settings in trials}) == 3


def test_the_shortest_of_the_accurate_trials_is_chosen():
    longer = result("grpo", 0.95, 50, probe_tokens=30)
    trials = [result("grpo", 0.95, 90), longer, result("grpo", 0.943, 60), result("grpo", 0.93, 10)]
    assert choose(trials) is trials[2]


def test_a_finished_run_is_read_and_not_made_again_but_with_other_settings(tmp_path):
    found = result("grpo", 0.9, 50, useful=float("nan"), **{"reward.beta": 0.5})
    (tmp_path / "result.json").write_text(json.dumps({name: getattr(found, name) for name in found.__slots__}))
    again = carry_out(load_recipe("quickstart"), tmp_path, Run("grpo", 0, {"reward.beta": 0.5}, "test", 10, tmp_path))
    assert again.accuracy == 0.9
    assert math.isnan(again.useful_checks)
    with pytest.raises(ValueError, match="less than 1"):  # it begins, with a setting that no recipe can have
        carry_out(load_recipe("quickstart"), tmp_path, Run("grpo", 0, {"reward.beta": 2.0}, "test", 10, tmp_path))


def test_trial_answers_are_counted_once(tmp_path, monkeypatch):
    [problem] = take("test", 0, 1)
    answers = (Outcome(problem, grade("\\boxed{4}", "4", ("Wait",)), tokens=50, probe_tokens=30),)
    monkeypatch.setattr(evaluation, "measure", lambda *_, **__: [Measured("deer", Sampling(), answers)])
    found = carry_out(load_recipe("quickstart"), tmp_path, Run("deer", 0, {}, "test", 1, tmp_path / "deer"))
    assert (found.tokens, found.probe_tokens, found.decoded_tokens) == (50, 30, 80)


@pytest.fixture
def measured(tmp_path):
    """A comparison of the base alone whose only run is on disk."""
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    kept = tmp_path / "out" / "final" / BASE / "0"
    kept.mkdir(parents=True)
    found = result(BASE, 0.9, 50)
    (kept / "result.json").write_text(json.dumps({name: getattr(found, name) for name in found.__slots__}))

    def compare(*changes, questions=10):
        recipe = load_recipe("quickstart", changes)
        options = {"methods": (), "seeds": 1, "questions": questions, "workers": 1, "base": tmp_path}
        return compare_methods(recipe, tmp_path / "out", lambda _: lambda *_: None, **options)

    return compare


def test_a_comparison_goes_on_with_what_is_on_disk(measured):
    for _ in range(2):
        rows = json.loads((measured() / "comparison.json").read_text())["rows"]
        assert [(row["method"], row["accuracy"]["mean"]) for row in rows] == [(BASE, 0.9)]


def test_results_of_other_settings_are_refused(measured, tmp_path):
    measured()
    with pytest.raises(TrainingError, match="another questions"):
        measured(questions=20)
    with pytest.raises(TrainingError, match="another recipe"):
        measured("grpo.learning_rate=0.1")
    (tmp_path / "weights.safetensors").write_bytes(b"others")
    with pytest.raises(TrainingError, match=r"another base: give an --output"):
        measured()


def test_data_without_held_out_questions_are_refused(measured):
    with pytest.raises(DataError, match="gsm8k has no held-out questions"):
        measured("data.name=gsm8k")


def test_a_base_without_weights_is_refused(measured, tmp_path):
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(TrainingError, match="holds no weights"):
        measured()


@pytest.mark.integration
def test_a_killed_comparison_leaves_no_worker_behind(tmp_path):
    body = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from training.comparison import _end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""
    script = tmp_path / "pool.py"
    script.write_text(body)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "the worker still runs"
        time.sleep(0.05)


def test_intervals_are_students():
    found = interval([1.0, 2.0, 3.0])
    assert (found.mean, found.high) == pytest.approx((2.0, 2.0 + 4.3027 / math.sqrt(3)), abs=1e-3)
    assert interval([5.0]).low == 5.0


def test_savings_count_trial_answers_and_the_front_is_marked():
    rows = summarise(
        [
            result(BASE, 0.9, 100),
            result("deer", 0.9, 50, probe_tokens=30),
            result("grpo", 0.95, 80, useful=float("nan")),
            result("step-grpo", 0.96, 60),
            result("step-grpo", 0.98, 60, seed=1),
        ]
    )
    by_name = {row.method: row for row in rows}
    assert by_name["deer"].tokens.mean == 80
    assert by_name["step-grpo"].saved.mean == pytest.approx(0.4)
    assert math.isnan(by_name["grpo"].useful_checks.mean)
    assert [row.method for row in rows if row.on_front] == ["step-grpo"]


def test_the_report_is_tables_json_and_plots(tmp_path):
    tuning = [result("grpo", 0.91, 90, **{"reward.beta": beta}) for beta in (0.3, 0.5)]
    final = [result("grpo", accuracy, 80, useful=float("nan"), **{"reward.beta": 0.5}) for accuracy in (0.94, 0.96)]
    write_comparison(
        tmp_path, tuning, [result(BASE, 0.9, 100), result(BASE, 0.9, 100), *final], token_budget=5, trial_budget=2
    )
    names = ["checks.png", "comparison.json", "comparison.md", "pareto.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    text = (tmp_path / "comparison.md").read_text()
    assert "| grpo | 95.0% ± 12.7 | 80.0 | 20.0% | 2.00 | 10.0% | - | 1,000 | 1.0 | yes |" in text
    assert "| grpo | beta 0.3 | 91.0% | 90.0 |  |" in text
    assert "| grpo | beta 0.5 | 91.0% | 90.0 | yes |" in text
    assert len(json.loads((tmp_path / "comparison.json").read_text())["tuning"]) == 2
