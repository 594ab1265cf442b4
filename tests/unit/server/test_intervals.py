"""Savings over pairs, and how often their interval holds the true value."""

import math

import numpy as np
import pytest

from server.intervals import LEAST_PAIRS, PairedTokens, _student

RUNS = 1000


def paired(actual, baseline):
    tokens = PairedTokens()
    for pair in zip(actual, baseline, strict=True):
        tokens.add(*pair)
    return tokens


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(19, 2.093024), (24, 2.063899), (29, 2.045230), (99, 1.984217), (10_000, 1.960201)]
)
def test_the_quantile_of_students_t(freedom, quantile):
    assert _student(freedom) == pytest.approx(quantile, abs=1e-4)


def difficulty(random, size, spread):
    """Long-tailed: with a spread of 1, one question in a hundred takes ten times the median."""
    return random.lognormal(5, spread, size)


def correlated(random, size):
    hard = difficulty(random, size, 1.0)
    return 0.6 * hard * random.lognormal(0, 0.5, size), hard * random.lognormal(0, 0.4, size)


def heavier(random, size):
    hard = (random.pareto(2.2, size) + 1) * 60
    return 0.6 * hard * random.lognormal(0, 0.4, size), hard * random.lognormal(0, 0.4, size)


def unrelated(random, size):
    return 0.6 * difficulty(random, size, 1.0), difficulty(random, size, 1.0)


def looping(random, size):
    """Some answers never end by themselves and take all that they may."""
    actual, baseline = correlated(random, size)
    return np.where(random.random(size) < 0.03, 4096, actual), np.where(random.random(size) < 0.06, 4096, baseline)


@pytest.mark.parametrize("pairs", [50, 200])
@pytest.mark.parametrize("lengths", [correlated, heavier, unrelated, looping])
def test_the_interval_of_95_percent_holds_the_truth_in_93_to_97_of_100_runs(lengths, pairs):
    random = np.random.default_rng(7)
    actual, baseline = lengths(random, 2_000_000)
    truth = 1 - actual.mean() / baseline.mean()
    drawn = [paired(*lengths(random, pairs)).interval() for _ in range(RUNS)]
    bounded = [interval for interval in drawn if interval is not None]
    assert len(bounded) > 0.98 * RUNS
    held = RUNS - len(bounded) + sum(lower <= truth <= upper for lower, upper in bounded)
    assert 0.93 <= held / RUNS <= 0.97


def test_the_interval_is_that_of_the_test_on_paired_differences():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(1)
    actual, baseline = correlated(random, 40)
    for bound in paired(actual, baseline).interval():
        assert stats.ttest_1samp(actual - (1 - bound) * baseline, 0).pvalue == pytest.approx(0.05, abs=1e-4)


def test_the_interval_holds_the_ratio_of_means():
    tokens = paired([60, 30] * 20, [100, 50] * 20)
    assert tokens.savings_ratio == pytest.approx(0.4)
    lower, upper = tokens.interval()
    assert lower == pytest.approx(0.4)
    assert upper == pytest.approx(0.4)
    assert math.isclose(paired([0] * 20, [100] * 20).savings_ratio, 1)


def test_more_pairs_make_it_narrower():
    random = np.random.default_rng(3)
    widths = [np.ptp(paired(*correlated(random, pairs)).interval()) for pairs in (50, 500, 5000)]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


@pytest.mark.parametrize(
    ("actual", "baseline"),
    [
        ([], []),
        ([60] * (LEAST_PAIRS - 1), [100] * (LEAST_PAIRS - 1)),
        ([60] * 30, [0] * 30),
        ([60] * 30, [0] * 29 + [10]),
    ],
)
def test_too_little_is_known_for_an_interval(actual, baseline):
    assert paired(actual, baseline).interval() is None


def test_there_are_no_savings_without_a_baseline():
    assert PairedTokens().savings_ratio is None
