"""GRPO-lambda (arXiv 2505.18086): a length penalty only for the most accurate groups of a batch."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import fmean

from training.methods import grpo, length_penalty
from training.methods.interface import PolicyGradient, Scored
from training.recipe import RewardSettings
from training.rollout import plain_rollouts


def rewards(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    """The length penalty's reward in the ``lambda_share`` most accurate groups, GRPO's in the others.

    The number of groups is rounded up; of equally accurate groups the earlier ones are taken. With several processes
    each ranks the groups that it sampled.
    """
    right: defaultdict[Hashable, list[bool]] = defaultdict(list)
    for one in batch:
        right[one.group].append(one.correct)
    ranked = sorted(right, key=lambda group: -fmean(right[group]))
    chosen = set(ranked[: math.ceil(settings.lambda_share * len(ranked))])
    plain, short = grpo.rewards(batch, settings), length_penalty.rewards(batch, settings)
    return [s if one.group in chosen else p for one, p, s in zip(batch, plain, short, strict=True)]


METHOD = PolicyGradient(plain_rollouts, rewards)
