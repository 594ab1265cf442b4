"""What the trainer counts, over all processes, and what each of them keeps."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from training import grpo
from training.recipe import PruningSettings, load_recipe

pytestmark = pytest.mark.integration

TWO = SimpleNamespace(
    num_processes=2,
    is_main_process=False,
    device="cpu",
    gather=lambda tensor: torch.cat([tensor, tensor]),
    reduce=lambda tensor, reduction: 2 * tensor,
    unwrap_model=lambda model: model,
    wait_for_everyone=lambda: None,
)
"""An accelerator as one of two processes that hold the same sees it."""


@pytest.fixture
def trainer():
    """With a batch of two groups of two completions, of which a process trains one at once."""
    trainer = grpo.Trainer.__new__(grpo.Trainer)
    trainer.args = SimpleNamespace(steps_per_generation=4, gradient_accumulation_steps=4)
    trainer.accelerator, trainer.num_generations, trainer.pruning = TWO, 2, None
    trainer._metrics = {"train": defaultdict(list)}
    trainer._step, trainer._buffered_inputs, trainer._logprob_seconds = 0, None, 3.0
    mask = (torch.arange(8) < torch.tensor([8, 6, 4, 2])[:, None]).long()
    batch = {"prompt_mask": torch.ones(4, 5), "completion_mask": mask, "advantages": torch.tensor([1.0, -1, 0, 0])}
    trainer._generate_and_score_completions = lambda inputs: batch
    return trainer


def logged(trainer):
    return {name: values[0] for name, values in trainer._metrics["train"].items()}


def test_tokens_are_counted_and_seconds_averaged_over_processes(trainer):
    trainer._prepare_inputs(None)
    assert logged(trainer) == {"trained_tokens": 40, "trained_cells": 40, "logprob_seconds": 3}


def test_what_pruning_leaves_out_is_neither_trained_nor_paid_for(trainer, monkeypatch):
    trainer.pruning = PruningSettings()
    monkeypatch.setattr(grpo, "draw_survivors", lambda *_: (torch.tensor([0, 1]), torch.ones(2)))
    trainer._prepare_inputs(None)
    assert logged(trainer)["trained_tokens"] == 2 * (8 + 6)
    assert logged(trainer)["trained_cells"] == 2 * (8 + 6 + 2 + 2)  # two micro-batches hold no row


@pytest.mark.parametrize("in_parts", [True, False])
def test_the_reference_is_in_parts_where_the_model_is(trainer, monkeypatch, in_parts):
    parted = []
    monkeypatch.setattr(grpo, "shard_layers", lambda model, accelerator: parted.append((model, accelerator)))
    trainer.is_fsdp_enabled = in_parts
    trainer.ref_model = None
    assert parted == []
    trainer.ref_model = "reference"
    assert parted == [("reference", TWO)] * in_parts
    assert trainer.ref_model == "reference"


def test_only_the_main_process_keeps_copies_of_the_weights_and_all_gather_them(monkeypatch):
    gathered = []

    class Weights(dict):
        def items(self):
            for name in self:
                gathered.append(name)
                yield name, None  # nothing that could be copied

    monkeypatch.setattr(grpo, "whole_weights", lambda model: Weights(a=1, b=2))
    grpo._save(SimpleNamespace(model=None, accelerator=TWO), None, None, load_recipe("quickstart"))
    assert gathered == ["a", "b"]
