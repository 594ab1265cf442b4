"""Weight synchronisation from the trainer to the rollout engine, and the guard that proves it worked."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from training.sampler import Sampler

TOLERANCE = 1e-3


class SyncError(RuntimeError):
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
    weights: Mapping[str, torch.Tensor] = model.state_dict()
    engine.load_weights(weights)
    difference = logprob_difference(engine, model, probe)
    if not difference <= tolerance:
        raise SyncError(
            f"after the weight sync, log-probabilities of engine and trainer differ by {difference:.2e}"
            f" (tolerance {tolerance:.0e}): rollouts would come from another policy than the one that is trained"
        )
    return difference


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
