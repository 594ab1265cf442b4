import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from training import benchmark_report
from training.answering import Reply, from_checkpoint
from training.benchmark_report import evaluate_models, plot_names, score
from training.benchmarks import Item
from training.errors import TrainingError
from training.problems import take
from training.recipe import load_recipe
from training.sampler import GREEDY
from training.scores import Answers, Level, against, average_at_k, by_difficulty, pareto_front, pass_at_k

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"


def answers(correct, tokens=None, difficulty=None, model="m"):
    correct = np.array(correct, dtype=float)
    tokens = np.full(correct.shape, 100.0) if tokens is None else np.array(tokens, dtype=float)
    labels = tuple(difficulty or [""] * len(correct))
    exits = tuple(("model",) * correct.shape[1] for _ in correct)
    steps = np.ones(correct.shape, dtype=int)
    return Answers(model, "b", correct, tokens, steps, labels, exits, steps)


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
    assert found.savings_ratio.mean == pytest.approx(0.5)
    assert found.efficiency_score.mean == pytest.approx(0.5 + 3 * 0.5)
    assert against(better, base, resamples=400).efficiency_score.mean == pytest.approx(-1 - 5 / 3)
    with pytest.raises(ValueError, match="same questions"):
        against(base, answers([[1]]))


def test_difficulty_groups_questions():
    found = answers([[1], [0], [1]], tokens=[[10], [20], [60]])
    assert by_difficulty(found, ["hard", "easy", "hard"]) == {
        "easy": Level(1, 0.0, 20.0, 1.0),
        "hard": Level(2, 1.0, 35.0, 1.0),
    }


def test_difficulties_are_in_the_order_of_their_numbers():
    labels = ["10 operations", "2 operations", ""]
    assert list(by_difficulty(answers([[1], [1], [1]]), labels)) == ["", "2 operations", "10 operations"]


def test_answers_to_one_question_are_no_independent_questions():
    """Repeating every answer adds no evidence; another model that answers all questions alike has none to add."""
    correct = np.random.default_rng(0).integers(0, 2, size=(50, 1)).astype(float)
    once = against(answers(np.zeros((50, 1))), answers(correct), resamples=2000)
    often = against(answers(np.zeros((50, 4))), answers(np.repeat(correct, 4, axis=1)), resamples=2000)
    assert often == once


def test_the_front_holds_what_nothing_beats():
    assert pareto_front([(0.9, 100), (0.8, 50), (0.7, 60), (0.9, 100)]) == [True, True, False, True]


def test_replies_are_graded_as_mathematics_or_text_after_the_thinking():
    recipe = load_recipe("quickstart")
    items = [Item("q", "1/2"), Item("q", "A", choices=("5 m", "6 m")), Item("q", "3")]
    texts = ["<think>\na Wait b\n</think>\n\n\\boxed{0.5}", "\\boxed{5 m}", "<think>\n\\boxed{3}"]
    found = score(recipe, "m", "b", items, [[Reply(text, 9, "stop")] for text in texts])
    assert found.correct.ravel().tolist() == [1, 1, 0]
    assert found.steps.ravel().tolist() == [2, 1, 1]
    assert [row[0] for row in found.exits] == ["model", "none", "eos"]
    assert found.exit_steps.ravel().tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("model", "text", "finish", "right", "exit_reason"),
    [
        ("http://one/v1", "\\boxed{3}", "stop", 1, "none"),
        ("http://one/v1", "a </think> \\boxed{3}", "stop", 1, "model"),
        ("http://one/v1", "\\boxed{3}", "length", 0, "length"),
        ("http://one/v1", "<think>a</think>\\boxed{3}", "stop", 1, "model"),
        ("folder", "\\boxed{3}", "stop", 0, "eos"),
    ],
)
def test_a_server_may_keep_the_thinking_to_itself(model, text, finish, right, exit_reason):
    recipe = load_recipe("quickstart", ["model.thinking_in_prompt=true"])
    found = score(recipe, model, "b", [Item("q", "3")], [[Reply(text, 9, finish)]])
    assert (found.correct.item(), found.exits[0][0]) == (right, exit_reason)


def test_many_models_become_one_report(tmp_path, monkeypatch):
    items = [Item(f"q{n}", str(n), f"level {n % 2}") for n in range(6)]
    monkeypatch.setattr(benchmark_report, "load_benchmark", lambda name, folder: items)
    base, tuned = (str(tmp_path / name / "step-grpo") for name in ("one", "other"))
    for folder in (base, tuned):
        shutil.copytree(BASE, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    line = {"step": 1, "accuracy": 0.5, "completion_tokens": 9, "steps": 2}
    (Path(tuned) / "training_log.jsonl").write_text(json.dumps(line) + "\n")
    right = {base: 3, tuned: 5}

    def reply(recipe, model, sampling, asked, on_reply):
        for place, question in asked.items():
            number = int(question.removeprefix("q"))
            on_reply(place, Reply(f"\\boxed{{{number if number < right[model] else 99}}}", 50, "stop"))

    monkeypatch.setattr(benchmark_report, "from_checkpoint", reply)
    progress = {}
    report = evaluate_models(
        load_recipe("quickstart"),
        [base, tuned],
        ["math-500"],
        tmp_path / "report",
        lambda name: lambda step, steps, _: progress.setdefault(name, []).append((step, steps)),
        samples=2,
    )
    rows = json.loads((report / "benchmarks.json").read_text())
    assert [row["accuracy"] for row in rows] == pytest.approx([0.5, 5 / 6])
    assert rows[1]["against_reference"]["accuracy_difference"]["mean"] == pytest.approx(1 / 3)
    assert rows[1]["difficulty"]["level 1"] == {
        "questions": 3,
        "accuracy": pytest.approx(2 / 3),
        "tokens": 50,
        "steps": 1,
    }
    assert (rows[0]["sampling"], rows[0]["max_tokens"]) == ({"temperature": 1.0, "top_p": 0.95}, 512)
    assert progress == {base: [(n, 12) for n in range(1, 13)], tuned: [(n, 12) for n in range(1, 13)]}
    assert sorted(path.name for path in report.iterdir()) == [
        "benchmarks.json",
        "difficulty.png",
        "exits.png",
        "pareto.png",
        "report.md",
        "training.png",
    ]
    text = (report / "report.md").read_text()
    assert f"| math-500 | {tuned} | 6 x 2 | 83.3% | 83.3% @1, 83.3% @2 | 50.0 | 1.00 | none 100.0% |" in text
    assert f"| math-500 | {tuned} | 0.333 [" in text
    assert "temperature 1, top-p 0.95, at most 512 tokens" in text


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("rollout.max_prompt_tokens=40", r"takes \d+ tokens.*rollout\.max_prompt_tokens=\d+: 'long"),
        ("rollout.max_completion_tokens=2000", r"context of 2,048 tokens.*rollout\.max_completion_tokens=1792"),
    ],
)
def test_what_is_too_long_for_the_last_of_them_is_said_before_any_is_asked(tmp_path, monkeypatch, override, says):
    benchmarks = {"math-500": [Item("short", "1")], "gsm8k": [Item("long " * 50, "1")]}
    monkeypatch.setattr(benchmark_report, "load_benchmark", lambda name, folder: benchmarks[name])
    monkeypatch.setattr(benchmark_report, "from_url", lambda *_: pytest.fail("asked"))
    models = ["http://a.server/v1", str(BASE)]
    with pytest.raises(TrainingError, match=says):
        evaluate_models(load_recipe("quickstart", [override]), models, list(benchmarks), tmp_path, lambda _: print)


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["Qwen/Qwen3-8B", "runs/a/step-grpo"], ["Qwen3-8B", "step-grpo"]),
        (["base", "runs/a/step-grpo", "runs/b/step-grpo"], ["base", "a/step-grpo", "b/step-grpo"]),
        (["http://one/v1", "http://other/v1"], ["http://one/v1", "http://other/v1"]),
    ],
)
def test_models_that_end_alike_are_told_apart_in_plots(models, names):
    assert list(plot_names(models).values()) == names


@pytest.mark.integration
def test_a_checkpoint_answers_by_plain_decoding():
    recipe = load_recipe("quickstart", ["rollout.engine=transformers"])
    problems = take("test", 0, 6)
    replies = {}
    asked = {2 * index + sample: problem.question for index, problem in enumerate(problems) for sample in (0, 1)}
    from_checkpoint(recipe, str(BASE), GREEDY, asked, replies.__setitem__)
    rows = [[replies[2 * index], replies[2 * index + 1]] for index in range(6)]
    found = score(recipe, "base", "problems", [Item(p.question, p.answer) for p in problems], rows)
    assert found.correct.shape == (6, 2)
    assert (found.tokens[:, 0] == found.tokens[:, 1]).all()
    assert found.correct.mean() > 0.5
