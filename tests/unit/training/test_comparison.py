import json
import math

import pytest

from training.comparison import BASE, GRIDS, Result, Run, carry_out, choose
from training.comparison_report import interval, summarise, write_comparison
from training.methods import METHODS
from training.recipe import load_recipe


def result(method, accuracy, tokens, *, seed=0, probe_tokens=0.0, useful=0.5, **settings):
    return Result(method, seed, settings, accuracy, tokens, probe_tokens, 2.0, 0.1, useful, 1000.0, 60.0)


def test_every_method_is_tried_as_often_with_settings_that_a_recipe_has():
    assert set(GRIDS) == set(METHODS)
    assert {len(trials) for trials in GRIDS.values()} == {3}
    recipe = load_recipe("quickstart")
    for trials in GRIDS.values():
        assert len({recipe.overridden(settings).digest for settings in trials}) == 3


def test_the_shortest_of_the_accurate_trials_is_chosen():
    trials = [result("grpo", 0.95, 90), result("grpo", 0.943, 60), result("grpo", 0.93, 10)]
    assert choose(trials) is trials[1]


def test_a_finished_run_is_read_and_not_made_again(tmp_path):
    run = Run("grpo", 0, {}, "test", 10, tmp_path)
    found = result("grpo", 0.9, 50, useful=float("nan"))
    (tmp_path / "result.json").write_text(json.dumps({name: getattr(found, name) for name in found.__slots__}))
    again = carry_out(load_recipe("quickstart"), tmp_path, run)
    assert again.accuracy == 0.9
    assert math.isnan(again.useful_checks)


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
    assert math.isnan(by_name["grpo"].useful_checks)
    assert [row.method for row in rows if row.on_front] == ["step-grpo"]


def test_the_report_is_a_table_json_and_a_plot(tmp_path):
    write_comparison(
        tmp_path, [result(BASE, 0.9, 100), result("grpo", 0.95, 80, **{"reward.beta": 0.5})], token_budget=5, trials=3
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.json", "comparison.md", "pareto.png"]
    text = (tmp_path / "comparison.md").read_text()
    assert "| grpo | beta 0.5 | 95.0% [95.0, 95.0] | 80.0 [80.0, 80.0] | 20.0%" in text
