"""Grafana's variables are filled in, so that what is left is PromQL."""

import panel_queries

PANELS = list(panel_queries.panels(window="20s", seconds=300))


def test_no_variable_is_left():
    for panel in PANELS:
        for query in panel.queries:
            assert "$" not in query.expression, (panel.title, query.expression)


def test_the_window_the_range_and_the_price_are_what_was_asked_for():
    expressions = {panel.title: [query.expression for query in panel.queries] for panel in PANELS}
    assert all("[20s]" in each for each in expressions["Mean tokens per answer"])
    assert "[300s]" in expressions["Tokens saved"][0]
    assert "0.60 / 1e6" in expressions["Cost saved"][0]
    assert "* 300 *" in expressions["GPU-seconds saved"][0]
    assert "[300s:]" in expressions["GPU-seconds saved"][0]


def test_every_kind_of_panel_can_be_drawn():
    assert {panel.kind for panel in PANELS} == {"stat", "timeseries", "heatmap"}
    assert {panel.title for panel in PANELS if panel.stacked} >= {"Thinking and answer", "Exits by reason"}
