"""A comparison as a table, as JSON and Markdown, and as a picture."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal

from rich.table import Table
from rich.text import Text

from clients.comparison import Comparison, Measured, Side

SHOWN: Final = 20
"""Questions that the table on the terminal shows; the files hold all."""

HEADINGS: Final = ("question", "tokens, base", "tokens, tuned", "saved", "steps", "exit, tuned", "right")


def table(comparison: Comparison) -> Table:
    """The pairs and their means, for the terminal."""
    shown = Table(title=Text(f"{comparison.base} and {comparison.tuned}"), show_footer=True, expand=True)
    means = _means(comparison)
    label = "mean" if len(comparison.pairs) <= SHOWN else f"mean of all {len(comparison.pairs)}"
    shown.add_column(HEADINGS[0], footer=label, no_wrap=True, overflow="ellipsis", ratio=1)
    for heading, footer in zip(HEADINGS[1:], means, strict=True):
        narrow, means_below = heading.replace(", ", ",\n"), footer.replace(" > ", " >\n")
        shown.add_column(narrow, footer=means_below, justify="right")
    for row in _rows(comparison)[:SHOWN]:
        shown.add_row(*map(Text, row))
    return shown


def write(comparison: Comparison, folder: Path) -> None:
    """Write ``compare.json``, ``compare.md`` and ``compare.svg`` into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(as_json(comparison), indent=2) + "\n")
    (folder / "compare.md").write_text(markdown(comparison))
    plot(comparison, folder / "compare.svg")


def as_json(comparison: Comparison) -> dict[str, object]:
    """Everything that was measured, and the two estimates."""
    gain = comparison.accuracy_gain()
    return {
        **asdict(comparison),
        "savings_ratio": asdict(comparison.savings()),
        "accuracy_gain": asdict(gain) if gain else None,
    }


def markdown(comparison: Comparison) -> str:
    """The verdict, the picture and all pairs."""
    lines = [f"# {comparison.base} and {comparison.tuned}", "", comparison.verdict(), "", "![Tokens](compare.svg)", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---" + "|--:" * (len(HEADINGS) - 1) + "|"]
    rows = [*_rows(comparison), ["**mean**", *_means(comparison)]]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    if comparison.failures:
        lines += ["", "Failed:", "", *(_line(f"- {failed.question}: {failed.error}") for failed in comparison.failures)]
    return "\n".join(lines) + "\n"


def plot(comparison: Comparison, path: Path) -> None:
    """Tokens of the base model against the tuned one's, a point for each question."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "stepgrpo"
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    base, tuned = ([getattr(pair, side).tokens for pair in comparison.pairs] for side in ("base", "tuned"))
    top = 1.05 * max(*base, *tuned)
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, linestyle="--", label="equal")
    axes.scatter(base, tuned, s=14, alpha=0.6, label="one question")
    axes.set(
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
        xlabel=f"tokens, {comparison.base}",
        ylabel=f"tokens, {comparison.tuned}",
    )
    saved = comparison.savings()
    axes.set_title(f"{saved.value:.1%} saved (95 % interval {saved.low:.1%} to {saved.high:.1%})", fontsize=11)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _rows(comparison: Comparison) -> list[list[str]]:
    return [
        [
            _line(pair.question),
            str(pair.base.tokens),
            str(pair.tuned.tokens),
            f"{1 - pair.tuned.tokens / pair.base.tokens:.0%}",
            _two(pair.base.steps, pair.tuned.steps),
            pair.tuned.exit_reason or "?",
            _two(_mark(pair.base), _mark(pair.tuned)),
        ]
        for pair in comparison.pairs
    ]


def _line(text: str) -> str:
    return " ".join(text.split())


def _means(comparison: Comparison) -> list[str]:
    def mean(side: Side, what: Literal["tokens", "steps", "correct"], style: str) -> str | None:
        value = comparison.mean(side, what)
        return None if value is None else format(value, style)

    return [
        mean("base", "tokens", ".1f") or "",
        mean("tuned", "tokens", ".1f") or "",
        f"{comparison.savings().value:.1%}",
        _two(mean("base", "steps", ".2f"), mean("tuned", "steps", ".2f")),
        "",
        _two(mean("base", "correct", ".1%"), mean("tuned", "correct", ".1%")),
    ]


def _mark(measured: Measured) -> str | None:
    return None if measured.correct is None else "yes" if measured.correct else "no"


def _two(base: object, tuned: object) -> str:
    if base is None and tuned is None:
        return ""
    return " > ".join("?" if value is None else str(value) for value in (base, tuned))
