"""Step-GRPO (arXiv 2604.16890) and its ablations."""

from collections.abc import Sequence

from training.methods import grpo
from training.methods.interface import PolicyGradient, Scored
from training.recipe import RewardSettings
from training.rewards import step_aware_relative_reward
from training.rollout import plain_rollouts, truncated_rollouts


def rewards(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    """The Step-Aware Relative Reward."""
    return step_aware_relative_reward(
        correct=[one.correct for one in batch],
        steps=[one.steps for one in batch],
        formatted=[one.formatted for one in batch],
        groups=[one.group for one in batch],
        alpha=settings.alpha,
        beta=settings.beta,
        baseline=settings.baseline,
    )


def _all_sample_mean(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    return rewards(batch, settings.model_copy(update={"baseline": "all"}))


METHOD = PolicyGradient(truncated_rollouts, rewards)
WITHOUT_TRUNCATION = PolicyGradient(plain_rollouts, rewards)
WITHOUT_STEP_REWARD = PolicyGradient(truncated_rollouts, grpo.rewards)
ALL_SAMPLE_MEAN = PolicyGradient(truncated_rollouts, _all_sample_mean)
