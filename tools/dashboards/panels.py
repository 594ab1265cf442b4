"""What all dashboards share: data source, variables, and three kinds of panel."""

from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="prometheus")
SELECTED = 'model_name=~"$model", instance=~"$instance"'
"""Label matcher for every family with a ``model_name``: what the viewer selected."""

Panel = timeseries.Panel | stat.Panel | heatmap.Panel
HEIGHT = 8
TAG = "stepgrpo"


def rate(family: str, *by: str, where: str = "") -> str:
    """Rate of a counter, added up over the selected replicas; per value of the labels ``by``."""
    matchers = f"{SELECTED}, {where}" if where else SELECTED
    grouping = f"sum by ({', '.join(by)})" if by else "sum"
    return f"{grouping} (rate({family}{{{matchers}}}[$__rate_interval]))"


def mean(histogram: str, *by: str) -> str:
    """Mean of a histogram's observations."""
    return f"{rate(f'{histogram}_sum', *by)} / {rate(f'{histogram}_count', *by)}"


def quantile(q: float, histogram: str, *by: str) -> str:
    """A quantile of a histogram's observations, interpolated within its bucket."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', 'le', *by)})"


def quantiles(histogram: str) -> list[tuple[str, str]]:
    """Median, 90th and 99th percentile, with their legends."""
    return [(quantile(q, histogram), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)]


def lines(
    title: str, description: str, unit: str, queries: list[tuple[str, str]], *, width: int = 12, stacked: bool = False
) -> Panel:
    """Curves over time.

    Args:
        title: what is shown.
        description: how to read it.
        unit: Grafana's id of the unit.
        queries: PromQL and legend of each curve or group of curves.
        width: of 24 columns.
        stacked: whether the curves are parts of a whole.
    """
    panel = timeseries.Panel().title(title).description(description).unit(unit).min(0).height(HEIGHT).span(width)
    panel = panel.datasource(SOURCE).line_width(2).fill_opacity(40 if stacked else 8)
    panel = panel.show_points(common_model.VisibilityMode.NEVER)
    panel = panel.tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL))
    for ref, (query, legend) in zip(ascii_uppercase, queries, strict=False):
        panel = panel.with_target(_target(query, legend, ref))
    return panel


def number(title: str, description: str, unit: str, query: str, *, width: int = 6, decimals: int = 1) -> Panel:
    """One figure, with its recent course."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .decimals(decimals)
        .height(HEIGHT // 2)
        .span(width)
        .datasource(SOURCE)
        .graph_mode(common_model.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(query, title))
    )


def heat(title: str, description: str, unit: str, histogram: str, *, width: int = 12) -> Panel:
    """How a histogram's observations are spread, over time."""
    query = f"sum by (le) (increase({histogram}_bucket{{{SELECTED}}}[$__rate_interval]))"
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .height(HEIGHT)
        .span(width)
        .datasource(SOURCE)
        .color(heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .with_target(_target(query, "{{le}}").format(PromQueryFormat.HEATMAP))
    )


def board(uid: str, title: str, description: str, panels: list[Panel]) -> dashboard.Dashboard:
    """A dashboard with the variables for model and instance, links to the others, and the alerts as marks."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(_labels("model", "Model", "label_values(stepgrpo_completion_tokens_count, model_name)"))
        .with_variable(_labels("instance", "Instance", 'label_values(up{job="stepgrpo"}, instance)'))
        .link(
            dashboard.DashboardLink("Dashboards")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Alerts")
            .datasource(SOURCE)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertstate="firing", alertname=~"Stepgrpo.*"}')
        )
    )
    for identifier, panel in enumerate(panels, start=1):
        built = built.with_panel(panel.id(identifier))
    return built


def text_variable(name: str, label: str, description: str, default: str) -> dashboard.TextBoxVariable:
    """A number that the viewer sets."""
    option = model.VariableOption(text=default, value=default, selected=True)
    return dashboard.TextBoxVariable(name).label(label).description(description).default_value(default).current(option)


def _labels(name: str, label: str, query: str) -> dashboard.QueryVariable:
    everything = model.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
        .current(everything)
    )


def _target(query: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(SOURCE).expr(query).legend_format(legend).ref_id(ref)
