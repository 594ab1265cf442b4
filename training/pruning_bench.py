"""What pruning saves and what it costs: the same training with and without it, measured on the same questions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from training.bench_figures import Figure, figure_table
from training.evaluation import Interval, Measured, compare, measure
from training.methods import PolicyGradient, load_method
from training.problems import Problem, take
from training.progress import StageCallback
from training.recipe import Recipe
from training.sampler import Sampling
from training.step_log import LOG_NAME, read_log

WHOLE, PRUNED = "all completions", "pruned"


@dataclass(frozen=True, slots=True)
class Side:
    """Runs of one kind over the seeds: how they were trained, and their answers to the same questions.

    ``trained_tokens`` and ``cells`` (tokens and padding) are means a step, one for each seed.
    """

    name: str
    trained_tokens: tuple[float, ...]
    cells: tuple[float, ...]
    answers: Measured


@dataclass(frozen=True, slots=True)
class PruningBench:
    """Figures of the two sides; ``accuracy`` and ``saved`` are pruned against whole, with paired intervals."""

    rows: Sequence[Mapping[str, Any]]
    figures: Sequence[Figure]
    accuracy: Interval
    saved: Interval

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
            verdict = "no difference seen" if found.low <= 0 <= found.high else "**a difference**"
            lines += ["", f"{name}, pruned against all: {_percent(found)}, {verdict}"]
        return "\n".join([*lines, ""])


def bench_pruning(
    recipe: Recipe, base: Path, output: Path, on_stage: StageCallback, *, steps: int, questions: int, seeds: int
) -> PruningBench:
    """Train from ``base`` with and without pruning and measure both; writes ``pruning.json`` and ``pruning.md``."""
    short = recipe.overridden({"grpo.steps": steps, "grpo.token_budget": None, "grpo.save_every": 0})
    asked = take("test", recipe.seed, questions)
    whole = _side(WHOLE, short.overridden({"pruning": None}), base, asked, output, on_stage, seeds)
    pruned = _side(PRUNED, short.overridden({"pruning": recipe.pruning or {}}), base, asked, output, on_stage, seeds)
    vanilla = _answers(short, [base] * seeds, asked)
    ratios = zip(whole.trained_tokens, pruned.trained_tokens, strict=True)
    fewer = Figure("fewer trained tokens a step", tuple(one / other for one, other in ratios), "at least", 1.5)
    difference = compare(whole.answers, pruned.answers)
    found = PruningBench(
        [_row(side, vanilla) for side in (whole, pruned)],
        [fewer],
        difference.accuracy_difference,
        difference.savings_ratio,
    )
    (output / "pruning.json").write_text(json.dumps(asdict(found), indent=2) + "\n")
    (output / "pruning.md").write_text(found.as_markdown())
    return found


def _side(
    name: str, recipe: Recipe, base: Path, asked: Sequence[Problem], output: Path, on_stage: StageCallback, seeds: int
) -> Side:
    from training.grpo import train_policy

    method = load_method(recipe.method)
    assert isinstance(method, PolicyGradient)
    folders = [output / name.replace(" ", "-") / str(seed) for seed in range(seeds)]
    for seed, folder in enumerate(folders):
        train_policy(recipe.overridden({"seed": seed}), method, base, folder, on_step=on_stage(f"{name}, seed {seed}"))
    logs = [read_log(folder / LOG_NAME) for folder in folders]

    def means(key: str) -> tuple[float, ...]:
        return tuple(fmean(line[key] for line in log) for log in logs)

    return Side(name, means("trained_tokens"), means("trained_cells"), _answers(recipe, folders, asked))


def _answers(recipe: Recipe, folders: Sequence[Path], asked: Sequence[Problem]) -> Measured:
    """The answers of all seeds, one after the other."""
    sampling = Sampling(recipe.evaluation.temperature, recipe.evaluation.top_p)
    found = [measure(recipe, folder, asked, [sampling], seed=seed)[0] for seed, folder in enumerate(folders)]
    return replace(found[0], outcomes=tuple(outcome for one in found for outcome in one.outcomes))


def _row(side: Side, vanilla: Measured) -> dict[str, Any]:
    return {
        "name": side.name,
        "trained_tokens": fmean(side.trained_tokens),
        "cells": fmean(side.cells),
        "accuracy": float(side.answers.correct.mean()),
        "tokens": float(side.answers.tokens.mean()),
        "saved": compare(vanilla, side.answers).savings_ratio.mean,
    }


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
