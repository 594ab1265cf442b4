"""A few training steps of a tiny model, each loss checked against a small GRPO of its own.

Run as a script: FOLDER ARCHITECTURE [recipe overrides...]. Every process writes what it found to FOLDER; a run that was
killed there is gone on with.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState
from torch.distributed.tensor import DTensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from training import grpo
from training.methods import PolicyGradient
from training.model import build_model
from training.recipe import load_recipe
from training.rollout import truncated_rollouts
from training.step_log import LOG_NAME, read_log
from training.sync import whole_weights
from training.tokenizer import build_tokenizer

SMALL = ["grpo.steps=2", "grpo.prompts=4", "grpo.group_size=4", "grpo.updates=2", "grpo.micro_batch=4", "grpo.kl=0.01"]


SCORED = []
"""Batches as the reward got them."""


def by_place(batch, _):
    """A reward that random weights can earn."""
    SCORED.append(batch)
    return [float(place * place % 5) for place in range(len(batch))]


METHOD = PolicyGradient(truncated_rollouts, by_place)


def save_base(folder, architecture, opened):
    """A tiny model with random weights, large enough that its answers differ; its template may open the thinking block
    itself, as those of the R1 distills do.
    """
    tokenizer = build_tokenizer()
    if opened:
        tokenizer.chat_template += "{%- if add_generation_prompt %}{{- '<think>\\n' }}{%- endif %}"
    if architecture == "qwen2":
        torch.manual_seed(0)
        size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
        tokens = {"vocab_size": 832, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = Qwen2Config(**size, num_key_value_heads=1, bos_token_id=None, **tokens)
        model = Qwen2ForCausalLM(config)
    else:
        model = build_model(tokenizer, 0, hidden_size=64, layers=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def own_logps(model, inputs):
    """Log-probabilities of the completions' tokens, from the model's own logits."""
    prompt, completion = inputs["prompt_ids"], inputs["completion_ids"]
    ids = torch.cat([prompt, completion], 1)
    attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=attention, position_ids=positions).logits[:, prompt.shape[1] - 1 : -1]
    return logits.float().log_softmax(-1).gather(-1, completion[:, :, None]).squeeze(-1)


def oracle_loss(trainer, model, inputs):
    """Token-mean clipped policy loss with the KL term (low-variance estimator), and with the ratio's cap."""
    logps = own_logps(model, inputs)
    old = inputs["old_per_token_logps"]
    ratio, gain = (logps - old).exp(), inputs["advantages"][:, None]
    policy = -torch.minimum(ratio.clamp(max=trainer.args.delta or torch.inf) * gain, ratio.clamp(0.8, 1.3) * gain)
    distance = inputs["ref_per_token_logps"] - logps
    mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
    total = ((policy + 0.01 * (distance.exp() - distance - 1)) * mask).sum()
    share = trainer.args.gradient_accumulation_steps / trainer.args.steps_per_generation
    return total / (inputs["num_items_in_batch"] / trainer.accelerator.num_processes * share)


@torch.no_grad()
def improvement(model, batches):
    """How far the policy moved towards what was worth more: advantages times the change of log-probabilities."""
    total = 0.0
    for inputs in batches:
        change = own_logps(model, inputs) - inputs["old_per_token_logps"]
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        total += (change * inputs["advantages"][:, None] * mask).sum().item()
    return total


def answered(tokenizer, experience):
    """The latest rollouts: text, what of it was forced, exit, and the steps that the reward saw."""
    for rollout, scored in zip(experience.rollouts, SCORED[-1], strict=True):
        tokens = zip(rollout.completion_ids, rollout.sampled, strict=True)
        forced = tokenizer.decode([token for token, sampled in tokens if not sampled])
        text = tokenizer.decode(rollout.completion_ids)
        yield {"text": text, "forced": forced, "exit": rollout.exit, "steps": scored.steps}


def shard_on_cpu():
    """Let accelerate shard models as its configuration says, which it does on accelerators only."""
    theirs = AcceleratorState.__init__

    def with_shards(self, *arguments, fsdp_plugin=None, **options):
        theirs(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = with_shards


def main(folder, architecture, *overrides):
    torch.set_num_threads(1)
    shard_on_cpu()
    state = PartialState(cpu=True)
    recipe = load_recipe("quickstart", ["rollout.max_completion_tokens=64", *SMALL, *overrides])
    with state.main_process_first():
        if state.is_main_process:
            save_base(folder / "base", architecture, recipe.model.thinking_in_prompt)
    losses, trainers, batches = [], [], []
    theirs = grpo.Trainer._compute_loss

    def checked(self, model, inputs):
        with torch.no_grad():
            ours = oracle_loss(self, model, inputs)
        loss = theirs(self, model, inputs)
        losses.append((loss.item(), ours.item()))
        trainers.append(self)
        batches.append(inputs)
        return loss

    grpo.Trainer._compute_loss = checked
    grpo.train_policy(recipe, METHOD, folder / "base", folder / "tuned", on_step=lambda *_: None, resume=True)
    last_step = batches[len(batches) // 2 :]
    model = trainers[-1].accelerator.unwrap_model(trainers[-1].model)
    [trained] = {str(parameter.dtype) for parameter in model.parameters() if parameter.requires_grad}
    weights = whole_weights(model)
    held = [parameter.to_local() if isinstance(parameter, DTensor) else parameter for parameter in model.parameters()]
    tokenizer = trainers[-1].processing_class
    found = {
        "prompts": [tokenizer.decode(prompt) for inputs in last_step for prompt in inputs["prompt_ids"]],
        "rollouts": list(answered(tokenizer, trainers[-1].experience)),
        "losses": losses,
        "trained_dtype": trained,
        "advantages": sorted(gain for inputs in last_step for gain in inputs["advantages"].tolist()),
        "improvement": improvement(trainers[-1].model, last_step),
        "weights": hashlib.sha256(
            b"".join(weights[key].view(torch.uint8).numpy().tobytes() for key in sorted(weights))
        ).hexdigest(),
        "held": sum(map(torch.numel, held)) / sum(map(torch.numel, model.parameters())),
        "log": read_log(folder / "tuned" / LOG_NAME),
        "files": sorted(path.name for path in (folder / "tuned").iterdir()),
    }
    (folder / f"found-{state.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
