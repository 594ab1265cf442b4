"""Architectures, adapters and processes: each trains a few steps whose losses equal those of a small oracle."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

import psutil
import pytest
import torch
from safetensors.torch import load_file
from step_logs import untimed
from transformers import AutoConfig

from reasoning import count_steps

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "plugins" / "oracle_run.py"
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
SHARDED = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "training/recipes/accelerate/fsdp.yaml")]
SHARDED += ["--num_processes", "2", "--main_process_port", "0"]
ON_CPU = {"ACCELERATE_USE_CPU": "true"}  # accelerate's own --cpu starts one process only
MARKERS = ["Wait", "April", "kept", "marbles", "parts", "What"]  # that random weights come upon
OPENED = ["model.thinking_in_prompt=true", f"markers={MARKERS}", "rollout.exit_margin=5"]

pytestmark = pytest.mark.integration


def start(folder, architecture, *overrides, launch=()):
    command = [sys.executable, *launch, str(SCRIPT), str(folder), architecture, *overrides]
    piped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **piped, env=os.environ | ON_CPU)


def train(folder, architecture, *overrides, launch=()):
    process = start(folder, architecture, *overrides, launch=launch)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-4000:]
    return [json.loads(path.read_text()) for path in sorted(folder.glob("found-*.json"))]


def kill_after_a_step(folder, process):
    """All of its processes, the first checkpoint being whole."""
    while not list(folder.glob("tuned/resume/checkpoint-*/complete")):
        assert process.poll() is None, process.stderr.read()[-4000:]
        time.sleep(0.02)
    launcher = psutil.Process(process.pid)
    for one in (*launcher.children(recursive=True), launcher):
        one.kill()
    process.communicate()


def agree(found, in_16_bits=False):
    """A loss near zero is a sum of terms that cancel, each as inexact as the computation is."""
    usual = fmean(abs(loss) for _, loss in found["losses"])
    tolerance, least = (1e-2, 1e-2 * usual) if in_16_bits else (1e-3, 5e-6)
    for ours, theirs in found["losses"]:
        assert ours == pytest.approx(theirs, rel=tolerance, abs=least)
    assert usual > 1e-3
    assert found["improvement"] > 0
    return True


def advantages(completions):
    """Of the rewards that the script gives by place, in groups of four."""
    rewards = [float(place * place % 5) for place in range(completions)]
    groups = [rewards[start : start + 4] for start in range(0, completions, 4)]
    return sorted((reward - fmean(group)) / (stdev(group) + 1e-4) for group in groups for reward in group)


def starts_inside_the_block(found):
    """The prompt alone opens the block, which is closed once at most, and what comes before that counts as thinking."""
    assert all(prompt.endswith("<|im_start|>assistant\n<think>\n") for prompt in found["prompts"])
    for rollout in found["rollouts"]:
        thinking, _, _ = rollout["text"].partition("</think>")
        assert rollout["steps"] == count_steps(thinking, MARKERS)
        assert ("</think>" in rollout["text"]) == (rollout["exit"] != "eos")
        assert rollout["forced"].count("\n</think>\n\n") == (rollout["exit"] not in ("eos", "model"))
    assert len({rollout["steps"] for rollout in found["rollouts"]}) > 1
    assert len({rollout["exit"] for rollout in found["rollouts"]}) > 1
    return True


@pytest.mark.parametrize(
    ("architecture", "overrides"),
    [
        ("qwen2", ["rollout.engine=transformers", "rollout.mask_forced=true", *OPENED]),
        ("qwen3", ["rollout.engine=transformers", "pruning={}", "grpo.dual_clip=3"]),
        ("qwen3", ["rollout.engine=transformers", "model.dtype=bfloat16", "rollout.sync_tolerance=0.1"]),
        ("qwen3", ["lora={rank: 4, alpha: 8}"]),
    ],
    ids=["qwen2, masked, block opened by the prompt", "qwen3, pruned", "qwen3, 16 bits", "qwen3, adapters on vLLM"],
)
def test_losses_are_the_oracles(tmp_path, architecture, overrides):
    [found] = train(tmp_path, architecture, *overrides)
    in_16_bits = "model.dtype=bfloat16" in overrides
    assert agree(found, in_16_bits)
    if not any(override.startswith("pruning") for override in overrides):
        assert found["advantages"] == pytest.approx(advantages(16), abs=1e-3)
    assert [line["step"] for line in found["log"]] == [1, 2]
    assert found["log"][1]["sync_difference"] < (0.1 if in_16_bits else 1e-3)
    assert found["trained_dtype"] == "torch.float32"  # steps of a small learning rate vanish in 16 bits
    base, tuned = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "tuned"))
    assert base.keys() == tuned.keys()
    assert any((base[name] != tuned[name]).any() for name in base)
    dtype = torch.bfloat16 if in_16_bits else torch.float32
    assert {weight.dtype for weight in tuned.values()} == {dtype}
    assert AutoConfig.from_pretrained(tmp_path / "tuned").dtype == dtype
    if overrides[-3:] == OPENED:
        assert starts_inside_the_block(found)


@pytest.mark.parametrize(
    "overrides",
    [
        ["rollout.engine=transformers"],
        ["rollout.engine=vllm"],
        ["rollout.engine=transformers", "lora={rank: 4, alpha: 8}"],
    ],
    ids=["transformers", "vLLM", "adapters"],
)
def test_two_processes_train_one_model(tmp_path, overrides):
    """Two micro-batches an update, so that each process packs its rows in its own way."""
    first, second = train(tmp_path, "qwen3", "grpo.micro_batch=2", *overrides, launch=LAUNCH)
    assert agree(first)
    assert agree(second)
    assert first["advantages"] == second["advantages"] == pytest.approx(advantages(8), abs=1e-3)
    assert first["losses"] != second["losses"]  # each has groups of its own
    assert first["weights"] == second["weights"]
    assert "config.json" in first["files"]
    assert first["log"][0]["sampled_tokens"] > 16 * 10


def test_two_processes_train_one_model_in_parts_as_the_configuration_says(tmp_path):
    """Its layers are gathered for computing alone, in 16 bits; adapters are trained."""
    overrides = ["model.dtype=bfloat16", "rollout.sync_tolerance=0.1", "lora={rank: 4, alpha: 8}"]
    found = train(tmp_path, "qwen3", "grpo.micro_batch=2", "rollout.engine=vllm", *overrides, launch=SHARDED)
    assert all(agree(one, in_16_bits=True) for one in found)
    assert [one["held"] for one in found] == pytest.approx([0.5, 0.5], abs=0.02)
    assert len({one["weights"] for one in found}) == 1
    assert {weight.dtype for weight in load_file(tmp_path / "tuned" / "model.safetensors").values()} == {torch.bfloat16}


def test_a_model_in_parts_that_is_killed_resumes_to_the_same_end(tmp_path):
    """Metrics and weights are equal to the bit."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    setup = ["qwen3", "grpo.micro_batch=2", "grpo.steps=3", "rollout.engine=transformers"]
    launch = [*SHARDED, "--mixed_precision", "no"]
    kill_after_a_step(killed, start(killed, *setup, launch=launch))
    assert not (killed / "tuned" / "config.json").exists()
    for ours, theirs in zip(train(killed, *setup, launch=launch), train(whole, *setup, launch=launch), strict=True):
        assert agree(ours)
        assert agree(theirs)
        assert len(ours["losses"]) < len(theirs["losses"])
        assert theirs["held"] == pytest.approx(0.5, abs=0.02)
        assert ours["weights"] == theirs["weights"]
        assert untimed(ours["log"]) == untimed(theirs["log"])
        assert [line["step"] for line in theirs["log"]] == [1, 2, 3]


def test_the_recipe_for_one_gpu_runs_at_tiny_size(tmp_path):
    """Base, rollouts, updates, evaluation and card without vLLM."""
    small = "model.hidden_size=64 model.layers=2 sft.steps=20 sft.batch_tokens=2048 grpo.steps=1 grpo.prompts=2"
    small += " grpo.group_size=4 grpo.micro_batch=8 rollout.max_completion_tokens=96 evaluation.questions=10"
    overrides = [part for override in small.split() for part in ("--set", override)]
    command = [sys.executable, "-m", "stepgrpo", "train", "quickstart-gpu", "--output", str(tmp_path), *overrides]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "report" / "calibration" / "report.md").exists()
    assert json.loads((tmp_path / "step-grpo" / "step_grpo.json").read_text())["calibration"]["n"] == 10
