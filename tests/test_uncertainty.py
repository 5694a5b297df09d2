"""Intervals over trainings: Student's t, and how often they cover what they say, by simulation."""

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from surrodiff.scoring.uncertainty import Estimate, Measurement, Spread, difference, jackknife_groups, student_95

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def estimate(values: list[float], error: float = 1.0, of_one: Spread | None = None, first: int = 0) -> Estimate:
    return Estimate({first + seed: Measurement(value, error) for seed, value in enumerate(values)}, of_one)


@given(VALUES, st.floats(0, 100))
def test_the_interval_of_several_seeds_is_student_s(values, error):
    standard_error = scipy.stats.sem(values)
    expected = scipy.stats.t.interval(0.95, len(values) - 1, scale=standard_error)[1] if standard_error else 0
    assert estimate(values, error).interval == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(VALUES, VALUES)
def test_rows_that_share_seeds_are_compared_pair_by_pair(left, right):
    pairs = min(len(left), len(right))
    mean_difference, interval = difference(estimate(left), estimate(right))
    paired = scipy.stats.ttest_rel(left[:pairs], right[:pairs]).confidence_interval()
    assert mean_difference == pytest.approx(np.mean(left[:pairs]) - np.mean(right[:pairs]), abs=1e-9)
    if math.isfinite(paired.low):  # SciPy's is not for equal differences
        assert interval == pytest.approx((paired.high - paired.low) / 2, rel=1e-6, abs=1e-9)


@given(VALUES, VALUES)
def test_rows_that_share_none_are_no_surer_than_the_less_certain(left, right):
    a, b = estimate(left), estimate(right, first=100)
    mean_difference, interval = difference(a, b)
    assert mean_difference == pytest.approx(np.mean(left) - np.mean(right), abs=1e-9)
    assert interval >= max(a.interval, b.interval) - 1e-9 or len(left) != len(right)
    error = math.hypot(scipy.stats.sem(left), scipy.stats.sem(right))
    least = min(len(left), len(right)) - 1
    assert interval == pytest.approx(scipy.stats.t.ppf(0.975, least) * error, rel=1e-6, abs=1e-9)


@given(VALUES, st.floats(0, 50), st.floats(0, 50))
def test_one_seed_varies_as_the_other_model_s_trainings_do(values, error, own_error):
    spread = Spread.over(estimate(values, error).by_seed)
    excess = max(0, own_error**2 - error**2)
    expected = student_95(len(values) - 1) * math.sqrt(statistics.variance(values) + excess)
    assert estimate([7.0], own_error, spread).interval == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_row_of_one_seed_is_compared_with_the_mean_of_all_seeds_and_its_error():
    default = estimate([40.0, 44.0, 48.0])
    row = estimate([30.0], of_one=Spread.over(default.by_seed))
    mean_difference, interval = difference(row, default)
    assert mean_difference == -14
    assert interval == pytest.approx(scipy.stats.t.ppf(0.975, 2) * 4 * math.sqrt(1 + 1 / 3))


def test_one_seed_alone_has_no_interval_and_decides_nothing():
    assert Spread.over({0: Measurement(1.0, 0.1)}) is None
    assert estimate([1.0]).interval is None
    assert difference(estimate([1.0]), estimate([2.0])) == (-1.0, None)
    assert difference(estimate([1.0]), estimate([2.0, 3.0, 5.0])) == (1.0 - 10 / 3, None)


@given(st.floats(0.1, 10), VALUES)
def test_a_scaled_spread_is_that_of_scaled_values(factor, values):
    scaled = Spread.over(estimate([factor * value for value in values], factor * 2).by_seed)
    expected = Spread.over(estimate(values, 2).by_seed).scaled(factor)
    assert scaled.variance == pytest.approx(expected.variance, rel=1e-6, abs=1e-9)
    assert (scaled.sampling_variance, scaled.degrees) == (pytest.approx(expected.sampling_variance), expected.degrees)


@pytest.mark.parametrize(("count", "groups"), [(4, 2), (5, 2), (19, 9), (20, 10), (50_000, 10)])
def test_half_of_a_jackknife_s_groups_is_enough_for_a_covariance(count, groups):
    assert jackknife_groups(count) == groups
    assert count // groups * math.ceil(groups / 2) >= 2


# --- coverage: trainings with a standard deviation of 1, and samples of them

TIMES = 1500


class Trainings:
    """Values of trainings: what a seed does to every model (`shared`), to this one, and what its samples add. The
    jackknife's estimate of the samples' error is as rough as one of ten groups is."""

    def __init__(self, random: np.random.Generator, error: float, shared: float):
        self.random, self.error = random, error
        self.of_seed = math.sqrt(shared) * random.standard_normal(10)
        self.own = math.sqrt(1 - shared)

    def row(self, seeds, mean: float = 0.0, error: float | None = None, of_one: Spread | None = None) -> Estimate:
        error = self.error if error is None else error
        by_seed = {}
        for seed in seeds:
            value = mean + self.of_seed[seed] + self.own * self.random.standard_normal()
            jackknife = error * math.sqrt(self.random.chisquare(9) / 9)
            by_seed[seed] = Measurement(value + error * self.random.standard_normal(), jackknife)
        return Estimate(by_seed, of_one)


@pytest.mark.parametrize("shared", [0.0, 0.7])
@pytest.mark.parametrize("error", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("kind", ["one seed", "one seed of Default's", "as many, shared", "as many, others"])
def test_intervals_cover_and_equal_rows_are_seldom_told_apart(seeds, error, shared, kind):
    """At least 93 % of intervals hold the truth, and at most 7 % of equal rows are called better or worse."""
    random = np.random.default_rng([seeds, int(10 * error), int(10 * shared), len(kind)])
    row_covers = false_verdicts = 0
    of_row = {
        "one seed": [9],
        "one seed of Default's": [0],
        "as many, shared": range(seeds),
        "as many, others": range(5, 5 + seeds),
    }[kind]
    for _ in range(TIMES):
        trainings = Trainings(random, error, shared)
        default = trainings.row(range(seeds))
        row = trainings.row(of_row, of_one=Spread.over(default.by_seed))
        row_covers += abs(row.value) <= row.interval
        mean_difference, interval = difference(row, default)
        false_verdicts += abs(mean_difference) > interval
    assert row_covers / TIMES >= 0.93
    assert false_verdicts / TIMES <= 0.07


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("own_error", [1.0, 2.0, 4.0])
def test_intervals_cover_where_a_row_s_samples_vary_more_than_default_s(seeds, own_error):
    random = np.random.default_rng([seeds, int(own_error)])
    covers = 0
    for _ in range(TIMES):
        trainings = Trainings(random, 0.5, 0.0)
        default = trainings.row(range(seeds))
        row = trainings.row([9], error=own_error, of_one=Spread.over(default.by_seed))
        mean_difference, interval = difference(row, default)
        covers += abs(mean_difference) <= interval
    assert covers / TIMES >= 0.93


def test_differences_that_are_there_are_found():
    """Intervals are not just wide: rows that are four standard deviations apart are told apart by five seeds."""
    random = np.random.default_rng(0)
    detected = 0
    for _ in range(500):
        trainings = Trainings(random, 0.5, 0.0)
        default = trainings.row(range(5))
        row = trainings.row([0], mean=-6.0, of_one=Spread.over(default.by_seed))
        gap, interval = difference(row, default)
        detected += gap < -interval
    assert detected / 500 > 0.8
