"""An evaluation that is cut short goes on with the replies that it has."""

import matplotlib.pyplot as plt
import pytest

from training import benchmark_report
from training.answering import Reply
from training.benchmark_report import evaluate_models
from training.benchmarks import Item
from training.errors import TrainingError
from training.recipe import load_recipe

BENCHMARKS = {"one": [Item("q1", "1")], "other": [Item("q2", "1"), Item("q3", "1")]}
QUESTIONS = [item.question for items in BENCHMARKS.values() for item in items]


@pytest.fixture
def models(tmp_path):
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("weights")
    return [str(tmp_path / "base"), str(tmp_path / "tuned")]


@pytest.fixture
def evaluate(tmp_path, models, monkeypatch):
    """Evaluates, and returns what was asked; ``fails`` is the question that gets no reply."""
    monkeypatch.setattr(benchmark_report, "load_tokenizer", lambda model: None)
    monkeypatch.setattr(benchmark_report, "load_benchmark", lambda name, folder: BENCHMARKS[name])
    monkeypatch.setattr(benchmark_report, "save_figure", lambda figure, path: plt.close(figure))

    def run(*overrides, samples=1, fails=None):
        asked = []

        def reply(recipe, model, sampling, questions, on_reply):
            for place, question in questions.items():
                if (model, question) == fails:
                    raise TrainingError("no reply")
                asked.append((model, question))
                on_reply(place, Reply("\\boxed{1}", 5, "stop"))

        monkeypatch.setattr(benchmark_report, "from_checkpoint", reply)
        recipe = load_recipe("quickstart", overrides)
        try:
            evaluate_models(
                recipe, models, list(BENCHMARKS), tmp_path / "out", lambda _: lambda *_: None, samples=samples
            )
        except TrainingError:
            assert fails
        return asked

    return run


def test_what_was_asked_is_not_asked_again(evaluate, models, tmp_path):
    """Not even of a set that was cut short within."""
    base, tuned = models
    assert evaluate(fails=(tuned, "q3")) == [(base, question) for question in QUESTIONS] + [
        (tuned, "q1"),
        (tuned, "q2"),
    ]
    assert evaluate() == [(tuned, "q3")]
    assert (tmp_path / "out" / "report.md").exists()


def test_a_reply_whose_writing_was_killed_is_asked_for_again(evaluate, models, tmp_path):
    base, tuned = models
    evaluate(fails=(tuned, "q1"))
    for path in (tmp_path / "out" / "replies").iterdir():
        path.write_text(path.read_text()[:-9])
    assert evaluate(fails=(tuned, "q1")) == [(base, "q1"), (base, "q3")]


def test_a_finished_evaluation_begins_anew(evaluate):
    assert len(evaluate()) == len(evaluate()) == 6


@pytest.mark.parametrize("change", ["seed=1", "evaluation.temperature=0.5", "rollout.max_completion_tokens=99", None])
def test_replies_to_something_else_are_not_taken(evaluate, models, change):
    evaluate(fails=(models[1], "q2"))
    assert len(evaluate(change)) == 6 if change else len(evaluate(samples=2)) == 12


def test_replies_of_other_weights_are_not_taken(evaluate, models, tmp_path):
    evaluate(fails=(models[1], "q2"))
    (tmp_path / "base" / "model.safetensors").write_text("other weights")
    assert evaluate() == [(models[0], question) for question in QUESTIONS] + [(models[1], "q2"), (models[1], "q3")]
