"""DEER (arXiv 2504.15895): confidence exits at inference time, and their right answers learned by the base."""

from training.methods.interface import AtInference, Distillation
from training.rollout import truncated_rollouts

METHOD = AtInference(truncated_rollouts)
DISTILLED = Distillation(truncated_rollouts)
