import pytest

from training.bench_figures import Figure, figure_table


@pytest.mark.parametrize(
    ("side", "bound", "kept"), [("at least", 1.5, True), ("at least", 2.1, False), ("at most", 2.0, True)]
)
def test_the_median_of_the_rounds_is_held_against_the_bound(side, bound, kept):
    assert Figure("ratio", (1.0, 2.0, 9.0), side, bound).kept is kept


def test_the_table_shows_spread_bound_and_verdict():
    lines = figure_table([Figure("speed", (8.0, 9.0, 10.0), "at least", 8), Figure("share", (0.2,), "at most", 0.15)])
    assert lines[2:] == [
        "| speed | 9 | 8 to 10 | at least 8 | within |",
        "| share | 0.2 | 0.2 to 0.2 | at most 0.15 | **missed** |",
    ]
