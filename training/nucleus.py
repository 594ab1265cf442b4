"""Nucleus (top-p) sampling on a CPU, for vocabularies and batches where sorting takes most of a sampler's time."""

import numpy as np
import torch


def keep_nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Set to minus infinity, in place, all but the fewest most likely tokens that hold more than ``top_p`` of the mass.

    Tokens that are as likely as the least likely one of these stay, too. Numpy sorts values alone, much faster than
    torch sorts values with their places.

    Args:
        logits: shape ``(batch, vocabulary)``, float32, on the CPU.
        top_p: shape ``(batch,)``, in (0, 1].

    Source: Holtzman et al. 2020, The Curious Case of Neural Text Degeneration, section 3.1.
    """
    ascending = torch.from_numpy(np.sort(logits.numpy(), axis=-1))
    outside = ascending.softmax(-1).cumsum(-1) <= 1 - top_p[:, None]
    outside[:, -1] = False
    least = ascending.gather(1, outside.sum(1, keepdim=True))
    return logits.masked_fill_(logits < least, -torch.inf)
