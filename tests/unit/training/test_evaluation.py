from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

from training import evaluation
from training.evaluation import (
    ChainChecks,
    Measured,
    Outcome,
    adaptivity,
    chain_checks,
    compare,
    measure,
    repair_shares,
)
from training.grading import grade
from training.problems import Problem, take
from training.recipe import load_recipe
from training.rollout import plain_rollouts, truncated_rollouts
from training.sampler import GREEDY, Sampling

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"


def outcome(family, text, answer="4", needed=1, tokens=10):
    problem = Problem(family, f"{family} {text}", answer, needed)
    return Outcome(problem, grade(text, answer, ("Wait",)), tokens)


def measured(*outcomes):
    return Measured("m", Sampling(), outcomes)


def chain(*steps, answer="4"):
    return outcome("chain", f"<think>\n{' '.join(steps)}\n</think>\n\n\\boxed{{{answer}}}")


def search(needed, exit_step):
    steps = " Wait, ".join(["x"] * exit_step)
    return outcome("days", f"<think>\n{steps}\n</think>\n\n\\boxed{{4}}", needed=needed)


def test_grades_only_what_stands_boxed_after_the_thinking():
    assert not grade("<think>\n\\boxed{4}\n</think>\n\n5", "4", ("Wait",)).formatted
    right = grade("<think>\na Wait b\n</think>\n\n\\boxed{4}", "4", ("Wait",))
    assert (right.correct, right.steps) == (True, 2)


def test_a_comparison_is_paired_and_has_intervals():
    base = measured(*[outcome("days", "\\boxed{4}", tokens=100 + i) for i in range(40)])
    tuned = measured(*[outcome("days", "\\boxed{4}", tokens=50 + i) for i in range(40)])
    found = compare(base, tuned, resamples=500)
    assert found.savings_ratio.mean == pytest.approx(50 / 119.5)
    assert found.savings_ratio.low < found.savings_ratio.mean < found.savings_ratio.high
    assert found.accuracy_difference.mean == found.accuracy_difference.low == 0


def test_different_questions_cannot_be_paired():
    with pytest.raises(ValueError, match="same questions"):
        compare(measured(search(1, 1)), measured(search(1, 2)))


def test_exits_that_follow_the_needed_step():
    found = adaptivity(measured(*[search(n, n) for n in range(1, 7)], search(2, 1), search(2, 4), chain("So 4.")))
    assert found.rank_correlation > 0.8
    assert (found.before, found.at, found.after) == pytest.approx((1 / 8, 6 / 8, 1 / 8))


def test_checks_after_right_and_wrong_first_passes():
    found = chain_checks(
        measured(chain("So 4."), chain("So 4.", "Wait, 4."), chain("So 5.", "Wait, 4."), search(1, 1), search(2, 2))
    )
    assert found == ChainChecks(after_right=0.5, after_wrong=1.0, right=2, wrong=1)


def test_checks_of_the_chains_that_need_so_many_steps():
    short, long = chain("So 4."), replace(chain("So 5.", "Wait, 4."), problem=Problem("chain", "long", "4", 2))
    found = chain_checks(measured(short, long), needed=2)
    assert (found.right, found.wrong, found.after_wrong) == (0, 1, 1.0)
    assert isnan(found.after_right)


def test_rescued_and_spoiled_chains():
    found = repair_shares(
        measured(chain("So 5.", "Wait, 4."), chain("So 4.", "Wait, 5.", answer="5"), chain("So 4."), chain("So 4."))
    )
    assert (found.rescued, found.spoiled, found.hidden) == (0.25, 0.25, 0)


def test_a_check_without_a_marker_is_seen():
    one, two = "January 5: 2 + 5 = 7. So 7.", "Wait, check it: January 5: 2 + 5 = 7."
    told, hidden = chain(one, two), chain(one, ", again: January 5: 2 + 5 = 7.")
    behind = chain(one, answer="7}. January 5: 2 + 5 = 7. \\boxed{7")
    assert [o.passes for o in (told, hidden, behind)] == [2, 2, 2]
    assert repair_shares(measured(told, told, hidden, behind)).hidden == 0.5


@pytest.mark.parametrize("rollouts", [plain_rollouts, truncated_rollouts])
def test_each_answer_is_told_when_it_comes(monkeypatch, scripted_engine, rollouts):
    engine = scripted_engine("")
    engine.close = lambda: None
    monkeypatch.setattr(evaluation, "open_engine", lambda recipe, model: engine)
    waiting = []
    questions, samplings = take("test", 0, 3), [Sampling(), GREEDY]
    measure(
        load_recipe("quickstart"),
        BASE,
        questions,
        samplings,
        rollouts,
        on_answer=lambda: waiting.append(len(engine.queue)),
    )
    assert waiting == [2, 1, 0] * 2
