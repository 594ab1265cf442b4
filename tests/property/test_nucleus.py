"""What is left of a distribution for top-p sampling."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from training.nucleus import keep_nucleus


@st.composite
def rows(draw):
    """Logits without ties, and a share that no sum of their chances meets but by rounding."""
    order = draw(st.permutations(range(draw(st.integers(1, 40)))))
    apart = draw(st.sampled_from([0.001, 0.1, 1.0]))
    return [place * apart for place in order], draw(st.integers(1, 99)) / 100 + 1 / 7000


def smallest(logits, top_p):
    """The most likely tokens, one after the other, until they hold more than the share."""
    chances, kept, held = torch.tensor(logits, dtype=torch.float64).softmax(-1).tolist(), set(), 0.0
    for token in sorted(range(len(logits)), key=lambda token: -logits[token]):
        if held >= top_p:
            break
        kept.add(token)
        held += chances[token]
    return kept


@given(rows())
def test_the_fewest_tokens_that_hold_the_share_are_left(row):
    logits, top_p = row
    found = keep_nucleus(torch.tensor([logits]), torch.tensor([top_p]))[0]
    kept = {token for token, logit in enumerate(found.tolist()) if logit > -torch.inf}
    assert kept == smallest(logits, top_p)
    assert [found[token].item() for token in kept] == [torch.tensor(logits[token]).item() for token in kept]


def test_rows_have_shares_of_their_own():
    logits = torch.tensor([[0.0, 1.0, 2.0]] * 3)
    found = keep_nucleus(logits, torch.tensor([1e-6, 0.7, 1.0]))
    assert (found > -torch.inf).tolist() == [[False, False, True], [False, True, True], [True, True, True]]


def test_equals_stay_together():
    found = keep_nucleus(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([0.1]))
    assert (found > -torch.inf).tolist() == [[True, True, False]]
