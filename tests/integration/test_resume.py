"""A run that is killed and resumed ends as an uninterrupted one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

BASE = Path(__file__).resolve().parents[2] / "checkpoints" / "base"
SCRIPT = """
import sys
from pathlib import Path
import torch
from training.pipeline import post_train
from training.recipe import load_recipe

torch.set_num_threads(1)
small = ["grpo.steps=4", "grpo.prompts=4", "grpo.group_size=4", "grpo.updates=2", "grpo.micro_batch=4"]
folder, base, engine, resume = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], len(sys.argv) > 4
small += ["grpo.save_every=1", "rollout.max_completion_tokens=160", f"rollout.engine={engine}"]
recipe = load_recipe("quickstart", small)
post_train(recipe, base, folder, lambda *_: None, resume=resume)
"""
OF_THE_PROCESS = ("_seconds", "step_time", "sync_difference")  # the guard checks what the process sampled last

ENGINE = "transformers"

pytestmark = pytest.mark.integration


def start(folder, *arguments):
    command = [sys.executable, "-c", SCRIPT, str(folder), str(BASE), ENGINE, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


def log(folder):
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith(OF_THE_PROCESS)} for line in lines]


def test_a_killed_run_resumes_to_the_same_end(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole))
    process = start(killed)
    deadline = time.monotonic() + 240
    while len(list((killed / "resume").glob("checkpoint-*/complete"))) < 2:
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "config.json").exists()
    finish(start(killed, "--resume"))
    assert log(killed) == log(whole)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (killed, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert not (killed / "resume").exists()
