"""The tables of docs/results.md from the reports of several runs of the quickstart.

Each run is one whole ``stepgrpo train quickstart --seed N --output FOLDER``, measured on the same held-out questions by
``stepgrpo eval quickstart --split test --output FOLDER``::

    python tools/seeds_table.py runs/seed0 runs/seed1 runs/seed2
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPORT = Path("report", "test", "report.json")
ACCURACY = (
    "| sampling | run | base: accuracy | tokens | tuned: accuracy | tokens | tokens saved"
    " | accuracy difference (points) |",
    "|---|---|---|---|---|---|---|---|",
)
EXITS = (
    "| sampling | run | checkpoint | rank correlation | before / at / after | checks after a right first pass"
    " | after a wrong one | checked without a marker |",
    "|---|---|---|---|---|---|---|---|",
)

Report = Mapping[str, Any]
"""What ``report.json`` holds."""


def tables(reports: Mapping[str, Report]) -> str:
    """Both tables in Markdown, a row for each way of sampling and each run; ``reports`` by the run's name."""
    accuracy, exits = [*ACCURACY], [*EXITS]
    for label in next(iter(reports.values()))["pairs"]:
        for name, report in reports.items():
            accuracy.append(_accuracy_row(label, name, report["pairs"][label]))
            exits += _exit_rows(label, name, report["pairs"][label])
    return "\n".join([*accuracy, "", *exits])


def _accuracy_row(label: str, name: str, pair: Report) -> str:
    sides = " | ".join(f"{pair[side]['accuracy']:.1%} | {pair[side]['tokens']:.1f}" for side in ("base", "tuned"))
    saved, gain = (pair["comparison"][key] for key in ("savings_ratio", "accuracy_difference"))
    saving = f"{saved['mean']:.1%} [{100 * saved['low']:.1f}, {100 * saved['high']:.1f}]"
    points = f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
    return f"| {label} | {name} | {sides} | {saving} | {points} |"


def _exit_rows(label: str, name: str, pair: Report) -> Iterator[str]:
    for side in ("base", "tuned"):
        found, checks = pair[side]["adaptivity"], pair[side]["chain_checks"]["all"]
        correlation = "-" if found["rank_correlation"] is None else f"{found['rank_correlation']:.3f}"
        shares = " / ".join(_percent(found[where]) for where in ("before", "at", "after"))
        after = " | ".join(f"{_percent(checks[f'after_{kind}'])} of {checks[kind]}" for kind in ("right", "wrong"))
        hidden = _percent(pair[side]["repairs"]["hidden"])
        yield f"| {label} | {name} | {side} | {correlation} | {shares} | {after} | {hidden} |"


def _percent(share: float | None) -> str:
    """A share; a dash where there was nothing to count."""
    return "-" if share is None else f"{share:.1%}"


def main(folders: Sequence[str]) -> None:
    """Print the tables of the runs in ``folders``."""
    print(tables({folder.name: json.loads((folder / REPORT).read_text()) for folder in map(Path, folders)}))


if __name__ == "__main__":
    main(sys.argv[1:])
