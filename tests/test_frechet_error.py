"""The uncertainty of a Frechet distance: the jackknife's error, and the distance at infinitely many samples."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_statistics_to_metric

from surrodiff.scoring import metrics
from surrodiff.scoring.metrics import Moments, Statistics, frechet_distance, frechet_error, frechet_infinity


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(random: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def moments_of(features: torch.Tensor, groups: int = 10) -> Moments:
    moments = Moments(len(features), groups)
    moments.add(features)
    return moments


def other_distance(features: torch.Tensor, reference: Statistics) -> float:
    """torch-fidelity's, from the features."""
    moments = {"mu": features.numpy().mean(0), "sigma": np.cov(features.numpy(), rowvar=False)}
    other = {"mu": reference.mean.numpy(), "sigma": reference.covariance.numpy()}
    return fid_statistics_to_metric(moments, other, verbose=False)["frechet_inception_distance"]


class Source:
    """Gaussian samples with a known distance to a Gaussian reference: `shift` from it in each dimension."""

    def __init__(self, dimensions: int, shift: float, seed: int, spread: bool = True):
        self.random, self.shift = generator(seed), shift
        self.factor = torch.eye(dimensions).double()
        if spread:
            self.factor += normal(self.random, dimensions, dimensions) / dimensions**0.5
        self.reference = Statistics(torch.zeros(dimensions).double(), torch.eye(dimensions).double(), 10**6)
        exact = Statistics(self.reference.mean + shift, self.factor.T @ self.factor, 10**6)
        self.distance = frechet_distance(exact, self.reference)

    def draw(self, count: int) -> torch.Tensor:
        return normal(self.random, count, len(self.factor)) @ self.factor + self.shift


# --- the reference's root


def test_the_root_is_symmetric_and_its_square_is_the_covariance():
    features = normal(generator(0), 10, 6) @ normal(generator(1), 6, 12)
    statistics = moments_of(features, 1).statistics()
    torch.testing.assert_close(statistics.root, statistics.root.T)
    torch.testing.assert_close(statistics.root @ statistics.root, statistics.covariance)


def test_distances_to_one_reference_share_its_root(monkeypatch):
    calls = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: calls.append(matrix) or eigh(matrix))
    reference = moments_of(normal(generator(0), 50, 4), 1).statistics()
    moments = moments_of(normal(generator(1), 50, 4))
    frechet_distance(moments.statistics(), reference)
    frechet_error(moments, reference)
    frechet_infinity(moments, reference)
    assert len(calls) == 1


# --- the jackknife


@pytest.mark.parametrize(("count", "groups"), [(100, 10), (103, 10), (60, 4), (20, 20)])
def test_the_error_is_the_jackknife_written_out(count, groups):
    source = Source(5, 0.3, seed=0)
    features = source.draw(count)
    ends = [count * group // groups for group in range(groups + 1)]
    left = []
    for start, end in pairwise(ends):
        left.append(other_distance(torch.cat([features[:start], features[end:]]), source.reference))
    expected = math.sqrt((groups - 1) / groups * sum((x - sum(left) / groups) ** 2 for x in left))
    assert frechet_error(moments_of(features, groups), source.reference) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("dimensions", "count", "shift", "spread"),
    [(2, 100, 1.0, True), (8, 400, 0.2, True), (16, 1000, 0.0, True), (16, 600, 0.0, False)],
)
def test_the_error_is_the_spread_over_independent_samples(dimensions, count, shift, spread):
    source = Source(dimensions, shift, seed=1, spread=spread)
    distances, limits, errors = [], [], []
    for _ in range(150):
        moments = moments_of(source.draw(count))
        distances.append(frechet_distance(moments.statistics(), source.reference))
        limits.append(frechet_infinity(moments, source.reference))
        errors.append(frechet_error(moments, source.reference))
    typical = np.sqrt(np.mean(np.square(errors)))
    assert 1 / 1.25 < typical / np.std(limits) < 1.25
    if source.distance > 0:
        assert 1 / 1.25 < typical / np.std(distances) < 1.25
    else:  # all is bias, which varies less than its correction
        assert 1 < typical / np.std(distances) < 2
    # One error alone comes from 10 groups, as rough as a standard deviation from 10 numbers.
    assert np.mean(np.abs(np.log(errors / np.std(limits))) < math.log(2)) > 0.9


def test_the_error_falls_with_the_root_of_the_number_of_samples():
    source = Source(4, 0.5, seed=2)
    few, many = (
        np.mean([frechet_error(moments_of(source.draw(count)), source.reference) for _ in range(50)])
        for count in (500, 8000)
    )
    assert few / many == pytest.approx(4, rel=0.2)


def test_equal_groups_have_no_error():
    features = normal(generator(0), 30, 4).repeat(5, 1)
    reference = moments_of(normal(generator(1), 50, 4), 1).statistics()
    assert frechet_error(moments_of(features, 5), reference) == pytest.approx(0, abs=1e-9)


# --- infinitely many samples


@pytest.mark.parametrize(
    ("dimensions", "count", "shift", "spread"),
    [(16, 300, 0.1, False), (32, 500, 0.1, False), (64, 1000, 0.1, False), (64, 300, 0.0, True)],
)
def test_the_limit_is_much_nearer_to_the_true_distance_than_the_distance(dimensions, count, shift, spread):
    source = Source(dimensions, shift, seed=3, spread=spread)
    distances, limits = [], []
    for _ in range(25):
        moments = moments_of(source.draw(count))
        distances.append(frechet_distance(moments.statistics(), source.reference))
        limits.append(frechet_infinity(moments, source.reference))
    bias, left = np.mean(distances) - source.distance, abs(np.mean(limits) - source.distance)
    assert bias > 5 * np.std(distances) / math.sqrt(25)
    assert left < bias / 4


def test_the_limit_is_nearer_for_a_single_set_where_bias_outweighs_noise():
    source = Source(32, 0.0, seed=4, spread=False)
    for _ in range(10):
        moments = moments_of(source.draw(500))
        plain = frechet_distance(moments.statistics(), source.reference)
        assert abs(frechet_infinity(moments, source.reference)) < plain / 3


def test_the_limit_of_many_samples_is_their_distance():
    source = Source(4, 0.5, seed=5)
    moments = moments_of(source.draw(200_000))
    distance = frechet_distance(moments.statistics(), source.reference)
    assert frechet_infinity(moments, source.reference) == pytest.approx(distance, rel=1e-3)


@pytest.mark.parametrize(("count", "groups"), [(100, 10), (107, 10), (35, 7), (20, 2)])
def test_a_distance_that_is_a_line_in_1_over_n_has_its_intercept_as_limit(count, groups, monkeypatch):
    moments = moments_of(normal(generator(0), count, 2), groups)
    monkeypatch.setattr(metrics, "frechet_distance", lambda a, b: 3 + 50 / a.count)
    assert frechet_infinity(moments, None) == pytest.approx(3, rel=1e-9)


def test_the_limit_is_the_line_written_out_for_4_groups():
    source = Source(3, 0.2, seed=6)
    features = source.draw(80)
    quarters = features.split(20)
    chosen = {40: ["01", "23"], 60: ["012", "301", "230", "123"], 80: ["0123"]}
    means = [
        np.mean([other_distance(torch.cat([quarters[int(i)] for i in name]), source.reference) for name in names])
        for names in chosen.values()
    ]
    expected = np.polyfit([1 / count for count in chosen], means, 1)[1]
    assert frechet_infinity(moments_of(features, 4), source.reference) == pytest.approx(expected, rel=1e-6)
