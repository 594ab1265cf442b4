"""What a training step learns from: rollouts of the current policy, and what they are worth."""

import random
import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from reasoning import EXIT_REASONS, ExitPolicyConfig
from training.chat import chat_tokens
from training.grading import grade
from training.methods import PolicyGradient, Scored
from training.recipe import Recipe
from training.rollout import Rollout, RolloutContext
from training.sampler import Sampler, Sampling
from training.sync import synchronise

LogMetric = Callable[[str, float], None]


class Experience:
    """Samples by a method's rollouts and scores by its rewards; the trainer's framework is unknown to it.

    Attributes:
        questions: of the latest rollouts, one for each.
        rollouts: the latest ones.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: PolicyGradient,
        engine: Sampler,
        tokenizer: PreTrainedTokenizerBase,
        *,
        processes: int = 1,
    ) -> None:
        self._recipe, self._method, self._engine, self._tokenizer = recipe, method, engine, tokenizer
        self._processes = processes
        self._guard_sequences: list[list[int]] = []
        self._timings: dict[str, float] = {}
        self.questions: list[str] = []
        self.rollouts: list[Rollout] = []

    def sample(self, questions: Sequence[str], model: nn.Module, *, step: int, rank: int) -> dict[str, Any]:
        """Give the engine the model's weights and sample one completion per question.

        The draws depend on seed, step and rank alone, so a resumed run samples what an uninterrupted one does.

        Returns:
            ``prompt_ids``, ``completion_ids``, ``text`` and ``group``, a row per question, and ``env_mask`` where the
            recipe masks forced tokens.
        """
        settings, group = self._recipe.rollout, self._recipe.grpo.group_size
        started = time.perf_counter()
        prompts = [chat_tokens(self._tokenizer, question) for question in questions]
        self._guard_sequences = self._guard_sequences or prompts[:2]
        difference = self.synchronise(model)
        synchronised = time.perf_counter()
        context = RolloutContext(
            self._engine,
            self._tokenizer,
            exit_policy(self._recipe),
            Sampling(settings.temperature, settings.top_p),
            group,
            step_rng(self._recipe.seed, step, rank),
        )
        with torch.random.fork_rng():
            torch.manual_seed(step_rng(self._recipe.seed, step, rank).getrandbits(62))
            self.rollouts = self._method.rollouts(context, prompts)
        ended = time.perf_counter()
        self.questions = list(questions)
        self._timings = {
            "sync_difference": difference,
            "sync_seconds": synchronised - started,
            "rollout_seconds": ended - synchronised,
        }
        self._guard_sequences = [
            prompt + rollout.completion_ids for prompt, rollout in zip(prompts[:2], self.rollouts[:2], strict=True)
        ]
        output: dict[str, Any] = {
            "prompt_ids": prompts,
            "completion_ids": [rollout.completion_ids for rollout in self.rollouts],
            "text": [rollout.text for rollout in self.rollouts],
            "group": [index // group for index in range(len(prompts))],
        }
        if settings.mask_forced:
            output["env_mask"] = [rollout.sampled for rollout in self.rollouts]
        return output

    def synchronise(self, model: nn.Module) -> float:
        """Give the engine the model's weights, checked on sequences of the latest rollouts."""
        return synchronise(self._engine, model, self._guard_sequences, tolerance=self._recipe.rollout.sync_tolerance)

    def rewards(
        self, text: Sequence[str], answers: Sequence[str], groups: Sequence[int], log_metric: LogMetric
    ) -> list[float]:
        """What the latest rollouts are worth, by the method; logs what they were like."""
        started = time.perf_counter()
        markers = self._recipe.markers
        think, inside = self._recipe.model.think, self._recipe.model.thinking_in_prompt
        grades = [
            grade(body, gold, markers, think=think, inside=inside) for body, gold in zip(text, answers, strict=True)
        ]
        batch = [
            Scored(
                correct=graded.correct,
                formatted=graded.formatted,
                steps=graded.steps,
                tokens=len(rollout.completion_ids),
                limit=self._recipe.rollout.max_completion_tokens,
                group=group,
                text=body,
                question=question,
                answer=gold,
            )
            for graded, rollout, group, body, question, gold in zip(
                grades, self.rollouts, groups, text, self.questions, answers, strict=True
            )
        ]
        values = self._method.rewards(batch, self._recipe.reward)
        cost = float(self._processes * sum(rollout.cost for rollout in self.rollouts))
        for name, value in {
            **self._timings,
            **summarise(self.rollouts),
            "accuracy": fmean(one.correct for one in batch),
            "steps": fmean(one.steps for one in batch),
            "sampled_tokens": cost,
            "reward_seconds": time.perf_counter() - started,
        }.items():
            log_metric(name, value)
        right = [one.steps for one in batch if one.correct]
        if right:
            log_metric("steps_correct", fmean(right))
        return values


def step_rng(seed: int, step: int, rank: int) -> random.Random:
    """The source of all draws of one step on one process."""
    return random.Random(f"{seed}:{step}:{rank}")


def fits_prompt(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Callable[[str], bool]:
    """Whether a question's prompt is within the recipe's limit."""
    return lambda question: len(chat_tokens(tokenizer, question)) <= recipe.rollout.max_prompt_tokens


def exit_policy(recipe: Recipe) -> ExitPolicyConfig:
    """The exit policy that a recipe's rollout section describes."""
    settings = recipe.rollout
    return ExitPolicyConfig(
        markers=recipe.markers,
        think=recipe.model.think,
        answer_prompt=settings.answer_prompt,
        threshold=settings.threshold,
        max_probes=settings.max_probes,
        probe_tokens=settings.probe_tokens,
        mean=settings.confidence_mean,
        thinking_tokens=int(settings.think_ratio * settings.max_completion_tokens),
        total_tokens=settings.max_completion_tokens,
        exit_margin=settings.exit_margin,
    )


def summarise(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means of one rollout batch: length, forced tokens, exits by reason, trial answers and what they cost.

    Reasons that did not occur are there with 0, or the mean over processes would be one over those that saw them.
    """
    confidences = sorted(value for rollout in rollouts for value in rollout.confidences)
    tokens = sum(len(rollout.completion_ids) for rollout in rollouts)
    summary = {
        "completion_tokens": tokens / len(rollouts),
        "forced_share": 1 - sum(sum(rollout.sampled) for rollout in rollouts) / tokens,
        "probes": fmean(len(rollout.confidences) for rollout in rollouts),
        "probe_tokens": fmean(rollout.probe_tokens for rollout in rollouts),
        "probe_seconds": sum(rollout.probe_seconds for rollout in rollouts),
    }
    for reason in sorted({*EXIT_REASONS, *(rollout.exit for rollout in rollouts)}):
        summary[f"exit_{reason}"] = fmean(rollout.exit == reason for rollout in rollouts)
    for percent in (10, 50, 90) if confidences else ():
        summary[f"confidence_p{percent}"] = confidences[len(confidences) * percent // 100]
    return summary
