"""Weight synchronisation from the trainer to the rollout engine, and the guard that proves it worked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from training.errors import TrainingError
from training.sampler import Sampler

TOLERANCE = 1e-3
GUARDED_TOKENS = 512
"""At the beginning of a probe sequence: the logits of more, over a whole vocabulary, could fill a GPU."""


class SyncError(TrainingError):
    """The engine does not hold the trainer's weights: a matrix or its log-probabilities of the same tokens differ."""


def synchronise(
    engine: Sampler, model: nn.Module, probe: Sequence[Sequence[int]] = (), *, tolerance: float = TOLERANCE
) -> float:
    """Give the trainer's weights to the engine and check the outcome on ``probe`` sequences (token ids).

    This proves the engine's kernels; whether the weights arrived, its :meth:`~training.sampler.Sampler.load_weights`
    must know, for in 16 bits kernels differ by more than an update changes.

    Returns:
        The mean absolute difference of log-probabilities (nats; 0.0 without probe sequences).

    Raises:
        SyncError: if the difference exceeds ``tolerance``, or the engine finds that it did not get the weights.
    """
    engine.load_weights(whole_weights(model))
    differences = logprob_differences(engine, model, [tokens[:GUARDED_TOKENS] for tokens in probe])
    difference = float(differences.mean()) if len(differences) else 0.0
    if not difference <= tolerance:
        raise SyncError(
            f"after the weight sync, log-probabilities of engine and trainer differ by {difference:.2e} on average"
            f" (tolerance {tolerance:.0e}): rollouts would come from another policy than the one that is trained;"
            " raise rollout.sync_tolerance only if the model runs in less than float32"
        )
    return difference


class WholeWeights(Mapping[str, torch.Tensor]):
    """Weights that are put together as they are read, one at a time: shards gathered (FSDP2), adapters added.

    Every process must read the same ones in the same order. The model's own tensors stay as they are: adapters that are
    merged into 16-bit weights and taken out again leave them changed a little each time.
    """

    def __init__(self, tensors: Mapping[str, Any], adapted: Mapping[str, Any]) -> None:
        self._tensors, self._adapted = tensors, adapted

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __getitem__(self, name: str) -> torch.Tensor:
        weight, layer = _gathered(self._tensors[name]), self._adapted.get(name)
        if layer is None:
            return weight
        deltas = [_gathered(layer.get_delta_weight(adapter)).float() for adapter in layer.active_adapters]
        return (weight.float() + torch.stack(deltas).sum(0)).to(weight.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def whole_weights(model: nn.Module) -> WholeWeights:
    """The weights as an ordinary checkpoint of the architecture names them.

    Wrappers of several processes are taken off, shards are gathered and LoRA adapters added.
    """
    bare: Any = getattr(model, "module", model)
    layers = {name: layer for name, layer in bare.named_modules() if hasattr(layer, "get_delta_weight")}
    tensors = {_plain_name(name): tensor for name, tensor in bare.state_dict().items() if ".lora_" not in name}
    return WholeWeights(tensors, {_plain_name(f"{name}.base_layer.weight"): layer for name, layer in layers.items()})


def _gathered(tensor: Any) -> torch.Tensor:
    whole: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def logprob_differences(engine: Sampler, model: nn.Module, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Absolute differences (nats) of the two models' log-probabilities, of all tokens but each sequence's first."""
    scored = zip(sequences, engine.token_logprobs(sequences), strict=True)
    return torch.cat(
        [torch.zeros(0), *((token_logprobs(model, tokens) - torch.tensor(s)).abs() for tokens, s in scored)]
    )


@torch.no_grad()  # type: ignore[untyped-decorator]
def token_logprobs(model: nn.Module, tokens: Sequence[int]) -> torch.Tensor:
    """Log-probability of every token after the first under the trainer's model; shape ``(len(tokens) - 1,)``."""
    training = model.training
    model.eval()
    ids = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    logits = model(input_ids=ids).logits[0, :-1].float()
    model.train(training)
    return logits.log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1).cpu()
