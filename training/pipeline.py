"""The whole story of a recipe: a base model, its Step-GRPO checkpoint, and both measured on the same questions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import GenerationConfig

from reasoning import (
    ANSWER_PROMPT,
    Calibration,
    Measurement,
    RecipeRef,
    SamplingRef,
    SavingsRatio,
    StepGrpoCard,
    StepSummary,
    ThinkTags,
    TokenSummary,
)
from training.evaluation import Measured, compare, measure
from training.grpo import train_step_grpo
from training.problems import Split, take
from training.progress import StageCallback
from training.recipe import Recipe
from training.report import Pair, write_report
from training.sampler import GREEDY, Sampling
from training.sft import train_base
from training.trials import trial_answers

BASE, TUNED, REPORT = "base", "step-grpo", "report"
MAX_TRIAL_QUESTIONS = 400


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a run keeps its two checkpoints and its report."""

    root: Path

    @property
    def base(self) -> Path:
        """The model before post-training."""
        return self.root / BASE

    @property
    def tuned(self) -> Path:
        """The model after Step-GRPO."""
        return self.root / TUNED

    def report(self, split: Split) -> Path:
        """Tables and plots of one split."""
        return self.root / REPORT / split


def run_recipe(recipe: Recipe, output: Path, on_stage: StageCallback) -> Path:
    """Train the base, post-train it, and calibrate the result. All lands in ``output``; returns the report's folder."""
    folders = Folders(output)
    train_base(recipe, folders.base, seed=recipe.seed, on_step=on_stage("supervised training of the base"))
    _finish(recipe, folders.base, "sft")
    train_step_grpo(recipe, folders.base, folders.tuned, seed=recipe.seed, on_step=on_stage("Step-GRPO"))
    _finish(recipe, folders.tuned, "step-grpo")
    return calibrate(recipe, folders, on_stage)


def calibrate(recipe: Recipe, folders: Folders, on_stage: StageCallback, split: Split = "calibration") -> Path:
    """Measure base and tuned on held-out questions, write the report, and stamp the tuned checkpoint's card.

    Only the ``calibration`` split is stamped, so that the ``test`` split stays unseen by everything that is published
    with the checkpoint.
    """
    settings = recipe.evaluation
    questions = take(split, recipe.seed, settings.questions)
    sampled = Sampling(settings.temperature, settings.top_p)
    samplings = [sampled, GREEDY]
    limit = recipe.rollout.max_completion_tokens
    measured: list[list[Measured]] = []
    done = on_stage("evaluation")
    for folder in (folders.base, folders.tuned):
        measured.append(measure(folder, questions, samplings, recipe.markers, limit))
        done(len(measured), 3, {})
    shown = measured[0][0]
    few = Measured(shown.name, shown.sampling, shown.outcomes[:MAX_TRIAL_QUESTIONS])
    trials = trial_answers(folders.base, few, recipe.rollout.probe_tokens)
    done(3, 3, {})
    labels = [f"T={sampled.temperature:g}, top-p {sampled.top_p:g}", "greedy"]
    pairs = [Pair(label, base, tuned) for label, base, tuned in zip(labels, *measured, strict=True)]
    log = folders.tuned / "training_log.jsonl"
    report = folders.report(split)
    write_report(report, pairs, trials, threshold=recipe.rollout.threshold, log=log)
    if split == "calibration":
        card = _card(recipe, "step-grpo", _calibration(pairs[0], settings.temperature, settings.top_p))
        card.save(folders.tuned)
    return report


def _finish(recipe: Recipe, folder: Path, algorithm: str) -> None:
    """Card and generation settings of a freshly trained checkpoint."""
    _card(recipe, algorithm, None).save(folder)
    config = GenerationConfig.from_pretrained(folder)
    config.update(do_sample=True, temperature=recipe.evaluation.temperature, top_p=recipe.evaluation.top_p)
    config.save_pretrained(folder)


def _card(recipe: Recipe, algorithm: str, calibration: Calibration | None) -> StepGrpoCard:
    return StepGrpoCard(
        algorithm=algorithm,
        base_model=f"stepgrpo-{recipe.name}-{BASE}",
        think=ThinkTags(),
        markers=recipe.markers,
        answer_prompt=ANSWER_PROMPT,
        recipe=RecipeRef(name=recipe.name, digest=recipe.digest),
        calibration=calibration,
    )


def _calibration(pair: Pair, temperature: float, top_p: float) -> Calibration:
    savings = compare(pair.base, pair.tuned).savings_ratio
    return Calibration(
        dataset="word-problems/calibration",
        n=len(pair.base.outcomes),
        sampling=SamplingRef(temperature=temperature, top_p=top_p),
        base=_measurement(pair.base),
        tuned=_measurement(pair.tuned),
        savings_ratio=SavingsRatio(mean=savings.mean, ci95=(savings.low, savings.high)),
    )


def _measurement(measured: Measured) -> Measurement:
    p50, p90 = np.quantile(measured.tokens, (0.5, 0.9))
    return Measurement(
        accuracy=float(measured.correct.mean()),
        completion_tokens=TokenSummary(mean=float(measured.tokens.mean()), p50=float(p50), p90=float(p90)),
        reasoning_steps=StepSummary(mean=float(measured.steps.mean())),
    )
