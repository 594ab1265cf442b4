"""What a resumed run may change, where it does no more, and what it reports to."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import TrainerCallback

from training import grpo
from training.grpo import train_policy
from training.methods import load_method
from training.recipe import load_recipe
from training.step_log import LOG_NAME, read_log

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"

pytestmark = pytest.mark.integration

SMALL = ["grpo.steps=3", "grpo.prompts=2", "grpo.group_size=4", "grpo.updates=2", "grpo.micro_batch=4"]
SMALL += ["rollout.max_completion_tokens=48", "rollout.engine=transformers"]


class KilledError(Exception):
    pass


class Kill(TrainerCallback):
    """At the beginning of a step."""

    def __init__(self, step):
        self.update = 2 * (step - 1)

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.update:
            raise KilledError


def train(folder, *overrides, callbacks=()):
    recipe = load_recipe("quickstart", [*SMALL, *overrides])
    train_policy(
        recipe, load_method(recipe.method), BASE, folder, on_step=lambda *_: None, resume=True, callbacks=callbacks
    )


def rates(folder):
    return [line["learning_rate"] for line in read_log(folder / LOG_NAME)]


def test_a_resumed_run_takes_the_learning_rate_that_it_is_given(tmp_path):
    """As after a loss that was no number. The schedule goes on where it was."""
    train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "lower", callbacks=[Kill(step=2)])
    train(tmp_path / "lower", "grpo.learning_rate=5.0e-5")
    first, *rest = rates(tmp_path / "whole")
    assert rates(tmp_path / "lower") == pytest.approx([first, *(rate / 10 for rate in rest)])


def test_a_run_that_used_up_its_tokens_trains_no_more_when_it_is_resumed(tmp_path, monkeypatch):
    budget = ["grpo.token_budget=10", "grpo.schedule=constant"]
    train(tmp_path / "whole", *budget)

    def killed(*_):
        raise KilledError

    monkeypatch.setattr(grpo, "_save", killed)
    with pytest.raises(KilledError):
        train(tmp_path / "killed", *budget)
    monkeypatch.undo()
    train(tmp_path / "killed", *budget)
    assert len(rates(tmp_path / "killed")) == len(rates(tmp_path / "whole")) == 1
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_what_tensorboard_shows_outlives_the_run(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "tuned", "grpo.report_to=[tensorboard]")
    shown = EventAccumulator(str(tmp_path / "tuned" / "tensorboard"))
    shown.Reload()
    lines = read_log(tmp_path / "tuned" / LOG_NAME)
    assert [point.value for point in shown.Scalars("train/reward")] == pytest.approx([line["reward"] for line in lines])
    assert [point.step for point in shown.Scalars("train/exit_token_budget")] == [2, 4, 6]
