"""What a run refuses before it begins, what it keeps of an earlier one, and what it calls what it measured."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from training import pipeline
from training.checkpoint import card
from training.data import DataError
from training.errors import TrainingError
from training.evaluation import Measured
from training.folders import Folders
from training.recipe import load_recipe
from training.sampler import Sampling
from training.sft import STANDING

BUNDLED = Path(__file__).resolve().parents[3] / "checkpoints"
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


def run(folder, *overrides, resume=False, overwrite=False):
    recipe = load_recipe("quickstart", overrides)
    pipeline.run_recipe(recipe, folder, lambda stage: None, resume=resume, overwrite=overwrite)


def begun_base(folder):
    folder.mkdir(parents=True)
    (folder / STANDING).touch()


def begun_post_training(folder):
    (folder / "resume" / "checkpoint-4").mkdir(parents=True)
    (folder / "resume" / "checkpoint-4" / "complete").touch()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("base", lambda folder: finished(folder, load_recipe("quickstart"), "sft")),
        ("base", begun_base),
        ("step-grpo", lambda folder: finished(folder, load_recipe("quickstart"), "step-grpo")),
        ("step-grpo", begun_post_training),
    ],
    ids=["a base", "a base under way", "a checkpoint", "a checkpoint under way"],
)
def test_what_an_earlier_run_made_is_not_written_over_unless_asked(tmp_path, trained, name, make):
    make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrainingError, match=rf"holds what an earlier run made \({name}\).*--resume.*--overwrite"):
        run(tmp_path)
    assert (trained, sorted(tmp_path.rglob("*"))) == ([], before)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["data.name=typo"], DataError, "typo"),
        (["model.path=no/where", "sft=null"], TrainingError, "no/where is no checkpoint"),
        (["grpo.report_to=[paper]"], TrainingError, r"report_to: paper cannot be reported to.*tensorboard"),
    ],
)
def test_what_would_fail_later_is_refused_before_anything_is_trained(tmp_path, trained, overrides, error, said):
    finished(tmp_path / "base", load_recipe("quickstart"), "sft")
    with pytest.raises(error, match=said):
        run(tmp_path, *overrides, overwrite=True)
    assert trained == []
    assert (tmp_path / "base" / "config.json").exists()


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


@pytest.mark.parametrize("change", ["method=grpo", "grpo.learning_rate=0.1", "rollout.threshold=0.5", "lora={}"])
def test_post_trainings_share_a_base_and_recipes_of_another_base_do_not(tmp_path, trained, change):
    base = finished(tmp_path / "base", load_recipe("quickstart"), "sft")
    assert pipeline.prepare_base(load_recipe("quickstart", [change]), base, lambda stage: None) == base
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
            run(tmp_path, resume=resume, overwrite=not resume)
    assert len(trained) == 2
    assert not [*tmp_path.glob("*/config.json"), *tmp_path.glob(f"*/{STANDING}")]


def test_a_base_from_before_bases_had_a_digest_of_their_own_is_known(tmp_path, trained):
    """The bundled one is such a base."""
    assert pipeline.prepare_base(load_recipe("quickstart"), BUNDLED / "base", lambda stage: None) == BUNDLED / "base"
    assert trained == []


@pytest.mark.parametrize(("trained_by", "asked"), [("grpo", "grpo"), ("grpo", "step-grpo"), ("deer", "deer")])
def test_a_report_calls_a_row_by_its_method(tmp_path, monkeypatch, trained_by, asked):
    recipe = load_recipe("quickstart", [f"method={asked}", "evaluation.questions=1"])
    if trained_by != "deer":
        finished(Folders(tmp_path).tuned, recipe, trained_by)
    measured = [Measured("a folder", Sampling(), ()), Measured("a folder", Sampling(), ())]
    reported = []
    monkeypatch.setattr(pipeline, "measure", lambda *_, **__: measured)
    monkeypatch.setattr(pipeline, "trial_answers", lambda *_: [])
    monkeypatch.setattr(pipeline, "write_report", lambda folder, pairs, *_, **__: reported.extend(pairs))
    pipeline.calibrate(recipe, Folders(tmp_path), lambda stage: lambda *_: None, "test")
    assert [pair.tuned.name for pair in reported] == [trained_by, trained_by]


def test_the_bar_of_the_evaluation_moves_with_each_answer(tmp_path, monkeypatch):
    def measure(recipe, model, questions, samplings, *rollouts, on_answer):
        for _ in questions * len(samplings):
            on_answer()
        return [Measured("a folder", Sampling(), ())] * 2

    monkeypatch.setattr(pipeline, "measure", measure)
    monkeypatch.setattr(pipeline, "trial_answers", lambda *_: [])
    monkeypatch.setattr(pipeline, "write_report", lambda *_, **__: None)
    shown = {}

    def on_stage(name):
        return lambda step, steps, metrics: shown.setdefault(name, []).append((step, steps))

    recipe = load_recipe("quickstart", ["method=deer", "evaluation.questions=3"])
    pipeline.calibrate(recipe, Folders(tmp_path), on_stage, "test")
    assert shown == {"evaluation": [(n, 12) for n in range(1, 13)], "trial answers": [(0, 0)]}
