"""An evaluation that is cut short goes on with the replies that it has."""

import errno

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
    for check in ("load_tokenizer", "check_context", "check_prompts"):
        monkeypatch.setattr(benchmark_report, check, lambda *_: None)
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
            if not fails:
                raise
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


SAMPLING = [
    "seed=1",
    "evaluation.temperature=0.5",
    "evaluation.top_p=0.5",
    "rollout.max_completion_tokens=99",
    "rollout.engine=transformers",
    "model.dtype=bfloat16",
    "model.think=[<a>,</a>]",
]


@pytest.mark.parametrize("change", [*SAMPLING, None])
def test_replies_to_something_else_are_not_taken(evaluate, models, change):
    evaluate(fails=(models[1], "q2"))
    assert len(evaluate(change)) == 6 if change else len(evaluate(samples=2)) == 12


@pytest.mark.parametrize(
    "change", ["rollout.max_prompt_tokens=999", "rollout.gpu_memory=0.2", "markers=[Wait]", "grpo.learning_rate=0.1"]
)
def test_what_changes_no_reply_may_be_another_when_an_evaluation_goes_on(evaluate, models, change):
    _, tuned = models
    evaluate(fails=(tuned, "q2"))
    assert evaluate(change) == [(tuned, "q2"), (tuned, "q3")]


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "tokenizer_config.json"])
def test_replies_of_another_checkpoint_are_not_taken(evaluate, models, tmp_path, name):
    evaluate(fails=(models[1], "q2"))
    (tmp_path / "base" / name).write_text("another one")
    assert evaluate() == [(models[0], question) for question in QUESTIONS] + [(models[1], "q2"), (models[1], "q3")]


def test_a_disk_that_is_full_when_the_report_is_written_costs_no_reply(evaluate, models, monkeypatch):
    def full(figure, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(benchmark_report, "save_figure", full)
        with pytest.raises(TrainingError, match=r"out is full: free some space, then give the same command again"):
            evaluate()
    assert evaluate() == []
