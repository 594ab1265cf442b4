"""Rewards of group-based policy optimisation: what a completion is worth next to the others of its group."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

Baseline = Literal["correct", "all"]


def step_aware_relative_reward(
    *,
    correct: Sequence[bool],
    steps: Sequence[int],
    formatted: Sequence[bool],
    groups: Sequence[Hashable],
    alpha: float = 0.9,
    beta: float = 0.5,
    baseline: Baseline = "correct",
) -> list[float]:
    r"""The Step-Aware Relative Reward (Step-GRPO, Eq. 4 and 5).

    ``R = alpha * correct * (1 - beta * tanh((k - mu) / mu)) + (1 - alpha) * formatted``, where ``k`` is the number of
    semantic steps of the completion and ``mu`` the mean of ``k`` over the correct completions of its group.

    Args:
        correct: whether the answer is right, per completion.
        steps: semantic steps per completion, at least 1.
        formatted: whether a ``\boxed{}`` answer is present, per completion.
        groups: the group (prompt) that each completion belongs to; any hashable key, in any order.
        alpha: share of the accuracy term, the rest is the format term.
        beta: strength of the step term; 0 leaves it out.
        baseline: take ``mu`` over the ``correct`` completions of the group (the method) or over ``all`` (an ablation).

    Returns:
        One reward per completion. With the defaults a correct and formatted one lies in (0.55, 1.343), a wrong one
        is worth at most 0.1.

    Raises:
        ValueError: if the sequences differ in length, a step count is below 1, or a coefficient is out of range.
    """
    if not len(correct) == len(steps) == len(formatted) == len(groups):
        raise ValueError("correct, steps, formatted and groups must have the same length")
    if any(count < 1 for count in steps):
        raise ValueError("a completion has at least one semantic step")
    if not 0 <= alpha <= 1 or not 0 <= beta < 1:
        raise ValueError(f"alpha must lie in [0, 1] and beta in [0, 1); got {alpha} and {beta}")
    counted: defaultdict[Hashable, list[int]] = defaultdict(list)
    for is_correct, count, group in zip(correct, steps, groups, strict=True):
        if is_correct or baseline == "all":
            counted[group].append(count)
    mean = {group: math.fsum(counts) / len(counts) for group, counts in counted.items()}

    def reward(is_correct: bool, count: int, is_formatted: bool, group: Hashable) -> float:
        form = (1 - alpha) * is_formatted
        if not is_correct:
            return form
        mu = mean[group]
        return alpha * (1 - beta * math.tanh((count - mu) / mu)) + form

    return [reward(*row) for row in zip(correct, steps, formatted, groups, strict=True)]
