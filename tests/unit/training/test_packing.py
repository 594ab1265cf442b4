from hypothesis import given
from hypothesis import strategies as st

from training.packing import pack


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 8))
def test_packing_loses_no_row_and_makes_no_more_padding_than_one_batch(lengths, bins):
    packed = pack(lengths, bins)
    assert len(packed) == bins
    assert sorted(row for rows in packed for row in rows) == list(range(len(lengths)))
    cells = sum(len(rows) * max(lengths[row] for row in rows) for rows in packed if rows)
    assert cells <= len(lengths) * max(lengths, default=0)


def test_packing_puts_neighbours_in_length_together():
    assert [sorted(rows) for rows in pack([100, 10, 10, 100, 10, 10], 2)] == [[0, 3], [1, 2, 4, 5]]
