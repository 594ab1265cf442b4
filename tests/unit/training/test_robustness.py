"""What a kill, a full disk or a bad number leaves behind."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.engine import Engine
from training.errors import TrainingError
from training.recipe import load_recipe
from training.resume import MARK, last_checkpoint, prepare
from training.saving import clear_disk_errors, save_atomically
from training.step_log import StepLog, read_log


def step_log(path, **options):
    return StepLog(path, 4, 2, lambda *_: None, **options)


def log(steps, number, **metrics):
    control = SimpleNamespace(should_training_stop=False)
    state = SimpleNamespace(global_step=2 * number, is_world_process_zero=True)
    steps.on_log(None, state, control, {"reward": 1.0, "loss": 0.1, **metrics})
    return control.should_training_stop


def begin(steps):
    steps.on_train_begin(None, SimpleNamespace(is_world_process_zero=True), None)


def test_a_rerun_begins_the_log_anew_and_a_resumed_one_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    first = step_log(path)
    begin(first)
    log(first, 1, sampled_tokens=10)
    log(first, 2, sampled_tokens=10)
    resumed = step_log(path, resumed_step=1)
    begin(resumed)
    log(resumed, 2, sampled_tokens=11)
    assert [(line["step"], line["sampled_tokens"]) for line in read_log(path)] == [(1, 10), (2, 11)]
    begin(step_log(path))
    assert read_log(path) == []


def test_a_kill_while_the_log_begins_anew_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    first = step_log(path)
    begin(first)
    log(first, 1, sampled_tokens=10)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(step_log(path))
    assert len(read_log(path)) == 1


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1.0, "sampled_tokens": 1}\n{"step": 2.0, "sam')
    assert [line["step"] for line in read_log(path)] == [1]


def test_the_token_budget_ends_a_run_after_the_step_that_reaches_it(tmp_path):
    steps = step_log(tmp_path / "log.jsonl", token_budget=25)
    begin(steps)
    assert [log(steps, number, sampled_tokens=10) for number in (1, 2, 3)] == [False, False, True]


def test_what_is_left_of_the_token_budget_falls_to_nothing(tmp_path):
    steps = step_log(tmp_path / "log.jsonl", token_budget=20)
    begin(steps)
    left = [steps.budget_left()]
    for number in (1, 2, 3):
        log(steps, number, sampled_tokens=8)
        left.append(steps.budget_left())
    assert left == pytest.approx([1, 0.6, 0.2, 0])
    assert step_log(tmp_path / "log.jsonl", token_budget=20, resumed_step=1).budget_left() == pytest.approx(0.6)
    assert step_log(tmp_path / "none.jsonl").budget_left() == 1


@pytest.mark.parametrize("metric", ["loss", "grad_norm"])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, metric):
    steps = step_log(tmp_path / "log.jsonl")
    begin(steps)
    says = f"{metric} is nan at step 3: go on from the last checkpoint with --resume and a lower"
    with pytest.raises(TrainingError, match=says):
        log(steps, 3, **{metric: float("nan")})
    assert read_log(tmp_path / "log.jsonl") == []


def test_only_whole_checkpoints_are_resumed(tmp_path):
    for step in (2, 10, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert last_checkpoint(tmp_path) is None
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}" / MARK).touch()
    assert last_checkpoint(tmp_path).name == "checkpoint-4"


def test_checkpoints_of_another_recipe_are_not_resumed(tmp_path):
    folder = tmp_path / "resume"
    assert prepare(folder, "one", resume=True) is None
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / MARK).touch()
    assert prepare(folder, "one", resume=True).name == "checkpoint-2"
    with pytest.raises(TrainingError, match="other recipe values"):
        prepare(folder, "two", resume=True)
    assert prepare(folder, "two", resume=False) is None
    assert not (folder / "checkpoint-2").exists()


@pytest.mark.parametrize(
    "override", ["rollout.gpu_memory=0.2", "grpo.micro_batch=8", "grpo.gradient_checkpointing=true"]
)
def test_a_run_that_was_too_large_for_its_gpu_resumes_with_less(tmp_path, override):
    folder = tmp_path / "resume"
    prepare(folder, load_recipe("quickstart-gpu").digest, resume=False)
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / MARK).touch()
    smaller = load_recipe("quickstart-gpu", [override])
    assert prepare(folder, smaller.digest, resume=True).name == "checkpoint-2"


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path):
    folder = tmp_path / "model"

    def write(text, fail):
        def into(staging):
            (staging / "config.json").write_text(text)
            if fail:
                raise OSError(errno.ENOSPC, "No space left on device")
            (staging / "model.safetensors").write_text(text)

        return into

    save_atomically(folder, write("old", fail=False))
    with pytest.raises(TrainingError, match=r"full.*--resume"), clear_disk_errors(folder):
        save_atomically(folder, write("new", fail=True))
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "config.json": "old",
        "model.safetensors": "old",
    }
    save_atomically(folder, write("new", fail=False))
    assert json.dumps([path.read_text() for path in folder.iterdir()]) == '["new", "new"]'
    assert not (tmp_path / "model.partial").exists()


def test_who_may_read_the_folder_of_a_checkpoint_may_read_its_files(tmp_path):
    def write(folder):
        for name in ("config.json", "model.safetensors"):
            (folder / name).touch(0o600)

    folder = tmp_path / "model"
    folder.mkdir(0o755)
    save_atomically(folder, write)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


FULL = """
import resource, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from training.errors import TrainingError
from training.saving import clear_disk_errors

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
tensors = {"weights": torch.zeros(100_000)}
writes = {
    "safetensors": lambda path: save_file(tensors, path),
    "torch": lambda path: torch.save(tensors, path),
    "text": lambda path: path.write_text("x" * 100_000),
}
for name, write in writes.items():
    try:
        with clear_disk_errors(Path("folder")):
            write(Path(sys.argv[1]) / name)
    except TrainingError as error:
        print(error)
"""


def test_a_disk_that_takes_no_more_is_said_whoever_writes(tmp_path):
    found = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert found.stdout.count("folder is full: free some space") == 3, found.stderr


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(PermissionError), clear_disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "denied")


def test_an_engine_that_dies_says_how_to_go_on():
    def step():
        raise RuntimeError("EngineCore died")

    engine = Engine.__new__(Engine)
    engine._engine = SimpleNamespace(step=step)
    with pytest.raises(TrainingError, match=r"EngineCore died.*--resume"):
        list(engine.step())
