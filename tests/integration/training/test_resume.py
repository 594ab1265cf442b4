"""A run that is killed and resumed ends as an uninterrupted one."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from step_logs import untimed

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"
SCRIPT = """
import sys
from pathlib import Path
import torch
from training.engines import open_engine
from training.grpo import train_policy
from training.methods import load_method
from training.recipe import load_recipe

torch.set_num_threads(1)
name, base = sys.argv[1:3]
small = ["grpo.steps=4", "grpo.prompts=4", "grpo.group_size=4", "grpo.updates=2", "grpo.micro_batch=4"]
small += ["rollout.max_completion_tokens=160", f"rollout.engine={name}"]
recipe = load_recipe("quickstart", small)
method = load_method(recipe.method)
engine = open_engine(recipe, base, seed=recipe.seed)
for folder, saves, rows in zip(sys.argv[3:], (1, 0, 0), (4, 4, 2)):
    recipe = recipe.overridden({"grpo.save_every": saves, "grpo.micro_batch": rows})
    train_policy(recipe, method, base, Path(folder), on_step=lambda *_: None, resume=True, engine=engine)
"""
OF_MICRO_BATCHES = ("trained_cells", "entropy")  # their padding, and a mean over them whatever their lengths

pytestmark = pytest.mark.integration


def start(engine, *folders):
    """Train into one folder after the other, on one engine; what a run there left is gone on with. The first one saves
    every step, the others never do; the third has smaller micro-batches.
    """
    command = [sys.executable, "-c", SCRIPT, engine, str(BASE), *map(str, folders)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def log(folder):
    return untimed(json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines())


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_a_killed_run_resumes_to_the_same_end(tmp_path, engine):
    """Metrics and weights are equal to the bit, though another process with another engine samples the rest; with
    smaller micro-batches, but for rounding.
    """
    whole, killed, smaller = (tmp_path / name for name in ("whole", "killed", "smaller"))
    process = start(engine, killed)
    deadline = time.monotonic() + 240
    while len(list((killed / "resume").glob("checkpoint-*/complete"))) < 2:
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "config.json").exists()
    shutil.copytree(killed, smaller)
    process = start(engine, killed, whole, smaller)
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors[-3000:]
    assert [line["step"] for line in log(whole)] == [1, 2, 3, 4]
    assert log(killed) == log(whole)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (killed, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert not (killed / "resume").exists()
    for found, expected in zip(log(smaller), log(whole), strict=True):
        for metric in OF_MICRO_BATCHES:
            del found[metric], expected[metric]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
