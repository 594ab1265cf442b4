"""What a run refuses before it begins, what it keeps of an earlier one, and what it calls what it measured."""

from types import SimpleNamespace

import pytest

from training import pipeline
from training.checkpoint import card
from training.errors import TrainingError
from training.evaluation import Measured
from training.folders import Folders
from training.recipe import load_recipe
from training.sampler import Sampling
from training.sft import STANDING

WORD_PROBLEMS = "data={name: word-problems}"


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("quickstart", [], "a base is trained in one process"),
        ("qwen3-1.7b", [WORD_PROBLEMS], "word problems are measured in one process"),
        ("qwen3-1.7b", ["method=deer-sft"], "deer-sft trains in one process"),
    ],
)
def test_several_processes_where_each_would_do_all_of_the_work(tmp_path, monkeypatch, recipe, overrides, said):
    monkeypatch.setattr(pipeline, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(TrainingError, match=said):
        pipeline.run_recipe(load_recipe(recipe, overrides), tmp_path / "run", lambda stage: None)
    assert list(tmp_path.iterdir()) == []


def finished(folder, recipe, algorithm):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    card(recipe, algorithm).save(folder)
    return folder


@pytest.fixture
def trained(monkeypatch):
    """The stages that began; each is killed at once."""
    begun = []

    def killed(recipe, *_, **__):
        begun.append(recipe.method)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train_base", killed)
    monkeypatch.setattr(pipeline, "post_train", killed)
    return begun


def run(folder, *overrides, resume):
    pipeline.run_recipe(load_recipe("quickstart", overrides), folder, lambda stage: None, resume=resume)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_does_not_write_over_the_model_that_it_starts_from(tmp_path, trained, monkeypatch, resume):
    """Not even where the two are named differently; its own base may be trained once more."""
    tuned = finished(Folders(tmp_path / "run").tuned, load_recipe("quickstart"), "step-grpo")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match=r"model\.path run/step-grpo is where this run writes .* --output"):
        run(tmp_path / "run", "model.path=run/step-grpo", "sft=null", resume=resume)
    assert (tuned / "config.json").exists()
    assert trained == []


@pytest.mark.parametrize("change", ["method=length-penalty", "grpo.learning_rate=0.1", "seed=7"])
def test_a_resumed_run_takes_no_finished_checkpoint_of_another_for_its_own(tmp_path, trained, change):
    finished(Folders(tmp_path).tuned, load_recipe("quickstart", ["method=grpo"]), "grpo")
    with pytest.raises(TrainingError, match=r"step-grpo was made by other recipe values.*--output"):
        run(tmp_path, change, resume=True)
    assert trained == []


def test_a_checkpoint_without_a_card_is_no_finished_one(tmp_path, trained):
    finished(Folders(tmp_path).tuned, load_recipe("quickstart"), "step-grpo").joinpath("step_grpo.json").unlink()
    with pytest.raises(TrainingError, match=r"has no step_grpo\.json"):
        run(tmp_path, resume=True)
    assert trained == []


def test_methods_share_a_base_and_recipes_with_other_values_do_not(tmp_path, trained):
    base = finished(tmp_path / "base", load_recipe("quickstart"), "sft")
    grpo = load_recipe("quickstart", ["method=grpo"])
    assert pipeline.prepare_base(grpo, base, lambda stage: None) == base
    with pytest.raises(TrainingError, match="other recipe values"):
        pipeline.prepare_base(load_recipe("quickstart", ["seed=7"]), base, lambda stage: None)
    assert trained == []


def test_a_run_that_begins_anew_and_is_killed_leaves_nothing_that_looks_finished(tmp_path, trained):
    recipe = load_recipe("quickstart")
    folders = Folders(tmp_path)
    for folder, algorithm in ((folders.base, "sft"), (folders.tuned, "step-grpo")):
        (finished(folder, recipe, algorithm) / STANDING).touch()
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, resume=resume)
    assert len(trained) == 2
    assert not [*tmp_path.glob("*/config.json"), *tmp_path.glob(f"*/{STANDING}")]


@pytest.mark.parametrize(("trained_by", "asked"), [("grpo", "grpo"), ("grpo", "step-grpo"), ("deer", "deer")])
def test_a_report_calls_a_row_by_its_method(tmp_path, monkeypatch, trained_by, asked):
    recipe = load_recipe("quickstart", [f"method={asked}", "evaluation.questions=1"])
    if trained_by != "deer":
        finished(Folders(tmp_path).tuned, recipe, trained_by)
    measured = [Measured("a folder", Sampling(), ()), Measured("a folder", Sampling(), ())]
    reported = []
    monkeypatch.setattr(pipeline, "measure", lambda *_: measured)
    monkeypatch.setattr(pipeline, "trial_answers", lambda *_: [])
    monkeypatch.setattr(pipeline, "write_report", lambda folder, pairs, *_, **__: reported.extend(pairs))
    pipeline.calibrate(recipe, Folders(tmp_path), lambda stage: lambda *_: None, "test")
    assert [pair.tuned.name for pair in reported] == [trained_by, trained_by]
