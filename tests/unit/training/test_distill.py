"""Rejection sampling and supervised training on what was right: micro-batches, progress, and a harvest that is kept."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from training import distill
from training.distill import accumulate, train_distilled
from training.errors import TrainingError
from training.methods import Distillation
from training.model import build_model
from training.recipe import load_recipe
from training.resume import CHECKPOINTS
from training.rollout import Rollout
from training.sft import Example, collate, next_token_loss
from training.step_log import LOG_NAME, read_log

PAD = 0
BATCH = [Example([1, 2, 3, 4, 5, 6], 2), Example([7, 8, 9], 1), Example([3, 1, 4, 1, 5], 3), Example([2, 7, 1, 8], 1)]
SMALL = [
    "method=deer-sft",
    "data.name=DATA",
    "grpo.steps=3",
    "grpo.prompts=2",
    "grpo.group_size=3",
    "grpo.micro_batch=2",
]
SMALL += ["distill.batch_size=3", "distill.epochs=2", "rollout.engine=transformers"]


def tiny(tokenizer):
    return build_model(tokenizer, 0, hidden_size=64, layers=2)


def gradients(model):
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_add_up_to_the_gradient_of_the_whole_batch(tokenizer, micro_batch):
    """A mean over all learned tokens, however many of them a micro-batch has."""
    model = tiny(tokenizer)
    whole = next_token_loss(model, *collate(BATCH, PAD))
    whole.backward()
    expected = gradients(model)
    loss = accumulate(model, BATCH, PAD, micro_batch, torch.float32)
    assert loss == pytest.approx(whole.item(), rel=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_a_micro_batch_that_holds_the_whole_batch_is_that_batch_to_the_bit(tokenizer):
    model = tiny(tokenizer)
    next_token_loss(model, *collate(BATCH, PAD)).backward()
    expected = gradients(model)
    accumulate(model, BATCH, PAD, len(BATCH), torch.float32)
    assert all(torch.equal(gradient, expected[name]) for name, gradient in gradients(model).items())


@pytest.fixture(scope="module")
def base(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("base")
    tiny(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Sampled:
    """Rollouts that answer right, some with more words than others, by torch's draws; they fail in a chosen round."""

    def __init__(self, tokenizer, failing=None):
        self.tokenizer, self.failing, self.rounds = tokenizer, failing, 0

    def __call__(self, context, prompts):
        if self.rounds == self.failing:
            raise KeyboardInterrupt
        self.rounds += 1
        return [self.one(int(torch.randint(1, 9, ()))) for _ in prompts]

    def one(self, words):
        text = f"<think>\nSo 4.{' Yes.' * words}\n</think>\n\nThe answer is \\boxed{{{4 if words < 8 else 5}}}."
        ids = self.tokenizer.encode(text)
        return Rollout(ids, [1] * len(ids), text, "model")


@pytest.fixture
def run(tmp_path, monkeypatch, tokenizer, base):
    """Trains into ``folder`` and returns how many rounds were sampled and what was reported."""
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"question": f"{n}?", "answer": "4"}) + "\n" for n in range(20)))
    monkeypatch.setattr(distill, "open_engine", lambda *_, **options: SimpleNamespace(close=lambda: None))

    def train(folder, *changes, failing=None, killed_in_training=False, resume=False, start=base):
        recipe = load_recipe("quickstart", [each.replace("DATA", str(data)) for each in (*SMALL, *changes)])
        rollouts, steps = Sampled(tokenizer, failing), []

        def on_step(step, of, metrics):
            steps.append((step, of, "loss" in metrics))
            if killed_in_training and "loss" in metrics:
                raise KeyboardInterrupt

        arguments = (recipe, Distillation(rollouts), start, tmp_path / folder)
        if failing is None and not killed_in_training:
            train_distilled(*arguments, on_step=on_step, resume=resume)
        else:
            with pytest.raises(KeyboardInterrupt):
                train_distilled(*arguments, on_step=on_step, resume=resume)
        return SimpleNamespace(rounds=rollouts.rounds, steps=steps)

    return train


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(folder, other):
    found = weights(other)
    return all(torch.equal(tensor, found[name]) for name, tensor in weights(folder).items())


def test_progress_is_told_by_questions_while_sampling_and_by_steps_while_training(run):
    assert run("out").steps == [(2, 6, False), (4, 6, False), (6, 6, False)] + [(n, 4, True) for n in range(1, 5)]


def test_a_token_budget_ends_the_sampling(run, tmp_path):
    assert run("out", "grpo.token_budget=1").rounds == 1
    log = read_log(tmp_path / "out" / LOG_NAME)
    assert log[0]["sampled_tokens"] > 0 == log[1]["sampled_tokens"]


def test_gradient_checkpointing_computes_layers_twice_and_learns_the_same(run, tmp_path, monkeypatch):
    computed, forward = [], Qwen3MLP.forward
    monkeypatch.setattr(Qwen3MLP, "forward", lambda *arguments: computed.append(1) or forward(*arguments))
    run("plain")
    once = len(computed)
    run("checkpointed", "grpo.gradient_checkpointing=true")
    assert len(computed) - once == 2 * once
    found = weights(tmp_path / "checkpointed")
    for name, tensor in weights(tmp_path / "plain").items():
        torch.testing.assert_close(found[name], tensor, msg=name)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_run_killed_while_sampling_samples_the_rest_and_ends_with_the_same_weights(run, tmp_path, failing):
    assert run("whole").rounds == 3
    assert run("killed", failing=failing).rounds == failing
    assert run("killed", resume=True).rounds == 3 - failing
    assert same(tmp_path / "whole", tmp_path / "killed")


def test_a_run_killed_while_training_samples_nothing_again_and_starts_no_engine(run, tmp_path, monkeypatch):
    run("whole")
    run("killed", killed_in_training=True)
    monkeypatch.delattr(distill, "open_engine")
    assert run("killed", resume=True).rounds == 0
    assert same(tmp_path / "whole", tmp_path / "killed")


def harvest_of(folder):
    [path] = (folder / CHECKPOINTS).glob("harvest-*.jsonl")
    return path


def test_a_round_that_was_written_in_part_is_sampled_again(run, tmp_path):
    run("killed", failing=2)
    path = harvest_of(tmp_path / "killed")
    path.write_text(path.read_text()[:-9])
    assert run("killed", resume=True).rounds == 2


def test_the_harvest_goes_when_the_checkpoint_is_there(run, tmp_path):
    run("out", failing=1)
    assert harvest_of(tmp_path / "out").exists()
    run("out", resume=True)
    assert not (tmp_path / "out" / CHECKPOINTS).exists()


def test_without_resume_a_run_begins_anew(run):
    run("out", failing=2)
    assert run("out").rounds == 3


def test_what_was_sampled_by_other_recipe_values_is_refused(run):
    run("out", failing=2)
    with pytest.raises(TrainingError, match="other recipe values"):
        run("out", "rollout.temperature=0.5", resume=True)


def test_what_was_sampled_is_trained_on_with_other_settings_of_the_training(run):
    """So a loss that is no number costs no sampling."""
    run("out", killed_in_training=True)
    assert run("out", "distill.learning_rate=1e-5", "grpo.micro_batch=1", resume=True).rounds == 0


def test_a_loss_that_is_no_number_ends_the_run(run, monkeypatch):
    monkeypatch.setattr(distill, "next_token_loss", lambda model, *_: model.lm_head.weight.sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"loss is nan at step 1: go on with --resume and a lower"):
        run("out")


def test_what_another_base_sampled_does_not_count(run, base, tmp_path):
    run("out", failing=2)
    for path in base.iterdir():
        (tmp_path / "other" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "other" / path.name).write_bytes(path.read_bytes())
    assert run("out", resume=True, start=tmp_path / "other").rounds == 3
