"""GRPO with DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13)."""

from collections.abc import Sequence

from training.methods import grpo
from training.methods.interface import PolicyGradient, Scored
from training.recipe import RewardSettings
from training.rollout import plain_rollouts


def rewards(batch: Sequence[Scored], settings: RewardSettings) -> list[float]:
    """GRPO's reward, minus 0 to 1 over the last ``overlong_buffer`` (a share of the token limit)."""
    return [
        plain - _punishment(one, settings.overlong_buffer)
        for one, plain in zip(batch, grpo.rewards(batch, settings), strict=True)
    ]


def _punishment(one: Scored, buffer: float) -> float:
    width = buffer * one.limit
    return min(1.0, max(0.0, (one.tokens - (one.limit - width)) / width))


METHOD = PolicyGradient(plain_rollouts, rewards)
