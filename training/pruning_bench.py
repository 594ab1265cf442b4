"""What pruning saves and what it costs: the same training with and without it, measured on the same questions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from training.bench_figures import Figure, figure_table
from training.data import held_out
from training.errors import TrainingError
from training.evaluation import Measured, measure
from training.json_text import json_text
from training.methods import PolicyGradient, load_method
from training.problems import Problem
from training.progress import StageCallback
from training.recipe import Recipe
from training.sampler import Sampling
from training.scores import Interval, against, runs_of_a_question
from training.step_log import LOG_NAME, read_log

WHOLE, PRUNED = "all completions", "pruned"


@dataclass(frozen=True, slots=True)
class Side:
    """Runs of one kind over the seeds: how they were trained, and each one's answers to the same questions.

    ``trained_tokens`` and ``cells`` (tokens and padding) are means a step, one for each seed.
    """

    name: str
    trained_tokens: tuple[float, ...]
    cells: tuple[float, ...]
    answers: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Pruned against whole: ``mean`` with a paired interval over questions, and the difference of each seed."""

    mean: Interval
    by_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PruningBench:
    """Figures of the two sides over ``questions`` questions; ``accuracy`` and ``saved`` are pruned against whole."""

    rows: Sequence[Mapping[str, Any]]
    figures: Sequence[Figure]
    questions: int
    accuracy: Difference
    saved: Difference

    def as_markdown(self) -> str:
        """Tables for people."""
        lines = ["# Pruning", "", *figure_table(self.figures), ""]
        lines += ["| | trained tokens a step | with padding | accuracy | tokens | saved |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {row['name']} | {row['trained_tokens']:,.0f} | {row['cells']:,.0f} | {row['accuracy']:.1%}"
            f" | {row['tokens']:.1f} | {row['saved']:.1%} |"
            for row in self.rows
        ]
        for name, found in (("accuracy", self.accuracy), ("tokens saved", self.saved)):
            verdict = "no difference seen" if found.mean.low <= 0 <= found.mean.high else "**a difference**"
            seeds = ", ".join(f"{100 * value:+.1f}" for value in found.by_seed)
            lines += ["", f"{name}, pruned against all: {_points(found.mean)}, {verdict}; by seed: {seeds}"]
        return "\n".join([*lines, "", self._coverage, ""])

    @property
    def _coverage(self) -> str:
        """What the intervals cover."""
        seeds = len(self.accuracy.by_seed)
        trained = (
            "One seed was trained, so how much another one would differ is not known."
            if seeds == 1
            else f"How much training differs from seed to seed is not in them: {seeds} differences by seed show it."
        )
        return (
            f"Intervals: 95 %, paired bootstrap over the {self.questions} questions, each question's answers averaged"
            " over the seeds first. They cover which questions were asked and how answers were drawn, of these runs."
            f" {trained}"
        )


def bench_pruning(
    recipe: Recipe, base: Path, output: Path, on_stage: StageCallback, *, steps: int, questions: int, seeds: int
) -> PruningBench:
    """Train from ``base`` with and without pruning and measure both; writes ``pruning.json`` and ``pruning.md``.

    Raises:
        DataError: the recipe's data have no held-out questions.
        TrainingError: the recipe's method has no completions to prune.
    """
    method = load_method(recipe.method)
    if not isinstance(method, PolicyGradient):
        raise TrainingError(
            f"{recipe.method} has no groups of completions that could be pruned: take a method that has, for example"
            " --set method=step-grpo"
        )
    short = recipe.overridden({"grpo.steps": steps, "grpo.token_budget": None, "grpo.save_every": 0})
    asked = held_out(recipe.data, "test", recipe.seed, questions)
    full, drawn = short.overridden({"pruning": None}), short.overridden({"pruning": recipe.pruning or {}})
    whole = _side(WHOLE, full, method, base, asked, output, on_stage, seeds)
    pruned = _side(PRUNED, drawn, method, base, asked, output, on_stage, seeds)
    found = compare_sides(whole, pruned, _answers(short, [base] * seeds, asked))
    (output / "pruning.json").write_text(json_text(asdict(found)))
    (output / "pruning.md").write_text(found.as_markdown())
    return found


def compare_sides(whole: Side, pruned: Side, vanilla: Sequence[Measured]) -> PruningBench:
    """The figures of both sides; ``vanilla`` are the base's answers to the same questions, seed by seed."""
    ratios = zip(whole.trained_tokens, pruned.trained_tokens, strict=True)
    found = against(runs_of_a_question(whole.answers), runs_of_a_question(pruned.answers))
    each = [against(one, other) for one, other in zip(whole.answers, pruned.answers, strict=True)]
    return PruningBench(
        rows=[_row(side, vanilla) for side in (whole, pruned)],
        figures=[Figure("fewer trained tokens a step", tuple(one / other for one, other in ratios), "at least", 1.5)],
        questions=len(whole.answers[0].outcomes),
        accuracy=Difference(found.accuracy_difference, tuple(one.accuracy_difference.mean for one in each)),
        saved=Difference(found.savings_ratio, tuple(one.savings_ratio.mean for one in each)),
    )


def _side(
    name: str,
    recipe: Recipe,
    method: PolicyGradient,
    base: Path,
    asked: Sequence[Problem],
    output: Path,
    on_stage: StageCallback,
    seeds: int,
) -> Side:
    from training.grpo import train_policy

    folders = [output / name.replace(" ", "-") / str(seed) for seed in range(seeds)]
    for seed, folder in enumerate(folders):
        train_policy(recipe.overridden({"seed": seed}), method, base, folder, on_step=on_stage(f"{name}, seed {seed}"))
    logs = [read_log(folder / LOG_NAME) for folder in folders]

    def means(key: str) -> tuple[float, ...]:
        return tuple(fmean(line[key] for line in log) for log in logs)

    return Side(name, means("trained_tokens"), means("trained_cells"), _answers(recipe, folders, asked))


def _answers(recipe: Recipe, folders: Sequence[Path], asked: Sequence[Problem]) -> tuple[Measured, ...]:
    sampling = Sampling(recipe.evaluation.temperature, recipe.evaluation.top_p)
    return tuple(measure(recipe, folder, asked, [sampling], seed=seed)[0] for seed, folder in enumerate(folders))


def _row(side: Side, vanilla: Sequence[Measured]) -> dict[str, Any]:
    answers = runs_of_a_question(side.answers)
    return {
        "name": side.name,
        "trained_tokens": fmean(side.trained_tokens),
        "cells": fmean(side.cells),
        "accuracy": float(answers.correct.mean()),
        "tokens": float(answers.tokens.mean()),
        "saved": against(runs_of_a_question(vanilla), answers).savings_ratio.mean,
    }


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
