"""Frechet distance and Inception Score against other implementations, closed forms, and their own properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.inception import InceptionScore as TorchmetricsInceptionScore

from surrodiff.scoring.metrics import InceptionScore, Moments, Statistics, frechet_distance

SEEDS = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments_of(features: torch.Tensor, groups: int, cuts=()) -> Moments:
    """Of features added in the batches between the cuts."""
    moments = Moments(len(features), groups)
    for part in features.tensor_split(sorted(cuts)):
        if len(part):
            moments.add(part)
    return moments


def statistics(features: torch.Tensor, cuts=()) -> Statistics:
    return moments_of(features, 1, cuts).statistics()


def torch_fidelity_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    stats = [{"mu": x.numpy().mean(0), "sigma": np.cov(x.numpy(), rowvar=False)} for x in (a, b)]
    return fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]


def torchmetrics_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(_compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()))


OTHERS = pytest.mark.parametrize("other_distance", [torch_fidelity_distance, torchmetrics_distance])


def diagonal(mean, variances) -> Statistics:
    mean, variances = (torch.tensor(x, dtype=torch.float64) for x in (mean, variances))
    return Statistics(mean, variances.diag(), 100)


# --- Frechet distance


@OTHERS
@pytest.mark.parametrize("dimensions", [2, 16, 64, 200])
def test_the_distance_is_that_of_other_libraries(dimensions, other_distance):
    a = normal(0, 1000, dimensions) @ normal(1, dimensions, dimensions) / dimensions**0.5
    b = normal(2, 1000, dimensions) @ normal(3, dimensions, dimensions) / dimensions**0.5 + 0.3
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(other_distance(a, b), rel=1e-8)


@OTHERS
@pytest.mark.parametrize(("rank_a", "rank_b"), [(5, 5), (5, 32), (32, 5), (1, 1)])
def test_the_distance_is_that_of_other_libraries_for_features_in_few_dimensions(rank_a, rank_b, other_distance):
    a = normal(0, 500, rank_a) @ normal(1, rank_a, 32)
    b = normal(2, 500, rank_b) @ normal(3, rank_b, 32)
    # Square roots of eigenvalues that should be 0 cost the others their last digits.
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(other_distance(a, b), rel=1e-6)


@OTHERS
def test_the_distance_is_right_with_fewer_samples_than_dimensions(other_distance):
    a, b = normal(0, 10, 64), normal(1, 12, 64) + 1
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(other_distance(a, b), rel=1e-6)


@given(st.lists(st.tuples(*[st.floats(-10, 10), st.floats(0, 100)] * 2), min_size=1, max_size=8))
def test_the_distance_of_independent_features_is_the_sum_of_their_distances(features):
    means_a, variances_a, means_b, variances_b = zip(*features, strict=True)
    expected = sum((m - n) ** 2 + (math.sqrt(u) - math.sqrt(v)) ** 2 for m, u, n, v in features)
    distance = frechet_distance(diagonal(means_a, variances_a), diagonal(means_b, variances_b))
    assert distance == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(SEEDS, st.integers(1, 6))
def test_the_distance_of_commuting_covariances_has_a_closed_form_whatever_their_rank(seed, rank):
    turn, _ = torch.linalg.qr(normal(seed, 12, 12))
    u, v = normal(seed + 1, 12).square(), normal(seed + 2, 12).square()
    u[rank:], v[: rank - 1] = 0, 0
    a = Statistics(torch.zeros(12).double(), turn @ u.diag() @ turn.T, 100)
    b = Statistics(torch.ones(12).double(), turn @ v.diag() @ turn.T, 100)
    expected = 12 + float((u.sqrt() - v.sqrt()).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_distance_of_constant_features_is_that_of_their_means():
    a, b = torch.zeros(10, 3), torch.tensor([3.0, 4.0, 0.0]).expand(10, 3)
    assert frechet_distance(statistics(a), statistics(b)) == pytest.approx(25)


@given(SEEDS, st.integers(1, 20), st.integers(2, 40))
def test_equal_statistics_have_no_distance(seed, dimensions, count):
    a = statistics(normal(seed, count, dimensions))
    distance = frechet_distance(a, a)
    assert 0 <= distance < 1e-6 * max(1.0, float(a.covariance.trace()))


@given(SEEDS, st.integers(1, 10), st.integers(2, 40))
def test_the_distance_is_symmetric(seed, dimensions, count):
    a, b = statistics(normal(seed, count, dimensions)), statistics(2 * normal(seed + 1, count + 3, dimensions) - 1)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6, abs=1e-6)
    assert frechet_distance(a, b) >= 0


@given(SEEDS, st.integers(1, 10), st.floats(0.01, 100))
def test_a_translation_adds_its_squared_length(seed, dimensions, length):
    features = normal(seed, 50, dimensions)
    shift = normal(seed + 1, dimensions)
    shift *= length / shift.norm()
    distance = frechet_distance(statistics(features), statistics(features + shift))
    assert distance == pytest.approx(length**2, rel=1e-6, abs=1e-6)


@given(SEEDS, st.integers(1, 10), st.floats(0.1, 10))
def test_scaling_both_scales_the_distance_by_the_square(seed, dimensions, factor):
    a, b = normal(seed, 50, dimensions), normal(seed + 1, 50, dimensions) * 2 + 1
    scaled = frechet_distance(statistics(a * factor), statistics(b * factor))
    assert scaled == pytest.approx(factor**2 * frechet_distance(statistics(a), statistics(b)), rel=1e-6)


@given(SEEDS, st.floats(0, 5))
def test_scaling_one_has_a_closed_form(seed, factor):
    a = normal(seed, 60, 8) @ normal(seed + 1, 8, 8)
    original = statistics(a)
    expected = (1 - factor) ** 2 * (original.mean.square().sum() + original.covariance.trace())
    assert frechet_distance(original, statistics(a * factor)) == pytest.approx(float(expected), rel=1e-6, abs=1e-4)


@given(SEEDS)
def test_turning_both_changes_nothing(seed):
    a, b = normal(seed, 50, 6), normal(seed + 1, 50, 6) * 2 + 1
    turn, _ = torch.linalg.qr(normal(seed + 2, 6, 6))
    turned = frechet_distance(statistics(a @ turn), statistics(b @ turn))
    assert turned == pytest.approx(frechet_distance(statistics(a), statistics(b)), rel=1e-8)


# --- moments


@given(SEEDS, st.lists(st.integers(0, 60), max_size=6))
def test_moments_are_numpy_s_whatever_the_batches(seed, cuts):
    features = normal(seed, 60, 5) * 3 + 1
    moments = statistics(features, cuts)
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, features.numpy().mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("offset", [1e3, 1e6, -1e8])
def test_a_large_offset_costs_no_digits(offset):
    features = normal(0, 500, 4) + offset
    moments = statistics(features, [1, 7, 250])
    np.testing.assert_allclose(moments.mean, features.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(features.numpy(), rowvar=False), rtol=1e-6, atol=1e-7)


def test_moments_of_float32_features_are_float64():
    features = (normal(0, 100, 3) * 1e-3 + 1000).float()
    moments = statistics(features, [30])
    assert moments.mean.dtype == moments.covariance.dtype == torch.float64
    np.testing.assert_allclose(moments.covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-9)


def test_covariances_are_symmetric():
    covariance = statistics(normal(0, 100, 8), [13]).covariance
    torch.testing.assert_close(covariance, covariance.T, rtol=1e-14, atol=1e-14)


@given(SEEDS, st.integers(1, 6), st.integers(0, 5), st.lists(st.integers(0, 45), max_size=6), st.data())
def test_moments_of_some_groups_are_those_of_their_features(seed, groups, rest, cuts, data):
    features = normal(seed, 7 * groups + rest, 3)
    chosen = data.draw(st.lists(st.integers(0, groups - 1), min_size=1, unique=True))
    ends = [len(features) * group // groups for group in range(groups + 1)]
    rows = np.concatenate([features[ends[group] : ends[group + 1]] for group in chosen])
    moments = moments_of(features, groups, [cut for cut in cuts if cut < len(features)]).statistics(chosen)
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows, rowvar=False), rtol=1e-10, atol=1e-12)


def test_moments_stay_on_the_features_device():
    moments = Moments(6, groups=2)
    moments.add(torch.zeros(6, 3, device="meta"))
    mean_and_covariance = moments.statistics([0])
    assert mean_and_covariance.mean.device.type == mean_and_covariance.covariance.device.type == "meta"


# --- Inception Score


def inception_score(logits: torch.Tensor, splits: int, cuts=()) -> tuple[float, float]:
    score = InceptionScore(len(logits), splits)
    for part in logits.tensor_split(sorted(cuts)):
        if len(part):
            score.add(part)
    return score.result()


@given(SEEDS, st.sampled_from([1, 2, 5, 10]), st.integers(0, 9), st.integers(2, 30))
def test_the_inception_score_is_torch_fidelity_s(seed, splits, rest, classes):
    logits = normal(seed, 20 * splits + rest, classes) * 3
    expected = isc_features_to_metric(logits, splits=splits, shuffle=False)
    mean, std = inception_score(logits, splits)
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-10)
    assert std == pytest.approx(expected["inception_score_std"], rel=1e-6, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*will save all extracted features")
@pytest.mark.parametrize("splits", [2, 5, 10])
def test_the_inception_score_is_torchmetrics_s(splits, monkeypatch):
    logits = normal(0, 20 * splits, 12) * 3
    monkeypatch.setattr(torch, "randperm", torch.arange)  # its only shuffle
    other = TorchmetricsInceptionScore(torch.nn.Identity(), splits=splits)
    other.update(logits)
    mean, std = other.compute()
    # Its standard deviation is the sample's.
    expected = float(mean), float(std) * math.sqrt((splits - 1) / splits)
    assert inception_score(logits, splits) == pytest.approx(expected, rel=1e-6)


@given(SEEDS, st.lists(st.integers(0, 53), max_size=6), st.integers(1, 10))
def test_the_inception_score_does_not_depend_on_the_batches(seed, cuts, splits):
    logits = normal(seed, 53, 7) * 2
    at_once, batched = inception_score(logits, splits), inception_score(logits, splits, cuts)
    assert batched == pytest.approx(at_once, rel=1e-12, abs=1e-12)


@given(st.integers(1, 12), st.integers(2, 10))
def test_certain_and_varied_predictions_score_the_number_of_classes(repeats, classes):
    mean, std = inception_score(torch.eye(classes).log().repeat(repeats * 4, 1), 4)
    assert mean == pytest.approx(classes, rel=1e-12)
    assert std == pytest.approx(0, abs=1e-9)


@given(st.integers(1, 10), st.integers(2, 10))
def test_predictions_that_say_nothing_score_1(splits, classes):
    assert inception_score(torch.full((20, classes), 5.0), splits) == pytest.approx((1, 0), abs=1e-12)


def test_certain_predictions_of_one_class_score_1():
    assert inception_score(torch.eye(5).log()[[2] * 20], 2) == pytest.approx((1, 0))


@given(SEEDS, st.integers(1, 5))
def test_the_inception_score_lies_between_1_and_the_number_of_classes(seed, splits):
    mean, std = inception_score(normal(seed, 40, 6) * 5, splits)
    assert 1 - 1e-12 <= mean <= 6 + 1e-12
    assert std >= 0


def test_the_spread_is_the_population_s_over_the_splits():
    varied, certain = torch.eye(4), torch.eye(4)[[0] * 4]
    assert inception_score(torch.cat([varied, certain]).log(), 2) == pytest.approx((2.5, 1.5))


def test_every_split_counts_where_they_are_not_equal():
    score = InceptionScore(7, 3)
    score.add(normal(0, 7, 3))
    assert sum(score.sizes) == 7
    assert max(score.sizes) - min(score.sizes) <= 1
