"""95 % intervals over trainings: of a row's value, and of the difference of two rows.

The unit is a training. Another training of the same model gives another value, and so do other samples of the same
training; values of several sampling seeds are averaged for each training seed before anything else.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

JACKKNIFE_GROUPS = 10


def jackknife_groups(count: int) -> int:
    """Into how many groups a distance's jackknife splits so many samples; its error has one degree of freedom less.
    Half of the groups must be enough for a covariance."""
    return min(JACKKNIFE_GROUPS, count // 2)


def student_95(degrees: int) -> float:
    """Half of the 95 % interval of Student's t distribution, in standard errors."""
    from scipy.special import stdtrit  # late: scoring needs no t

    return float(stdtrit(degrees, 0.975))


class Measurement(NamedTuple):
    """The value of one training, and the standard error that its finite number of samples gives it."""

    value: float
    error: float


class Variance(NamedTuple):
    """An estimated variance of a mean over trainings, and its degrees of freedom."""

    of_mean: float
    degrees: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval by Student's t."""
        return student_95(self.degrees) * math.sqrt(self.of_mean)


@dataclass(frozen=True)
class Spread:
    """How one model's value varies over trainings: its variance, and the part of it that finite samples explain."""

    variance: float
    sampling_variance: float
    degrees: int

    @classmethod
    def over(cls, measurements: Mapping[int, Measurement]) -> "Spread | None":
        """That of two or more seeds' measurements; None of fewer."""
        if len(measurements) < 2:
            return None
        variance = statistics.variance(measurement.value for measurement in measurements.values())
        errors = statistics.fmean(measurement.error**2 for measurement in measurements.values())
        return cls(variance, errors, len(measurements) - 1)

    def scaled(self, factor: float) -> "Spread":
        """That of values which are larger by a factor."""
        return Spread(self.variance * factor**2, self.sampling_variance * factor**2, self.degrees)


@dataclass(frozen=True)
class Estimate:
    """A row's value by training seed. `of_one`: how single trainings vary, for a row that has only one: taken from
    several trainings of another model (Default), or None if there are not several of any."""

    by_seed: Mapping[int, Measurement]
    of_one: Spread | None

    @property
    def value(self) -> float:
        """The mean over training seeds."""
        return statistics.fmean(measurement.value for measurement in self.by_seed.values())

    @property
    def variance(self) -> Variance | None:
        """Of the mean: from its own seeds or, of one seed, as large as `of_one`, and larger by what its own sampling
        error exceeds the one in there. None where one seed is all there is."""
        if spread := Spread.over(self.by_seed):
            return Variance(spread.variance / len(self.by_seed), spread.degrees)
        if self.of_one is None:
            return None
        (measurement,) = self.by_seed.values()
        excess = max(0.0, measurement.error**2 - self.of_one.sampling_variance)
        return Variance(self.of_one.variance + excess, self.of_one.degrees)

    @property
    def interval(self) -> float | None:
        """Half of the 95 % interval of the mean over all trainings of this row; None where one seed is all there is."""
        return None if self.variance is None else self.variance.half_width


def difference(left: Estimate, right: Estimate) -> tuple[float, float | None]:
    """left - right, and half of its 95 % interval; None for the latter where one seed is all there is.

    Rows that share two or more training seeds are compared pair by pair, on these seeds alone. Else their variances
    add, with the degrees of freedom of the less certain one: at least as wide as an exact interval would be.
    """
    shared = left.by_seed.keys() & right.by_seed.keys()
    if len(shared) >= 2:
        pairs = [left.by_seed[seed].value - right.by_seed[seed].value for seed in sorted(shared)]
        paired = Variance(statistics.variance(pairs) / len(pairs), len(pairs) - 1)
        return statistics.fmean(pairs), paired.half_width
    mean_difference = left.value - right.value
    if left.variance is None or right.variance is None:
        return mean_difference, None
    degrees = min(left.variance.degrees, right.variance.degrees)
    return mean_difference, Variance(left.variance.of_mean + right.variance.of_mean, degrees).half_width
