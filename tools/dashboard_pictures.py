"""Draw the dashboards from a running Prometheus: ``python tools/dashboard_pictures.py URL docs SECONDS [WINDOW]``.

Grafana draws the same queries; this needs no Grafana. SECONDS is the length of the time range that ends now, WINDOW
stands for ``$__rate_interval``.
"""

import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from panel_queries import Panel, panels
from prometheus import Prometheus

POINTS = 160
ROW_INCHES = 0.34
WIDTH_INCHES = 13.0
SMALL = 8
HEADROOM = 1.25  # for the legend
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def main(url: str, folder: str, seconds: str, window: str = "1m") -> None:
    """Write one PNG per dashboard."""
    mpl.use("agg")
    prometheus = Prometheus(url)
    end = time.time()
    drawn: dict[str, list[Panel]] = {}
    for panel in panels(window, int(seconds)):
        drawn.setdefault(panel.dashboard, []).append(panel)
    for name, boards in drawn.items():
        rows = max(panel.place[1] + panel.place[3] for panel in boards)
        figure = Figure(figsize=(WIDTH_INCHES, rows * ROW_INCHES), layout="constrained")
        grid = figure.add_gridspec(rows, 24)
        for panel in boards:
            x, y, width, height = panel.place
            axes = figure.add_subplot(grid[y : y + height, x : x + width])
            draw(axes, panel, prometheus, end - int(seconds), end)
        figure.savefig(Path(folder) / f"dashboard-{name}.png", dpi=90)


def draw(axes: Axes, panel: Panel, prometheus: Prometheus, start: float, end: float) -> None:
    """Draw one panel over a time range (seconds since the epoch)."""
    axes.set_title(panel.title, loc="left", fontsize=SMALL + 1)
    axes.tick_params(labelsize=SMALL)
    step = (end - start) / POINTS
    found = [
        (label(query.legend, series["metric"]), *points(series["values"], end), series["metric"])
        for query in panel.queries
        for series in prometheus.query_range(query.expression, start, end, step)
    ]
    if panel.kind == "stat":
        _number(axes, panel.unit, found)
    elif panel.kind == "heatmap":
        _heat(axes, found)
    else:
        _lines(axes, panel, found)


Series = tuple[str, np.ndarray, np.ndarray, dict[str, str]]
"""Legend, seconds before the end, values, labels."""


def points(values: list[Any], end: float) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds relative to the end, and values."""
    times, texts = zip(*values, strict=True)
    return np.array(times, dtype=float) - end, np.array([float(text) for text in texts])


def label(template: str, labels: dict[str, str]) -> str:
    """A legend with its ``{{labels}}`` filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


def shown(value: float, unit: str) -> str:
    """A value in Grafana's unit, short."""
    if not math.isfinite(value):
        return "no data"
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "currencyUSD":
        return f"${value:.3g}"
    if unit == "s" and abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    scale, prefix = next(((scale, prefix) for scale, prefix in PREFIXES if abs(value) >= scale), (1.0, ""))
    return f"{value / scale:.3g}{prefix}" + {"reqps": " /s", "s": " s"}.get(unit, "")


def _number(axes: Axes, unit: str, found: list[Series]) -> None:
    axes.set_axis_off()
    last = math.nan
    for _, times, values, _ in found:
        axes.fill_between(times, values, values.min() * 0.9, alpha=0.15)
        axes.plot(times, values, linewidth=1)
        last = values[np.isfinite(values)][-1] if np.isfinite(values).any() else math.nan
    axes.text(0.5, 0.5, shown(last, unit), transform=axes.transAxes, ha="center", va="center", fontsize=20)


def _lines(axes: Axes, panel: Panel, found: list[Series]) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.set_xlabel("seconds before the end of the range", fontsize=SMALL)
    if panel.stacked:
        _stack(axes, found)
    else:
        for name, times, values, _ in found:
            axes.plot(times, values, label=name, linewidth=1.5)
    axes.set_ylim(0, axes.get_ylim()[1] * HEADROOM)
    axes.grid(alpha=0.25)
    if found:
        axes.legend(fontsize=SMALL - 1, loc="upper left", ncols=3, frameon=False)


def _stack(axes: Axes, found: list[Series]) -> None:
    present = [each for each in found if np.nansum(each[2]) > 0]
    if not present:
        return
    times = max((each[1] for each in present), key=len)
    layers = [np.interp(times, each[1], np.nan_to_num(each[2]), left=0) for each in present]
    axes.stackplot(times, layers, labels=[each[0] for each in present], alpha=0.7)


def _heat(axes: Axes, found: list[Series]) -> None:
    """Cumulative buckets become cells: each bucket less the one below it."""
    buckets = sorted(found, key=lambda each: float(each[3]["le"]))
    finite = [each for each in buckets if math.isfinite(float(each[3]["le"]))]
    if not finite:
        return
    counts = np.diff(np.array([each[2] for each in finite]), axis=0, prepend=0).clip(min=0)
    used = [row for row in range(len(finite)) if counts[row].any()]
    first, last = max(used[0] - 1, 0), min(used[-1] + 2, len(finite))
    axes.pcolormesh(finite[0][1], np.arange(last - first), counts[first:last], cmap="Blues", shading="nearest")
    axes.set_yticks(np.arange(last - first), [f"≤ {float(each[3]['le']):g}" for each in finite[first:last]])
    axes.set_xlabel("seconds before the end of the range", fontsize=SMALL)


if __name__ == "__main__":
    main(*sys.argv[1:])
