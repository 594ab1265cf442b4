"""Pruning's figures from runs whose answers are known."""

import json
import random
from dataclasses import asdict

import pytest

from training.evaluation import Measured, Outcome
from training.grading import grade
from training.json_text import json_text
from training.problems import Problem
from training.pruning_bench import PRUNED, WHOLE, Side, compare_sides
from training.sampler import Sampling

QUESTIONS = 60


def answers(right, tokens=100):
    """A run that answers the questions as told."""
    return Measured("m", Sampling(), tuple(outcome(n, ok, tokens) for n, ok in enumerate(right)))


def outcome(number, right, tokens):
    problem = Problem("days", f"question {number}", "4", 1)
    return Outcome(problem, grade(f"\\boxed{{{4 if right else 5}}}", "4", ("Wait",)), tokens)


def side(name, *runs, tokens=1000.0):
    return Side(name, (tokens,) * len(runs), (tokens,) * len(runs), runs)


@pytest.fixture
def right():
    rng = random.Random(0)
    return [rng.random() < 0.6 for _ in range(QUESTIONS)]


def test_seeds_that_answer_alike_make_no_interval_narrower(right):
    whole, pruned = answers([True] * QUESTIONS), answers(right, tokens=50)

    def widths(seeds):
        found = compare_sides(side(WHOLE, *[whole] * seeds), side(PRUNED, *[pruned] * seeds), [whole] * seeds)
        return [each.mean.high - each.mean.low for each in (found.accuracy, found.saved)]

    assert widths(4) == pytest.approx(widths(1))
    assert widths(1)[0] == pytest.approx(2 * 1.96 * (0.6 * 0.4 / QUESTIONS) ** 0.5, rel=0.15)


def test_figures_and_the_difference_of_every_seed(right):
    whole = answers([True] * QUESTIONS)
    pruned = (answers([True] * QUESTIONS, tokens=50), answers(right, tokens=150))
    found = compare_sides(side(WHOLE, whole, whole, tokens=3000.0), side(PRUNED, *pruned), [whole, whole])
    assert found.figures[0].values == (3.0, 3.0)
    assert found.saved.by_seed == pytest.approx((0.5, -0.5))
    assert found.saved.mean.mean == found.rows[1]["saved"] == pytest.approx(0)
    assert found.accuracy.by_seed == pytest.approx((0, sum(right) / QUESTIONS - 1))
    assert found.accuracy.mean.mean == pytest.approx(sum(found.accuracy.by_seed) / 2)
    assert json.loads(json_text(asdict(found)))["saved"]["by_seed"] == pytest.approx([0.5, -0.5])
    assert "tokens saved, pruned against all: +0.0 points [+0.0, +0.0], no difference seen; by seed: +50.0, -50.0" in (
        found.as_markdown()
    )


@pytest.mark.parametrize(("seeds", "said"), [(1, "One seed was trained"), (2, "2 differences by seed")])
def test_the_report_says_what_its_intervals_cover(right, seeds, said):
    runs = [answers(right)] * seeds
    text = compare_sides(side(WHOLE, *runs), side(PRUNED, *runs), runs).as_markdown()
    assert f"paired bootstrap over the {QUESTIONS} questions" in text
    assert said in text
