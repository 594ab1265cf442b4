"""``stepgrpo train`` and ``stepgrpo eval`` as they are typed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import stepgrpo
from reasoning import load_card
from server.doctor import check_checkpoint
from training import pipeline
from training.engine import EngineError
from training.problems import take

CHECKPOINTS = Path(__file__).resolve().parents[3] / "checkpoints"
BASE = CHECKPOINTS / "base"
ALONE = ("--set", "rollout.engine=transformers")


def run(*arguments):
    return CliRunner().invoke(stepgrpo.app, [str(each) for each in arguments], prog_name="stepgrpo")


@pytest.fixture
def uncalibrated(tmp_path):
    folder = Path(shutil.copytree(CHECKPOINTS / "step-grpo", tmp_path / "tuned"))
    load_card(folder).model_copy(update={"calibration": None}).save(folder)
    return folder


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "held-out.jsonl"
    rows = [{"problem": problem.question, "solution": problem.answer} for problem in take("test", 0, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def own(tmp_path):
    """A recipe on a model and data of one's own."""
    path = tmp_path / "own.yaml"
    path.write_text(
        f"name: own\nmodel: {{path: {BASE}}}\ndata: {{name: train.jsonl, question: problem, answer: solution}}\n"
        "rollout: {engine: transformers, max_completion_tokens: 512}\n"
        "grpo: {steps: 1, prompts: 1, micro_batch: 1}\nevaluation: {temperature: 0}\n"
    )
    return path


@pytest.mark.integration
def test_a_checkpoint_is_calibrated_on_questions_of_ones_own(tmp_path, own, questions, uncalibrated):
    assert "not calibrated" in check_checkpoint(uncalibrated).found
    before = load_card(uncalibrated)
    models = ("--model", BASE, "--model", uncalibrated)
    output = tmp_path / "eval"
    result = run("eval", own, *models, "--benchmark", questions, "--output", output, "--samples", 2, "--calibrate")
    assert result.exit_code == 0, result.output
    assert f"calibration written to {uncalibrated / 'step_grpo.json'}" in result.output.replace("\n", "")
    card = load_card(uncalibrated)
    found = card.calibration
    assert card == before.model_copy(update={"calibration": found})
    assert (found.dataset, found.n, found.sampling.temperature) == ("held-out.jsonl", 6, 0)
    base, tuned = json.loads((output / "benchmarks.json").read_text())
    assert (base["questions"], base["samples"]) == (6, 2)
    assert (found.base.accuracy, found.tuned.accuracy) == (base["accuracy"], tuned["accuracy"])
    assert found.base.accuracy > 0.5
    assert found.tuned.completion_tokens.mean == tuned["tokens"] < base["tokens"] == found.base.completion_tokens.mean
    assert found.savings_ratio.mean == pytest.approx(1 - tuned["tokens"] / base["tokens"])
    assert "calibrated" in check_checkpoint(uncalibrated).found
    assert check_checkpoint(uncalibrated).verdict == "ok"


@pytest.mark.integration
def test_many_checkpoints_answer_the_generated_questions_of_a_split(tmp_path):
    models = ("--model", BASE, "--model", CHECKPOINTS / "step-grpo", "--model", BASE / ".." / "base")
    few = ("--set", "evaluation.questions=4", "--benchmark", "word-problems", "--samples", 2, "--output", tmp_path)
    result = run("eval", "quickstart", *ALONE, *models, *few)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [(row["questions"], row["samples"]) for row in rows] == [(4, 2)] * 3
    assert set(rows[0]["difficulty"]) <= {
        *(f"chain of {n}" for n in range(2, 9)),
        *(f"guess and check, {n} needed" for n in range(1, 7)),
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["quickstart", "--calibrate"], "--calibrate needs --benchmark"),
        (["quickstart", "--model", "somewhere"], "--model needs --benchmark"),
        (["quickstart", "--benchmark", "gsm8k"], "--benchmark needs at least one --model"),
        (["quickstart", "--benchmark", "gsm8k", "--model", "a", "--calibrate"], "two models"),
        (["quickstart", "--split", "calibration", "--output", "none"], "train one with: stepgrpo train quickstart"),
        (["quickstart", "--benchmark", "none.jsonl", "--model", BASE], "no file none.jsonl"),
        (["quickstart", "--benchmark", "word-problems", "--model", "/none"], "/none is no checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_loaded(arguments, says):
    result = run("eval", *arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_an_adapter_is_named_before_the_questions_are_loaded(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    result = run("eval", "quickstart", "--benchmark", "none.jsonl", "--model", BASE, "--model", tmp_path)
    assert result.exit_code == 2
    assert "is a PEFT adapter" in result.output
    assert "merge" in result.output


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_a_recipe_on_data_of_its_own_is_measured_on_a_benchmark(own, split):
    result = run("eval", own, "--split", split, "--output", "runs/own")
    assert result.exit_code == 2
    command = f"stepgrpo eval {own} --model {BASE} --model runs/own/step-grpo --benchmark NAME"
    assert f"{command} --output runs/own/eval --calibrate" in result.output


def test_the_file_that_a_recipe_trains_on_is_no_held_out_one(tmp_path, own, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("eval", own, "--model", BASE, "--benchmark", tmp_path / "train.jsonl")
    assert result.exit_code == 2
    assert "trains on" in result.output


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.32 GiB.")


def out_of_memory_in_the_engine():
    try:
        out_of_memory()
    except RuntimeError as error:
        raise EngineError("the rollout engine failed") from error


@pytest.mark.parametrize("fails", [out_of_memory, out_of_memory_in_the_engine])
def test_a_gpu_that_is_too_small_says_what_to_lower(tmp_path, own, monkeypatch, fails):
    monkeypatch.setattr(pipeline, "run_recipe", lambda *_, **__: fails())
    result = run("train", own, "--output", tmp_path / "out")
    assert result.exit_code == 2
    for part in ("rollout.gpu_memory", "grpo.micro_batch", "grpo.gradient_checkpointing=true", "--resume"):
        assert part in result.output
    assert "Traceback" not in result.output


def test_what_nobody_foresaw_keeps_its_traceback(tmp_path, own, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no shape like this")

    monkeypatch.setattr(pipeline, "run_recipe", fails)
    assert isinstance(run("train", own, "--output", tmp_path / "out").exception, RuntimeError)


def test_the_doctor_says_how_a_checkpoint_is_calibrated(uncalibrated):
    advice = check_checkpoint(uncalibrated).advice
    assert advice == f"stepgrpo eval RECIPE --model BASE --model {uncalibrated} --benchmark NAME --calibrate"


def test_a_method_at_inference_has_nothing_to_do_for_a_recipe_on_data_of_its_own(tmp_path, own):
    result = run("train", own, "--method", "deer", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "deer trains nothing" in result.output
    assert "written to" not in result.output
    assert not (tmp_path / "out").exists()
