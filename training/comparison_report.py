"""The tables and plots of a comparison of methods: mean and interval over seeds, and who is on the Pareto front."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import matplotlib.pyplot as plt
from scipy.stats import t

from training.comparison import BASE, Result
from training.figures import save_figure
from training.json_text import json_text
from training.scores import Interval, pareto_front

FRONT, BEHIND = "#0b7285", "#7a8699"


@dataclass(frozen=True, slots=True)
class Row:
    """One method over its seeds.

    ``tokens`` include those of trial answers where they are decoded at inference; ``saved`` is the share of them
    against the vanilla base's mean. Checks are shares of the chains whose first pass was right (redundant) or wrong
    (useful); NaN where there was none.
    """

    method: str
    settings: dict[str, object]
    accuracy: Interval
    tokens: Interval
    saved: Interval
    steps: Interval
    redundant_checks: Interval
    useful_checks: Interval
    minutes: Interval
    sampled_tokens: float
    on_front: bool


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval of Student's t; of a single value the interval is the value, of none all is NaN."""
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, mean, mean)
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def summarise(results: Sequence[Result]) -> list[Row]:
    """A row per method, in order of appearance."""
    names = list(dict.fromkeys(result.method for result in results))
    runs = {name: [result for result in results if result.method == name] for name in names}

    def over_seeds(name: str, value: Callable[[Result], float]) -> Interval:
        values = [value(run) for run in runs[name]]
        return interval([value for value in values if not math.isnan(value)])

    accuracy = {name: over_seeds(name, lambda run: run.accuracy) for name in names}
    tokens = {name: over_seeds(name, lambda run: run.decoded_tokens) for name in names}
    vanilla = tokens[BASE].mean
    front = pareto_front([(accuracy[name].mean, tokens[name].mean) for name in names])
    return [
        Row(
            method=name,
            settings=dict(runs[name][0].settings),
            accuracy=accuracy[name],
            tokens=tokens[name],
            saved=over_seeds(name, lambda run: 1 - run.decoded_tokens / vanilla),
            steps=over_seeds(name, lambda run: run.steps),
            redundant_checks=over_seeds(name, lambda run: run.redundant_checks),
            useful_checks=over_seeds(name, lambda run: run.useful_checks),
            minutes=over_seeds(name, lambda run: run.seconds / 60),
            sampled_tokens=over_seeds(name, lambda run: run.sampled_tokens).mean,
            on_front=on_front,
        )
        for name, on_front in zip(names, front, strict=True)
    ]


def write_comparison(
    folder: Path, tuning: Sequence[Result], results: Sequence[Result], *, token_budget: int, trial_budget: int
) -> None:
    """Write ``comparison.json``, ``comparison.md``, ``pareto.png`` and ``checks.png``.

    Args:
        folder: where to.
        tuning: the trials.
        results: the final runs, each method with the settings of one of its trials.
        token_budget: sampled tokens of a final run.
        trial_budget: likewise of a trial.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = summarise(results)
    (folder / "comparison.json").write_text(
        json_text(
            {
                "rows": [asdict(row) for row in rows],
                "runs": [asdict(result) for result in results],
                "tuning": [asdict(result) for result in tuning],
            }
        )
    )
    text = "\n".join(
        [*_comparison(rows, len(results) // len(rows), token_budget), *_tuning(rows, tuning, trial_budget), ""]
    )
    (folder / "comparison.md").write_text(text)
    _plot_front(folder / "pareto.png", rows)
    _plot_checks(folder / "checks.png", rows)


def _comparison(rows: Sequence[Row], seeds: int, token_budget: int) -> list[str]:
    lines = [
        "# Comparison of methods",
        "",
        f"Mean and 95 % interval (Student's t) over {seeds} seeds. A training run ends with the step in which it has"
        f" sampled {token_budget:,} tokens. Tokens include those of trial answers where they are decoded at inference."
        " Redundant checks: share of the chains that go on after a right first pass; useful ones: after a wrong one."
        " Minutes are those of training, on one thread. Front: no other method is at least as accurate with no more"
        " tokens, by the means. All runs start from one base and are measured on the same questions, so the intervals"
        " cover neither another base nor other questions.",
        "",
        "| method | accuracy | tokens | saved | steps | redundant checks | useful checks | tokens sampled in training |"
        " minutes | front |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.method,
            _share(row.accuracy),
            _number(row.tokens, 1),
            _share(row.saved),
            _number(row.steps, 2),
            _share(row.redundant_checks),
            _share(row.useful_checks),
            f"{row.sampled_tokens:,.0f}",
            _number(row.minutes, 1),
            "yes" if row.on_front else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _tuning(rows: Sequence[Row], tuning: Sequence[Result], trial_budget: int) -> list[str]:
    chosen = {row.method: row.settings for row in rows}
    lines = [
        "",
        "## Trials",
        "",
        f"On {trial_budget:,} tokens and half the questions, with a seed and questions of their own. Chosen: the fewest"
        " tokens among those at most a point less accurate than the best.",
        "",
        "| method | tried | accuracy | tokens | chosen |",
        "|---|---|---|---|---|",
    ]
    for trial in tuning:
        settings = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in trial.settings.items())
        mark = "yes" if trial.settings == chosen.get(trial.method) else ""
        lines.append(f"| {trial.method} | {settings} | {trial.accuracy:.1%} | {trial.decoded_tokens:.1f} | {mark} |")
    return lines


def _share(found: Interval) -> str:
    return "-" if math.isnan(found.mean) else f"{found.mean:.1%}{_half(found, 100, 1)}"


def _number(found: Interval, digits: int) -> str:
    return f"{found.mean:.{digits}f}{_half(found, 1, digits)}"


def _half(found: Interval, scale: int, digits: int) -> str:
    half = scale * (found.high - found.mean)
    return f" ± {half:.{digits}f}" if half else ""


def _plot_front(path: Path, rows: Sequence[Row]) -> None:
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for row in rows:
        colour = FRONT if row.on_front else BEHIND
        across, along = _error(row.tokens), _error(row.accuracy)
        axis.errorbar(row.tokens.mean, row.accuracy.mean, along, across, marker="o", color=colour, capsize=2)
        axis.annotate(row.method, (row.tokens.mean, row.accuracy.mean), (5, 5), textcoords="offset points", fontsize=8)
    front = sorted((row.tokens.mean, row.accuracy.mean) for row in rows if row.on_front)
    axis.plot(*zip(*front, strict=True), color=FRONT, linewidth=1, linestyle="--")
    axis.set(xlabel="tokens an answer", ylabel="accuracy")
    save_figure(figure, path)


def _plot_checks(path: Path, rows: Sequence[Row]) -> None:
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    places = range(len(rows))
    for shift, colour, label, found in (
        (-0.2, FRONT, "after a wrong first pass (useful)", [row.useful_checks for row in rows]),
        (0.2, BEHIND, "after a right first pass (redundant)", [row.redundant_checks for row in rows]),
    ):
        axis.barh(
            [place + shift for place in places],
            [checks.mean for checks in found],
            0.38,
            xerr=[[_error(checks)[side][0] for checks in found] for side in (0, 1)],
            color=colour,
            label=label,
            capsize=2,
        )
    axis.set(
        yticks=list(places), yticklabels=[row.method for row in rows], xlim=(0, 1), xlabel="chains that are checked"
    )
    axis.invert_yaxis()
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save_figure(figure, path)


def _error(found: Interval) -> list[list[float]]:
    return [[found.mean - found.low], [found.high - found.mean]]
