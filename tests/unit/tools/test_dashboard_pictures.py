import math

import dashboard_pictures
import pytest
from matplotlib.figure import Figure
from panel_queries import Panel, Query


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.503, "percentunit", "50.3%"),
        (1234.5, "short", "1.23k"),
        (2.5e6, "short", "2.5M"),
        (0.0021, "s", "2.1 ms"),
        (12.0, "s", "12 s"),
        (3.0, "reqps", "3 /s"),
        (0.00042, "currencyUSD", "$0.00042"),
        (math.nan, "short", "no data"),
    ],
)
def test_a_value_is_shown_in_its_unit(value, unit, text):
    assert dashboard_pictures.shown(value, unit) == text


def test_a_legend_takes_the_labels_of_its_series():
    assert dashboard_pictures.label("{{model_name}}: {{le}}", {"model_name": "tuned", "le": "16"}) == "tuned: 16"


class Recorded:
    """Answers every query with the same series."""

    def __init__(self, *series):
        self.series = series

    def query_range(self, *_):
        return [{"metric": labels, "values": list(enumerate(values))} for labels, values in self.series]


def axes(kind, *series, stacked=False):
    drawn = Figure().add_subplot()
    panel = Panel("tokens", "title", kind, "short", (0, 0, 12, 8), stacked, (Query("up", "{{le}}{{reason}}"),))
    dashboard_pictures.draw(drawn, panel, Recorded(*series), 0, 3)
    return drawn


def test_curves_have_their_legends_and_start_at_zero():
    drawn = axes("timeseries", ({"reason": "model"}, "123"), ({"reason": "length"}, "000"))
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["model", "length"]
    assert drawn.get_ylim()[0] == 0


def test_a_stack_leaves_out_what_is_always_zero():
    drawn = axes("timeseries", ({"reason": "model"}, "123"), ({"reason": "length"}, "000"), stacked=True)
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["model"]


def test_the_cells_of_a_heat_map_are_the_differences_of_the_cumulative_buckets():
    drawn = axes("heatmap", ({"le": "16"}, "123"), ({"le": "32"}, "468"), ({"le": "+Inf"}, "468"))
    (mesh,) = drawn.collections
    assert mesh.get_array().reshape(2, 3).tolist() == [[1, 2, 3], [3, 4, 5]]
    assert [tick.get_text() for tick in drawn.get_yticklabels()] == ["≤ 16", "≤ 32"]


def test_a_figure_is_the_last_value():
    assert [text.get_text() for text in axes("stat", ({}, "129")).texts] == ["9"]


def test_a_panel_without_data_stays_empty():
    for kind in ("stat", "timeseries", "heatmap"):
        assert not axes(kind).lines
