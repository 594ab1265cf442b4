import random
from collections import Counter

import pytest

from loadtests.scenarios import SCENARIOS, burst, ramp, steady


def test_users_over_a_run_of_a_hundred_seconds():
    assert [steady(at, 40, 100) for at in (0, 50, 99)] == [40, 40, 40]
    assert [ramp(at, 40, 100) for at in (0, 20, 40, 80, 99)] == [1, 10, 20, 40, 40]
    assert [burst(at, 40, 100) for at in (0, 9, 10, 19, 20)] == [4, 4, 40, 40, 4]


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_scenario_has_more_users_than_asked_for_or_none(name):
    for users in (1, 7, 32):
        assert all(1 <= SCENARIOS[name].users(at / 2, users, 60) <= users for at in range(120))


def test_a_tenth_of_the_long_tail_is_long():
    rng = random.Random(1)
    fields = [SCENARIOS["long-tail"].fields(rng) for _ in range(2000)]
    lengths = [each["min_tokens"] for each in fields if each]
    assert 150 < len(lengths) < 250
    assert 100 <= min(lengths) < max(lengths) <= 800


def test_three_of_ten_clients_hang_up_where_some_do():
    rng = random.Random(1)
    left = [SCENARIOS["disconnects"].chunks_before_hanging_up(rng) for _ in range(1000)]
    assert 250 < sum(each is not None for each in left) < 350
    assert SCENARIOS["steady"].chunks_before_hanging_up(rng) is None
    assert SCENARIOS["steady"].fields(rng) == {}


def test_exit_control_brings_every_kind_of_exit():
    rng = random.Random(1)
    fields = [SCENARIOS["exit-control"].fields(rng) for _ in range(3000)]
    kinds = Counter(name for each in fields for name in each)
    assert kinds.keys() == {"max_reasoning_steps", "thinking_token_budget", "early_exit", "max_tokens"}
    assert 30 < kinds.pop("max_tokens") < 90
    assert 400 < kinds.total() < 600
