"""The committed dashboards as plain PromQL: every panel's queries with Grafana's variables filled in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"


@dataclass(frozen=True)
class Query:
    """One query of a panel: PromQL, and the template of its legend."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel: where it stands in its dashboard, how it is drawn, and what it asks.

    Attributes:
        kind: ``stat``, ``timeseries`` or ``heatmap``.
        unit: Grafana's id of the unit.
        place: column, row, width and height on Grafana's grid of 24 columns.
        stacked: whether its curves are parts of a whole.
    """

    dashboard: str
    title: str
    kind: str
    unit: str
    place: tuple[int, int, int, int]
    stacked: bool
    queries: tuple[Query, ...]


def panels(window: str, seconds: int) -> Iterator[Panel]:
    """Every panel of every dashboard, with all models and instances selected and the default price.

    Args:
        window: PromQL duration for ``$__rate_interval``, at least four scrapes.
        seconds: length of the time range shown.
    """
    values = {
        "$__rate_interval": window,
        "$__range_s": str(seconds),
        "$__range": f"{seconds}s",
        "$model": ".*",
        "$instance": ".*",
    }
    for path in sorted(FOLDER.glob("*.json")):
        dashboard = json.loads(path.read_text())
        boxes = {f"${each['name']}": each["query"] for each in _variables(dashboard) if each["type"] == "textbox"}
        for panel in dashboard["panels"]:
            yield _panel(path.stem, panel, values | boxes)


def _variables(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = dashboard["templating"]["list"]
    return variables


def _panel(dashboard: str, panel: dict[str, Any], values: dict[str, str]) -> Panel:
    place = panel["gridPos"]
    defaults = panel["fieldConfig"]["defaults"]
    return Panel(
        dashboard,
        panel["title"],
        panel["type"],
        defaults["unit"],
        (place["x"], place["y"], place["w"], place["h"]),
        defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        tuple(Query(_filled(each["expr"], values), each["legendFormat"]) for each in panel["targets"]),
    )


def _filled(expression: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression
