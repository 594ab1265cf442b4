"""What a method is: how it samples, and what it makes of the samples."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from training.recipe import RewardSettings
from training.rollout import RolloutPolicy


@dataclass(frozen=True, slots=True)
class Scored:
    r"""One completion as a reward sees it.

    Attributes:
        correct: the boxed answer is right.
        formatted: a ``\boxed{}`` answer is present.
        steps: semantic steps, at least 1.
        tokens: length of the completion.
        limit: the longest that it could have been, in tokens.
        group: the prompt that it belongs to. Completions of a group stand in the order of their rollouts.
        text: the completion, thinking included.
        question: what was asked, with the suffix of the recipe's data.
        answer: the reference answer.
    """

    correct: bool
    formatted: bool
    steps: int
    tokens: int
    limit: int
    group: Hashable
    text: str
    question: str
    answer: str


Reward = Callable[[Sequence[Scored], RewardSettings], list[float]]
"""One reward per completion of a batch of whole groups."""


@dataclass(frozen=True, slots=True)
class PolicyGradient:
    """Group-based policy optimisation.

    Attributes:
        rollouts: how completions are sampled.
        rewards: what they are worth.
        scale_advantages: divide the centred rewards of a group by their standard deviation.
    """

    rollouts: RolloutPolicy
    rewards: Reward
    scale_advantages: bool = True


@dataclass(frozen=True, slots=True)
class Distillation:
    """Rejection sampling: the base samples by ``rollouts``, and what is right is learned by supervised training."""

    rollouts: RolloutPolicy


@dataclass(frozen=True, slots=True)
class AtInference:
    """No training: the base itself, decoded by ``rollouts``."""

    rollouts: RolloutPolicy


Method = PolicyGradient | Distillation | AtInference
