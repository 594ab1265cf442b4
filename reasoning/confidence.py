"""How sure a trial answer is, from the log-probabilities of its tokens."""

import math
from collections.abc import Sequence
from typing import Literal

Mean = Literal["geometric", "arithmetic"]
_FLOOR = math.log(1e-10)


def answer_confidence(
    logprobs: Sequence[float],
    *,
    closed: bool = True,
    strict: bool = True,
    skip_first: bool = True,
    mean: Mean = "geometric",
) -> float:
    """Mean top-1 probability of a trial answer's tokens (Step-GRPO, Eq. 2).

    Args:
        logprobs: natural log-probability of the most likely token at each position, in order; NaN counts as no
            probability at all.
        closed: whether the trial answer itself reached the end of the thinking block.
        strict: an answer that is not closed has confidence 0.
        skip_first: leave out the first token, which only opens the box.
        mean: ``geometric`` as in Step-GRPO and for the Qwen3 family, ``arithmetic`` as DEER has it for others.

    Returns:
        A value in [0, 1]; 0 where no token is left to judge by.
    """
    # The order of the arguments matters: max(_FLOOR, nan) is _FLOOR.
    counted = [min(0.0, max(_FLOOR, logprob)) for logprob in logprobs[int(skip_first) :]]
    if not counted or (strict and not closed):
        return 0.0
    if mean == "arithmetic":
        return math.fsum(map(math.exp, counted)) / len(counted)
    return math.exp(math.fsum(counted) / len(counted))
