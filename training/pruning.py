"""Unbiased dynamic pruning: leave out what teaches little, at random, and weigh up what stays.

The rule of the DPPO paper (arXiv 2603.04135) could not be retrieved; this one is derived here. A completion whose
advantage is, in absolute value, below the batch's mean is kept with probability ``1 - completions``, all others surely;
likewise a group by the mean of its absolute advantages. What is kept weighs 1 over its probability, and the loss keeps
the normaliser of the whole batch, so the expected gradient is the whole batch's. Advantages come first, from whole
groups. Pruning saves the update, not the rollout, which is done by then.
"""

import torch

from training.recipe import PruningSettings


def draw_survivors(
    advantages: torch.Tensor, group_size: int, settings: PruningSettings, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw what stays.

    Args:
        advantages: shape ``(completions,)``, groups side by side.
        group_size: completions of a group.
        settings: the shares to leave out.
        generator: of the draws; torch's own by default.

    Returns:
        Indices of the completions that stay (it may be none) and the weight of each.
    """
    signal = advantages.abs()
    groups = signal.view(-1, group_size).mean(dim=1)
    keep_completion = torch.where(signal >= signal.mean(), 1.0, 1.0 - settings.completions)
    keep_group = torch.where(groups >= groups.mean(), 1.0, 1.0 - settings.groups)
    stays = _drawn(keep_completion, generator) & _drawn(keep_group, generator).repeat_interleave(group_size)
    kept = stays.nonzero().squeeze(-1)
    return kept, 1 / (keep_completion * keep_group.repeat_interleave(group_size))[kept]


def _drawn(probabilities: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return torch.rand(probabilities.shape, generator=generator).to(probabilities.device) < probabilities
