"""Who the unruly clients are, and that no mistake of the books escapes the audit."""

from collections import Counter
from dataclasses import replace

import pytest

from loadtests.unruly import Books, Seen, audit, clients


def test_the_shares_are_exact_and_the_draw_is_the_seeds():
    drawn = clients("m", 200, leaving=0.10, malformed=0.05, seed=1)
    assert Counter(client.fate for client in drawn) == {"answered": 170, "left": 20, "refused": 10}
    assert drawn == clients("m", 200, leaving=0.10, malformed=0.05, seed=1)
    assert drawn != clients("m", 200, leaving=0.10, malformed=0.05, seed=2)
    assert {client.streams for client in drawn if client.fate == "left"} == {True, False}


EMPTY = Books(
    requests=5, exits=Counter(model=5), answers=5, tokens=50, vllm_tokens=50, running=0, memory=2**30, files=20
)
AFTER = replace(
    EMPTY, requests=11, exits=Counter(model=10, length=1, abort=2), answers=11, tokens=110, vllm_tokens=110, files=22
)
SEEN = Seen(
    clients=Counter(answered=4, left=3, refused=1), choices=Counter(model=5, length=1), tokens=60, begun=1, wrong=[]
)


def test_books_that_balance():
    """Four clients got six choices; of three that left the engine had taken on two."""
    assert audit(SEEN, EMPTY, AFTER) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"exits": Counter(model=10, length=1, abort=1)},
        {"exits": Counter(model=10, length=1, abort=3)},
        {"exits": Counter(model=9, length=2, abort=2)},
        {"answers": 10},
        {"tokens": 111},
        {"tokens": 100, "vllm_tokens": 100},
        {"requests": 13},
        {"requests": 9},
        {"running": 1},
        {"files": 60},
    ],
    ids=str,
)
def test_a_mistake_is_found(wrong):
    assert audit(SEEN, EMPTY, replace(AFTER, **wrong))
