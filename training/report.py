"""What an evaluation found: JSON for machines, Markdown for readers and plots for both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from training.evaluation import (
    Adaptivity,
    ChainChecks,
    Measured,
    RepairShares,
    adaptivity,
    chain_checks,
    compare,
    repair_shares,
)
from training.figures import save_figure
from training.json_text import json_text
from training.problems import FAMILIES, GUESS_AND_CHECK
from training.scores import Against, Interval, by_difficulty, shares
from training.step_log import read_log
from training.trials import Trial, TrialSummary, summarise_trials

BASE_COLOUR, TUNED_COLOUR = "#7a8699", "#0b7285"


@dataclass(frozen=True, slots=True)
class Pair:
    """Base and tuned, measured on the same questions with the same sampling."""

    label: str
    base: Measured
    tuned: Measured

    @property
    def comparison(self) -> Against:
        """Paired differences with their intervals."""
        return compare(self.base, self.tuned)


TrialTable = Mapping[str, tuple[TrialSummary, TrialSummary]]
"""Trial answers per group of families: those not yet justified, and those that are."""


def trial_table(trials: Sequence[Trial], threshold: float) -> TrialTable:
    """Summaries for chains and for guess and check."""
    groups = {"chains": ("chain",), "guess and check": GUESS_AND_CHECK}
    return {
        name: (
            summarise_trials([t for t in trials if t.family in families and not t.justified], threshold),
            summarise_trials([t for t in trials if t.family in families and t.justified], threshold),
        )
        for name, families in groups.items()
    }


def write_report(
    folder: Path, pairs: Sequence[Pair], trials: Sequence[Trial], *, threshold: float, log: Path | None = None
) -> None:
    """Write ``report.json``, ``report.md`` and the plots to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    table = trial_table(trials, threshold) if trials else {}
    (folder / "report.json").write_text(json_text(_as_json(pairs, table)))
    (folder / "report.md").write_text(_as_markdown(pairs, table, threshold))
    _plot_exits(folder / "exits.png", pairs[0])
    _plot_tokens(folder / "tokens.png", pairs[0])
    _plot_difficulty(folder / "difficulty.png", pairs[0])
    if trials:
        _plot_trials(folder / "trial_answers.png", trials, threshold)
    if log is not None and (lines := read_log(log)):
        plot_training(folder / "training.png", {pairs[0].tuned.name: lines})


def _as_json(pairs: Sequence[Pair], table: TrialTable) -> dict[str, object]:
    return {
        "pairs": {
            pair.label: {
                "questions": len(pair.base.outcomes),
                "base": _summary(pair.base),
                "tuned": _summary(pair.tuned),
                "comparison": asdict(pair.comparison),
            }
            for pair in pairs
        },
        "trial_answers": {
            name: {"unjustified": asdict(before), "justified": asdict(after)} for name, (before, after) in table.items()
        },
    }


def _summary(measured: Measured) -> dict[str, object]:
    return {
        "accuracy": float(measured.correct.mean()),
        "tokens": float(measured.tokens.mean()),
        "steps": float(measured.steps.mean()),
        "exits": shares(measured.exits),
        "adaptivity": asdict(adaptivity(measured)),
        "chain_checks": {name: asdict(found) for name, found in _checks(measured).items()},
        "repairs": asdict(repair_shares(measured)),
        "families": {
            family: {
                "accuracy": float(measured.correct[chosen].mean()),
                "tokens": float(measured.tokens[chosen].mean()),
                "steps": float(measured.steps[chosen].mean()),
            }
            for family in FAMILIES
            if (chosen := np.array([o.problem.family == family for o in measured.outcomes])).any()
        },
        "difficulty": {name: asdict(level) for name, level in by_difficulty(measured, measured.difficulty).items()},
    }


def _as_markdown(pairs: Sequence[Pair], table: TrialTable, threshold: float) -> str:
    each = [(pair.label, measured) for pair in pairs for measured in (pair.base, pair.tuned)]
    with_trials = any(outcome.probe_tokens for _, measured in each for outcome in measured.outcomes)
    parts = [
        "# Evaluation",
        _table(
            "| sampling | checkpoint | accuracy | tokens | steps | thinking ended by |",
            [
                f"| {label} | {m.name} | {m.correct.mean():.1%} | {m.tokens.mean():.1f} | {m.steps.mean():.2f}"
                f" | {listed(shares(m.exits))} |"
                for label, m in each
            ],
        ),
        *["Tokens include those of trial answers that are decoded at inference."] * with_trials,
        "Tuned against base, with 95 % intervals of a paired bootstrap over questions:",
        _table(
            "| sampling | tokens saved | accuracy difference (points) | compression rate | efficiency score |",
            [_comparison_row(pair.label, pair.comparison) for pair in pairs],
        ),
        f"By difficulty ({pairs[0].label}, base / tuned):",
        _table("| questions | number | accuracy | tokens | steps |", _difficulty_rows(pairs[0])),
        "Does the exit follow the question? Exit against needed step on guess and check:",
        _table(
            "| sampling | checkpoint | rank correlation | before / at / after |",
            [_adaptivity_row(label, m.name, adaptivity(m)) for label, m in each],
        ),
        "Chains that go on after the first pass:",
        _table(
            "| sampling | checkpoint | chains | after a right one | after a wrong one |",
            [_checks_row(label, m.name, name, found) for label, m in each for name, found in _checks(m).items()],
        ),
        _table(
            "| sampling | checkpoint | chains rescued by later steps | spoiled by them | checked without a marker |",
            [_repair_row(label, m.name, repair_shares(m)) for label, m in each],
        ),
    ]
    if table:
        parts += [
            f"Trial answers of the base after every step (accepted: confidence above {threshold}):",
            _table(
                "| problems | answer justified | trials | confidence | accuracy | accepted | accuracy of accepted |",
                [
                    _trial_row(name, justified, summary)
                    for name, summaries in table.items()
                    for justified, summary in zip(("not yet", "yes"), summaries, strict=True)
                ],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _table(head: str, rows: Sequence[str]) -> str:
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *rows])


def _comparison_row(label: str, found: Against) -> str:
    rate, score = found.compression_rate, found.efficiency_score
    return (
        f"| {label} | {_percent(found.savings_ratio)} | {_points(found.accuracy_difference)} | {rate.mean:.3f}"
        f" | {score.mean:.3f} [{score.low:.3f}, {score.high:.3f}] |"
    )


def _difficulty_rows(pair: Pair) -> list[str]:
    base, tuned = (by_difficulty(measured, measured.difficulty) for measured in (pair.base, pair.tuned))
    return [
        f"| {name} | {one.questions} | {one.accuracy:.1%} / {other.accuracy:.1%}"
        f" | {one.tokens:.1f} / {other.tokens:.1f} | {one.steps:.2f} / {other.steps:.2f} |"
        for (name, one), other in zip(base.items(), tuned.values(), strict=True)
    ]


def _trial_row(problems: str, justified: str, found: TrialSummary) -> str:
    return (
        f"| {problems} | {justified} | {found.count} | {_number(found.confidence)} | {_number(found.accuracy)}"
        f" | {_number(found.accepted, '.1%')} | {_number(found.accepted_accuracy)} |"
    )


def listed(found: Mapping[str, float]) -> str:
    """Shares in one cell."""
    return ", ".join(f"{name} {share:.1%}" for name, share in found.items())


def _number(value: float, spec: str = ".3f") -> str:
    return "-" if math.isnan(value) else format(value, spec)


def _percent(interval: Interval) -> str:
    return f"{interval.mean:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _points(interval: Interval) -> str:
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _checks(measured: Measured) -> dict[str, ChainChecks]:
    return {
        "all": chain_checks(measured),
        "read whole by the first pass": chain_checks(measured, needed=1),
        "longer than that": chain_checks(measured, needed=2),
    }


def _adaptivity_row(label: str, name: str, found: Adaptivity) -> str:
    around = " / ".join(_number(share, ".1%") for share in (found.before, found.at, found.after))
    return f"| {label} | {name} | {_number(found.rank_correlation)} | {around} |"


def _checks_row(label: str, name: str, chains: str, found: ChainChecks) -> str:
    right, wrong = _share(found.after_right, found.right), _share(found.after_wrong, found.wrong)
    return f"| {label} | {name} | {chains} | {right} | {wrong} |"


def _repair_row(label: str, name: str, found: RepairShares) -> str:
    cells = (_number(share, ".1%") for share in (found.rescued, found.spoiled, found.hidden))
    return f"| {label} | {name} | {' | '.join(cells)} |"


def _share(value: float, count: int) -> str:
    return f"{value:.1%} of {count}" if count else "-"


def exit_grid(measured: Measured) -> np.ndarray:
    """Shares of the guess-and-check questions that ended at each step, by the step they need.

    Columns are needed steps from 1 on. Rows are exit steps from 0 (no step) to twice the most that is needed, the last
    one with all later ones.
    """
    searches = [outcome for outcome in measured.outcomes if outcome.problem.family in GUESS_AND_CHECK]
    most = max((outcome.problem.needed for outcome in searches), default=1)
    grid = np.zeros((2 * most + 1, most))
    for outcome in searches:
        grid[min(outcome.exit_step, 2 * most), outcome.problem.needed - 1] += 1
    return np.asarray(grid / np.maximum(grid.sum(axis=0), 1))


def _plot_exits(path: Path, pair: Pair) -> None:
    """Exit step against needed step, base and tuned."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, measured in zip(axes, (pair.base, pair.tuned), strict=True):
        shown = exit_grid(measured)
        rows, columns = shown.shape
        extent = (0.5, columns + 0.5, -0.5, rows - 0.5)
        image = axis.imshow(shown, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, extent=extent)
        axis.plot(extent[:2], extent[:2], color="white", linewidth=1, linestyle="--")
        axis.set(title=f"{measured.name} ({pair.label})", xlabel="needed steps")
    axes[0].set_ylabel(f"exit step ({rows - 1}: or later)")
    figure.colorbar(image, ax=axes, label="share of questions")
    save_figure(figure, path)


def _plot_tokens(path: Path, pair: Pair) -> None:
    figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
    bins = np.linspace(0, max(pair.base.tokens.max(), pair.tuned.tokens.max()), 50).tolist()
    for measured, colour in ((pair.base, BASE_COLOUR), (pair.tuned, TUNED_COLOUR)):
        label = f"{measured.name}: mean {measured.tokens.mean():.0f}"
        axis.hist(measured.tokens, bins=bins, alpha=0.6, color=colour, label=label)
    axis.set(xlabel="tokens an answer", ylabel="questions")
    axis.legend(frameon=False)
    save_figure(figure, path)


def _plot_difficulty(path: Path, pair: Pair) -> None:
    """Tokens against what the questions ask for."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for measured, colour in ((pair.base, BASE_COLOUR), (pair.tuned, TUNED_COLOUR)):
        levels = by_difficulty(measured, measured.difficulty)
        axis.plot(list(levels), [level.tokens for level in levels.values()], "o-", color=colour, label=measured.name)
    axis.set(ylabel="tokens an answer", ylim=(0, None))
    plt.setp(axis.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    axis.legend(frameon=False)
    save_figure(figure, path)


def _plot_trials(path: Path, trials: Sequence[Trial], threshold: float) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for justified, colour, label in ((False, "#c92a2a", "not yet justified"), (True, TUNED_COLOUR, "justified")):
        chosen = [trial for trial in trials if trial.justified is justified]
        confidences = np.array([trial.confidence for trial in chosen])
        axes[0].hist(confidences, bins=np.linspace(0, 1, 41).tolist(), alpha=0.6, color=colour, label=label)
    axes[0].axvline(threshold, color="black", linewidth=1, linestyle="--")
    axes[0].set(xlabel="confidence of the trial answer", ylabel="trials")
    axes[0].legend(frameon=False)
    _reliability(axes[1], trials)
    save_figure(figure, path)


def _reliability(axis: Axes, trials: Sequence[Trial]) -> None:
    confidences = np.array([trial.confidence for trial in trials])
    correct = np.array([float(trial.correct) for trial in trials])
    edges = np.quantile(confidences, np.linspace(0, 1, 11))
    bins = np.clip(np.searchsorted(edges, confidences, side="right") - 1, 0, 9)
    points = [(confidences[bins == b].mean(), correct[bins == b].mean()) for b in range(10) if (bins == b).any()]
    axis.plot(*zip(*points, strict=True), marker="o", color=TUNED_COLOUR)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.02))


def plot_training(path: Path, logs: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Accuracy, tokens and steps of each run's rollouts; the loss where a training had none."""
    labels = {"accuracy": "accuracy (rollouts)", "completion_tokens": "tokens (rollouts)", "steps": "steps (rollouts)"}
    shown = {key: label for key, label in labels.items() if any(key in lines[0] for lines in logs.values())}
    shown |= {} if all("accuracy" in lines[0] for lines in logs.values()) else {"loss": "loss"}
    figure, axes = plt.subplots(1, len(shown), figsize=(11, 3.2), layout="constrained", squeeze=False)
    for axis, (key, label) in zip(axes[0], shown.items(), strict=True):
        for name, lines in logs.items():
            if key in lines[0]:
                axis.plot([line["step"] for line in lines], [line[key] for line in lines], label=name)
        axis.set(xlabel="training step", ylabel=label)
        axis.legend(frameon=False)
    save_figure(figure, path)
