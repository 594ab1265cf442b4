"""A recipe on a model and data of one's own: trained, measured on held-out questions, and its checkpoint calibrated."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reasoning import load_card
from training.problems import take

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"

pytestmark = pytest.mark.integration


def run(folder, *arguments):
    command = [sys.executable, "-m", "stepgrpo", *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def write(path, problems):
    rows = [{"problem": problem.question, "solution": problem.answer} for problem in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_command_that_training_prints_calibrates_the_checkpoint(tmp_path):
    write(tmp_path / "train.jsonl", take("train", 0, 8))
    write(tmp_path / "held-out.jsonl", take("test", 0, 24))
    (tmp_path / "own.yaml").write_text(
        f"name: own\nmodel: {{path: {BASE}}}\ndata: {{name: train.jsonl, question: problem, answer: solution}}\n"
        "rollout: {max_completion_tokens: 256}\n"
        "grpo: {steps: 1, prompts: 4, group_size: 4, updates: 1, micro_batch: 8}\n"
        "evaluation: {temperature: 1, top_p: 0.95}\n"
    )
    printed = run(tmp_path, "train", "own.yaml", "--output", "out")
    assert load_card(tmp_path / "out" / "step-grpo").calibration is None
    [command] = re.findall(r"stepgrpo (eval own\.yaml .*--calibrate)$", printed, re.MULTILINE)
    run(tmp_path, *shlex.split(command.replace("NAME", "held-out.jsonl")), "--samples", "2")
    card = load_card(tmp_path / "out" / "step-grpo")
    assert (card.base_model, card.recipe.name) == (str(BASE), "own")
    assert (card.calibration.dataset, card.calibration.n) == ("held-out.jsonl", 24)
    assert card.calibration.sampling.top_p == 0.95
    assert card.calibration.base.accuracy > 0.5 < card.calibration.tuned.accuracy
    assert abs(card.calibration.savings_ratio.mean) < 0.5  # one small step changes little
    assert (tmp_path / "out" / "eval" / "training.png").exists()


def test_pruning_is_measured_over_seeds(tmp_path):
    small = ["grpo.prompts=2", "grpo.group_size=4", "grpo.micro_batch=8", "rollout.engine=transformers"]
    options = [part for override in small for part in ("--set", override)]
    counts = ("--steps", "1", "--questions", "12", "--seeds", "2")
    printed = run(tmp_path, "bench", "pruning", "quickstart", "--base", BASE, "--output", "out", *counts, *options)
    found = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert found["questions"] == 12
    assert len(found["figures"][0]["values"]) == len(found["accuracy"]["by_seed"]) == 2
    assert found["accuracy"]["mean"]["mean"] == pytest.approx(sum(found["accuracy"]["by_seed"]) / 2)
    assert "paired bootstrap over the 12 questions" in " ".join(printed.split())
