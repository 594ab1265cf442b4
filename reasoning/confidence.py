"""How sure a trial answer is, from the log-probabilities of its tokens."""

import math
from collections.abc import Sequence


def answer_confidence(
    logprobs: Sequence[float], *, closed: bool = True, strict: bool = True, skip_first: bool = True
) -> float:
    """Geometric mean of the top-1 probabilities of a trial answer's tokens (Step-GRPO, Eq. 2).

    Args:
        logprobs: natural log-probability of the most likely token at each position, in order.
        closed: whether the trial answer itself reached the end of the thinking block.
        strict: an answer that is not closed has confidence 0.
        skip_first: leave out the first token, which only opens the box.

    Returns:
        A value in [0, 1]; 0 where no token is left to judge by.
    """
    counted = logprobs[1:] if skip_first else logprobs
    if not counted or (strict and not closed):
        return 0.0
    return min(1.0, math.exp(math.fsum(counted) / len(counted)))
