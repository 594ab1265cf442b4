import torch
from hypothesis import given
from hypothesis import strategies as st

from training.packing import pack, take_rows


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 8))
def test_packing_loses_no_row_and_makes_no_more_padding_than_one_batch(lengths, bins):
    packed = pack(lengths, bins)
    assert len(packed) == bins
    assert sorted(row for rows in packed for row in rows) == list(range(len(lengths)))
    cells = sum(len(rows) * max(lengths[row] for row in rows) for rows in packed if rows)
    assert cells <= len(lengths) * max(lengths, default=0)


def test_packing_puts_neighbours_in_length_together():
    assert [sorted(rows) for rows in pack([100, 10, 10, 100, 10, 10], 2)] == [[0, 3], [1, 2, 4, 5]]


def batch():
    """Prompts of 3 and 2 tokens, padded on the left; completions of 4 and 2, padded on the right."""
    prompt, completion = torch.tensor([[1, 1, 1], [0, 1, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    return {
        "prompt_ids": torch.arange(6).view(2, 3),
        "prompt_mask": prompt,
        "completion_mask": completion,
        "tool_mask": completion.clone(),
        "advantages": torch.tensor([1.0, -1.0]),
        "num_items_in_batch": torch.tensor(6),
    }


def test_rows_lose_the_columns_that_are_padding_in_all_of_them():
    found = take_rows(batch(), [1], 1)
    assert found["prompt_ids"].tolist() == [[4, 5]]
    assert found["completion_mask"].shape == (1, 2)
    assert (found["advantages"].tolist(), found["num_items_in_batch"].item()) == ([-1.0], 6)


def test_what_is_missing_weighs_nothing():
    found = take_rows(batch(), [1], 2)
    assert found["tool_mask"].tolist() == [[1, 1], [0, 0]]


def test_a_micro_batch_of_no_rows_costs_next_to_nothing():
    found = take_rows(batch(), [], 2)
    assert found["tool_mask"].tolist() == [[0, 0], [0, 0]]
    assert (found["prompt_mask"].shape, found["completion_mask"].shape) == ((2, 1), (2, 2))
