"""GRPO: accuracy and format only (arXiv 2402.03300)."""

from collections.abc import Sequence

from training.methods.interface import PolicyGradient, Scored
from training.recipe import RewardSettings
from training.rollout import plain_rollouts


def rewards(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    """``alpha * correct + (1 - alpha) * formatted``."""
    return [settings.alpha * one.correct + (1 - settings.alpha) * one.formatted for one in batch]


METHOD = PolicyGradient(plain_rollouts, rewards)
