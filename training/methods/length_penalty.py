"""GRPO with a length penalty: among the correct completions of a group, shorter ones are worth more."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import fmean, pstdev

from training.methods.interface import PolicyGradient, Scored
from training.recipe import RewardSettings
from training.rollout import plain_rollouts


def rewards(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    """``alpha * (1 - length_weight * sigmoid((L - mean) / std))`` where correct, plus the format term.

    Mean and standard deviation of the length ``L`` (tokens) are those of the group's correct completions; where they
    are all equally long, the sigmoid is 1/2.
    """
    lengths: defaultdict[Hashable, list[int]] = defaultdict(list)
    for one in batch:
        if one.correct:
            lengths[one.group].append(one.tokens)
    centre = {group: (fmean(tokens), pstdev(tokens)) for group, tokens in lengths.items()}

    def reward(one: Scored) -> float:
        form = (1 - settings.alpha) * one.formatted
        if not one.correct:
            return form
        mean, std = centre[one.group]
        distance = (one.tokens - mean) / std if std else 0.0
        return settings.alpha * (1 - settings.length_weight / (1 + math.exp(-distance))) + form

    return [reward(one) for one in batch]


METHOD = PolicyGradient(plain_rollouts, rewards)
