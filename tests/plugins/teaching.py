"""Checkpoints and LoRA adapters for tests: trained, in seconds, to give certain answers to certain questions."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

SURE = 0.3
"""Loss of the hardest token: below it, each has a probability above 0.7, and greedy decoding gives the answer."""
STEPS = 400
IGNORED = -100


def taught_checkpoint(checkpoint: Path, folder: Path, answers: Mapping[str, str]) -> Path:
    """A copy of the checkpoint that answers these questions so, thinking and all."""
    shutil.copytree(checkpoint, folder)
    model = _model(checkpoint)
    _teach(model, checkpoint, answers, learning_rate=3e-3)
    model.save_pretrained(folder)
    return folder


def taught_adapter(checkpoint: Path, folder: Path, answers: Mapping[str, str]) -> Path:
    """A LoRA adapter with which the checkpoint answers these questions so; it must know the words already."""
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(_model(checkpoint), config)
    _teach(model, checkpoint, answers, learning_rate=1e-2)
    model.save_pretrained(folder)
    return folder


def _model(checkpoint: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)


def _teach(model: Any, checkpoint: Path, answers: Mapping[str, str], learning_rate: float) -> None:
    tokens, labels = _batch(AutoTokenizer.from_pretrained(checkpoint), answers)
    optimizer = torch.optim.AdamW((each for each in model.parameters() if each.requires_grad), lr=learning_rate)
    for _ in range(STEPS):
        logits = model(input_ids=tokens).logits[:, :-1]
        losses = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="none")
        if losses.max() < SURE:
            return
        optimizer.zero_grad()
        (losses.sum() / (losses > 0).sum()).backward()
        optimizer.step()
    raise AssertionError(f"not learned in {STEPS} steps: the hardest token is at {losses.max():.2f}")


def _batch(tokenizer: Any, answers: Mapping[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of the chats, filled up at the end."""
    tokens, labels = [], []
    for question, answer in answers.items():
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.encode(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
        completion = [*tokenizer.encode(answer), tokenizer.eos_token_id]
        tokens.append(torch.tensor(prompt + completion))
        labels.append(torch.tensor([IGNORED] * len(prompt) + completion))
    padded = torch.nn.utils.rnn.pad_sequence
    return padded(tokens, batch_first=True), padded(labels, batch_first=True, padding_value=IGNORED)
