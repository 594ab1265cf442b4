"""The table and plots of a comparison of methods: mean and interval over seeds, and who is on the Pareto front."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from scipy.stats import t

from training.comparison import BASE, Result
from training.json_text import json_text
from training.scores import Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One method over its seeds; ``saved`` is against the vanilla base's mean tokens."""

    method: str
    settings: dict[str, object]
    accuracy: Interval
    tokens: Interval
    saved: Interval
    steps: float
    redundant_checks: float
    useful_checks: float
    sampled_tokens: float
    minutes: float
    on_front: bool


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of Student's t; of a single value the interval is the value."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def summarise(results: Sequence[Result]) -> list[Row]:
    """A row per method, in order of appearance; tokens include those of trial answers at inference."""
    names = list(dict.fromkeys(result.method for result in results))
    runs = {name: [result for result in results if result.method == name] for name in names}

    def mean(name: str, value: Callable[[Result], float]) -> float:
        values = [value(run) for run in runs[name] if not math.isnan(value(run))]
        return fmean(values) if values else math.nan

    def total(run: Result) -> float:
        return run.tokens + run.probe_tokens

    vanilla = mean(BASE, total)
    points = {name: (mean(name, lambda run: run.accuracy), mean(name, total)) for name in names}

    def beaten(name: str) -> bool:
        accuracy, tokens = points[name]
        return any(
            other[0] >= accuracy and other[1] <= tokens and other != (accuracy, tokens) for other in points.values()
        )

    return [
        Row(
            method=name,
            settings=dict(runs[name][0].settings),
            accuracy=interval([run.accuracy for run in runs[name]]),
            tokens=interval([total(run) for run in runs[name]]),
            saved=interval([1 - total(run) / vanilla for run in runs[name]]),
            steps=mean(name, lambda run: run.steps),
            redundant_checks=mean(name, lambda run: run.redundant_checks),
            useful_checks=mean(name, lambda run: run.useful_checks),
            sampled_tokens=mean(name, lambda run: run.sampled_tokens),
            minutes=mean(name, lambda run: run.seconds) / 60,
            on_front=not beaten(name),
        )
        for name in names
    ]


def write_comparison(folder: Path, results: Sequence[Result], *, token_budget: int, trials: int) -> None:
    """Write ``comparison.json``, ``comparison.md`` and ``pareto.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = summarise(results)
    (folder / "comparison.json").write_text(
        json_text({"rows": [asdict(row) for row in rows], "runs": [asdict(result) for result in results]})
    )
    (folder / "comparison.md").write_text(as_markdown(rows, len(results) // len(rows), token_budget, trials))
    _plot(folder / "pareto.png", rows)


def as_markdown(rows: Sequence[Row], seeds: int, token_budget: int, trials: int) -> str:
    """The table for people."""
    lines = [
        "# Comparison of methods",
        "",
        f"Mean and 95 % interval (Student's t) over {seeds} seeds. A training run ends with the step in which it has"
        f" sampled {token_budget:,} tokens; before, {trials} trials a method on half of them. Front: no other method is"
        " at least as accurate with no more tokens. Tokens include those of trial answers where they are decoded at"
        " inference.",
        "",
        "| method | tuned | accuracy | tokens | saved | steps | redundant checks | useful checks | sampled | minutes |"
        " front |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        settings = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row.settings.items())
        lines.append(
            f"| {row.method} | {settings} | {_share(row.accuracy)} | {_number(row.tokens)} | {_share(row.saved)}"
            f" | {row.steps:.2f} | {_plain(row.redundant_checks)} | {_plain(row.useful_checks)}"
            f" | {row.sampled_tokens:,.0f} | {row.minutes:.1f} | {'yes' if row.on_front else ''} |"
        )
    return "\n".join([*lines, ""])


def _share(found: Interval) -> str:
    return f"{found.mean:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _number(found: Interval) -> str:
    return f"{found.mean:.1f} [{found.low:.1f}, {found.high:.1f}]"


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"


def _plot(path: Path, rows: Sequence[Row]) -> None:
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for row in rows:
        colour = "#0b7285" if row.on_front else "#7a8699"
        across = [[row.tokens.mean - row.tokens.low], [row.tokens.high - row.tokens.mean]]
        along = [[row.accuracy.mean - row.accuracy.low], [row.accuracy.high - row.accuracy.mean]]
        axis.errorbar(row.tokens.mean, row.accuracy.mean, along, across, marker="o", color=colour, capsize=2)
        axis.annotate(row.method, (row.tokens.mean, row.accuracy.mean), (5, 5), textcoords="offset points", fontsize=8)
    front = sorted((row.tokens.mean, row.accuracy.mean) for row in rows if row.on_front)
    axis.plot(*zip(*front, strict=True), color="#0b7285", linewidth=1, linestyle="--")
    axis.set(xlabel="tokens an answer", ylabel="accuracy")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
