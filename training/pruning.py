"""Unbiased dynamic pruning: leave out what teaches little, at random, and weigh up what stays.

The rule of the DPPO paper (arXiv 2603.04135) could not be retrieved; this one is derived here. A completion whose
advantage is, in absolute value, below the batch's mean is kept with probability ``1 - completions``, all others surely;
likewise a group by the mean of its absolute advantages. What is kept weighs 1 over its probability, and the loss keeps
the normaliser of the whole batch, so the expected gradient is the whole batch's. Advantages come first, from whole
groups. Pruning saves the update, not the rollout, which is done by then.
"""

from collections.abc import Sequence

import numpy as np
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


def pack(lengths: Sequence[int], bins: int) -> list[list[int]]:
    """Spread rows over micro-batches, neighbours in length together, with the least padding.

    No micro-batch has more cells (rows times its longest) than one of an even split could have, so memory stays
    bounded. The split is the best one, by dynamic programming over the sorted rows.

    Returns:
        Row indices of each of the ``bins`` micro-batches; some may be empty.
    """
    count = len(lengths)
    if not count:
        return [[] for _ in range(bins)]
    order = sorted(range(count), key=lambda index: -lengths[index])
    longest = np.array([lengths[index] for index in order], dtype=float)
    sizes = np.arange(count + 1)[None, :] - np.arange(count)[:, None]  # of rows i to j, at [i, j]
    cells = np.where(sizes > 0, sizes * longest[:, None], np.inf)
    cells[cells > -(-count // bins) * longest[0]] = np.inf
    least = np.full(count + 1, np.inf)
    least[0] = 0.0
    begins = []
    for _ in range(bins):
        totals = least[:count, None] + cells
        begin, split = totals.argmin(axis=0), totals.min(axis=0)
        stay = least <= split
        begins.append(np.where(stay, np.arange(count + 1), begin))
        least = np.where(stay, least, split)
    packed, end = [], count
    for starts in reversed(begins):
        packed.append(order[starts[end] : end])
        end = int(starts[end])
    return packed[::-1]
