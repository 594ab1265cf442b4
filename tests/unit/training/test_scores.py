import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from training import benchmark_report
from training.answering import Reply, from_checkpoint
from training.benchmark_report import evaluate_models, score
from training.benchmarks import Item
from training.problems import take
from training.recipe import load_recipe
from training.sampler import GREEDY
from training.scores import Answers, against, average_at_k, by_difficulty, pareto_front, pass_at_k


def answers(correct, tokens=None, difficulty=None, model="m"):
    correct = np.array(correct, dtype=float)
    tokens = np.full(correct.shape, 100.0) if tokens is None else np.array(tokens, dtype=float)
    labels = tuple(difficulty or [""] * len(correct))
    exits = tuple(("model",) * correct.shape[1] for _ in correct)
    return Answers(model, "b", correct, tokens, np.ones(correct.shape), labels, exits)


def test_average_and_pass_at_k():
    found = answers([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert average_at_k(found) == pytest.approx(3 / 12)
    for k in (1, 2, 3):
        expected = np.mean([np.mean([any(pick) for pick in combinations(row, k)]) for row in found.correct])
        assert pass_at_k(found, k) == pytest.approx(expected)
    with pytest.raises(ValueError, match="pass@5"):
        pass_at_k(found, 5)


def test_a_model_against_its_reference():
    base = answers([[1], [1], [0], [0]] * 10, tokens=[[200]] * 40)
    better = answers([[1], [1], [1], [0]] * 10, tokens=[[100]] * 40)
    found = against(base, better, resamples=400)
    assert found.accuracy_difference.mean == pytest.approx(0.25)
    assert found.compression_rate.mean == found.compression_rate.high == pytest.approx(0.5)
    assert found.efficiency_score.mean == pytest.approx(0.5 + 3 * 0.5)
    assert against(better, base, resamples=400).efficiency_score.mean == pytest.approx(-1 - 5 / 3)
    with pytest.raises(ValueError, match="same questions"):
        against(base, answers([[1]]))


def test_difficulty_groups_questions():
    found = answers([[1], [0], [1]], tokens=[[10], [20], [60]], difficulty=["hard", "easy", "hard"])
    assert by_difficulty(found) == {"easy": (1, 0.0, 20.0), "hard": (2, 1.0, 35.0)}


def test_the_front_holds_what_nothing_beats():
    assert pareto_front([(0.9, 100), (0.8, 50), (0.7, 60), (0.9, 100)]) == [True, True, False, True]


def test_replies_are_graded_as_mathematics_or_text_after_the_thinking():
    recipe = load_recipe("quickstart")
    items = [Item("q", "1/2"), Item("q", "A"), Item("q", "3")]
    texts = ["<think>\na Wait b\n</think>\n\n\\boxed{0.5}", "\\boxed{(A)}", "<think>\n\\boxed{3}"]
    found = score(recipe, "m", "b", items, [[Reply(text, 9, "stop")] for text in texts])
    assert found.correct.ravel().tolist() == [1, 1, 0]
    assert found.steps.ravel().tolist() == [2, 1, 1]
    assert [row[0] for row in found.exits] == ["model", "none", "eos"]


def test_many_models_become_one_report(tmp_path, monkeypatch):
    items = [Item(f"q{n}", str(n), f"level {n % 2}") for n in range(6)]
    monkeypatch.setattr(benchmark_report, "load_benchmark", lambda name, folder: items)
    right = {"base": 3, "tuned": 5}

    def reply(recipe, model, questions, sampling, samples):
        return [[Reply(f"\\boxed{{{n if n < right[model] else 99}}}", 50, "stop")] * samples for n in range(6)]

    monkeypatch.setattr(benchmark_report, "from_checkpoint", reply)
    stage = SimpleNamespace(names=[])
    report = evaluate_models(
        load_recipe("quickstart"),
        ["base", "tuned"],
        ["math-500"],
        tmp_path,
        lambda name: stage.names.append(name) or (lambda *_: None),
        samples=2,
    )
    rows = json.loads((report / "benchmarks.json").read_text())
    assert [row["accuracy"] for row in rows] == pytest.approx([0.5, 5 / 6])
    assert rows[1]["against_reference"]["accuracy_difference"]["mean"] == pytest.approx(1 / 3)
    assert stage.names == ["base", "tuned"]
    assert sorted(path.name for path in report.iterdir()) == [
        "benchmarks.json",
        "difficulty.png",
        "exits.png",
        "pareto.png",
        "report.md",
    ]
    assert "| math-500 | tuned | 6 x 2 | 83.3%" in (report / "report.md").read_text()


def test_a_checkpoint_answers_by_plain_decoding():
    recipe = load_recipe("quickstart", ["rollout.engine=transformers"])
    problems = take("test", 0, 6)
    base = Path(__file__).resolve().parents[3] / "checkpoints" / "base"
    replies = from_checkpoint(recipe, str(base), [problem.question for problem in problems], GREEDY, 2)
    found = score(recipe, "base", "problems", [Item(p.question, p.answer) for p in problems], replies)
    assert found.correct.shape == (6, 2)
    assert (found.tokens[:, 0] == found.tokens[:, 1]).all()
    assert found.correct.mean() > 0.5
