"""Weight synchronisation from the trainer to the rollout engine, and the guard that proves it worked."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from training.errors import TrainingError
from training.sampler import Sampler

TOLERANCE = 1e-3


class SyncError(TrainingError):
    """The engine does not hold the trainer's weights: its log-probabilities of the same tokens differ."""


def synchronise(
    engine: Sampler, model: nn.Module, probe: Sequence[Sequence[int]] = (), *, tolerance: float = TOLERANCE
) -> float:
    """Give the trainer's weights to the engine and check the outcome on ``probe`` sequences (token ids).

    Returns:
        The largest absolute difference of log-probabilities (nats; 0.0 without probe sequences).

    Raises:
        SyncError: if the difference exceeds ``tolerance``.
    """
    with whole_weights(model) as weights:
        engine.load_weights(weights)
    difference = logprob_difference(engine, model, probe)
    if not difference <= tolerance:
        raise SyncError(
            f"after the weight sync, log-probabilities of engine and trainer differ by {difference:.2e}"
            f" (tolerance {tolerance:.0e}): rollouts would come from another policy than the one that is trained;"
            " raise rollout.sync_tolerance only if the model runs in less than float32"
        )
    return difference


class Gathered(Mapping[str, torch.Tensor]):
    """Tensors that are gathered from their shards (FSDP2) as they are read, one at a time.

    Every process must read the same ones in the same order.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        whole: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        return whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


@contextmanager
def whole_weights(model: nn.Module) -> Iterator[Gathered]:
    """The weights as an ordinary checkpoint of the architecture names them.

    Wrappers of several processes are taken off, shards are gathered, and LoRA adapters are merged for as long as the
    context is open.
    """
    bare: Any = getattr(model, "module", model)
    adapted = hasattr(bare, "merge_adapter")
    if adapted:
        bare.merge_adapter()
    try:
        state = bare.state_dict()
        yield Gathered({_plain_name(name): tensor for name, tensor in state.items() if ".lora_" not in name})
    finally:
        if adapted:
            bare.unmerge_adapter()


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def logprob_difference(engine: Sampler, model: nn.Module, sequences: Sequence[Sequence[int]]) -> float:
    """Largest absolute difference between the two models' log-probabilities of the same tokens, in nats."""
    largest = 0.0
    for tokens, scored in zip(sequences, engine.token_logprobs(sequences), strict=True):
        ours = token_logprobs(model, tokens)
        largest = max(largest, float((ours - torch.tensor(scored)).abs().max()))
    return largest


@torch.no_grad()  # type: ignore[untyped-decorator]
def token_logprobs(model: nn.Module, tokens: Sequence[int]) -> torch.Tensor:
    """Log-probability of every token after the first under the trainer's model; shape ``(len(tokens) - 1,)``."""
    training = model.training
    model.eval()
    ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    logits = model(input_ids=ids).logits[0, :-1].float()
    model.train(training)
    return logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1).cpu()
