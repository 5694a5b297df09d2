"""Kernel distance, precision and recall against their definitions and another implementation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from surrodiff.errors import UserError
from surrodiff.scoring import metrics
from surrodiff.scoring.metrics import kernel_distance, precision_recall

SEEDS = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- kernel distance


def unbiased_mmd(x: torch.Tensor, y: torch.Tensor) -> float:
    """From the definition, by pairs."""
    m, n, dimensions = len(x), len(y), x.shape[1]

    def kernel(a, b):
        return float((a @ b / dimensions + 1) ** 3)

    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


@pytest.mark.parametrize("shift", [0, 1])
def test_the_kernel_distance_of_whole_sets_is_the_unbiased_mmd(shift):
    features, reference = normal(0, 30, 4) + shift, normal(1, 30, 4)
    mean, std = kernel_distance(features, reference, subsets=2, subset_size=30, seed=0)
    assert mean == pytest.approx(unbiased_mmd(features, reference), rel=1e-9)
    assert std == pytest.approx(0, abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*will save all extracted features")
@pytest.mark.parametrize("dimensions", [2, 16, 200])
def test_the_kernel_distance_is_torchmetrics_s(dimensions):
    features, reference = normal(0, 120, dimensions) * 1.5 + 0.1, normal(1, 120, dimensions)
    other = KernelInceptionDistance(torch.nn.Identity(), subsets=1, subset_size=120)
    other.update(reference, real=True)
    other.update(features, real=False)
    mean, _ = kernel_distance(features, reference, subsets=1, subset_size=120, seed=0)
    assert mean == pytest.approx(float(other.compute()[0]), rel=1e-6)


def test_the_kernel_distance_over_subsets_is_torchmetrics_s_over_the_same_subsets():
    features, reference = normal(0, 90, 6) + 0.5, normal(1, 150, 6)
    draw = np.random.RandomState(5)  # torch-fidelity's
    values = []
    for _ in range(8):
        rows, reference_rows = (draw.choice(count, 40, replace=False) for count in (90, 150))
        values.append(float(poly_mmd(reference[reference_rows], features[rows])))
    distance = kernel_distance(features, reference, subsets=8, subset_size=40, seed=5)
    assert distance == pytest.approx((np.mean(values), np.std(values)), rel=1e-6)
    assert kernel_distance(features, reference, subsets=8, subset_size=40, seed=6) != distance


@given(SEEDS, st.integers(20, 60), st.integers(20, 60), st.integers(2, 20), st.integers(1, 6))
def test_the_kernel_distance_is_torch_fidelity_s_bit_for_bit(seed, count, reference_count, subset_size, subsets):
    features, reference = normal(seed, count, 12) + 0.2, normal(seed + 1, reference_count, 12)
    expected = kid_features_to_metric(
        features, reference, kid_subsets=subsets, kid_subset_size=subset_size, rng_seed=seed, verbose=False
    )
    assert list(kernel_distance(features, reference, subsets, subset_size, seed)) == list(expected.values())


@pytest.mark.parametrize(("count", "reference_count"), [(20, 50), (50, 20)])
def test_subsets_of_the_kernel_distance_are_no_larger_than_either_set(count, reference_count):
    features, reference = normal(0, count, 3) + 1, normal(1, reference_count, 3)
    distance = kernel_distance(features, reference, subsets=3, subset_size=1000, seed=0)
    assert distance == kernel_distance(features, reference, subsets=3, subset_size=20, seed=0)


def test_the_kernel_distance_of_float32_features_is_computed_in_float64():
    features, reference = (normal(0, 50, 8) + 10).float(), (normal(1, 50, 8) + 10).float()
    distance = kernel_distance(features, reference, subsets=2, subset_size=40, seed=0)
    exact = kernel_distance(features.double(), reference.double(), subsets=2, subset_size=40, seed=0)
    assert distance == exact


def test_the_kernel_distance_of_one_distribution_is_0_on_average():
    distances = [kernel_distance(normal(2 * i, 60, 8), normal(2 * i + 1, 60, 8), 1, 60, 0)[0] for i in range(100)]
    assert abs(np.mean(distances)) < 4 * np.std(distances) / 10
    assert min(distances) < 0


# --- precision and recall


def brute_force(features: torch.Tensor, reference: torch.Tensor, k: int) -> tuple[float, float]:
    """By the definition, from the differences themselves; the nearest sample to one is the sample itself."""

    def distances(a, b):
        return (a[:, None] - b[None]).square().sum(2).sqrt()

    def share(of, within):
        radii = distances(within, within).sort(1).values[:, k]
        return (distances(of, within) <= radii).any(1).double().mean().item()

    return share(features, reference), share(reference, features)


@given(SEEDS, st.integers(6, 80), st.integers(6, 80), st.integers(1, 5), st.floats(0.2, 3))
def test_precision_and_recall_follow_their_definition(seed, count, reference_count, neighbours, scale):
    features, reference = normal(seed, count, 3) * scale + 0.5, normal(seed + 1, reference_count, 3)
    shares = precision_recall(features, reference, neighbours)
    assert shares == pytest.approx(brute_force(features, reference, neighbours), rel=1e-6)


def test_precision_and_recall_of_several_batches_follow_their_definition():
    features, reference = normal(0, 1300, 4) * 1.2 + 0.5, normal(1, 2100, 4)
    shares = precision_recall(features.float(), reference.float(), 3)
    assert shares == pytest.approx(brute_force(features, reference, 3), rel=1e-6)
    assert 0 < shares[0] < shares[1] < 1


@pytest.mark.parametrize(("count", "reference_count"), [(40, 60), (1300, 2100)])
def test_precision_and_recall_are_torch_fidelity_s(count, reference_count):
    features, reference = normal(0, count, 8) * 1.2 + 0.5, normal(1, reference_count, 8)
    features[: count // 4] = reference[: count // 4]  # ties
    expected = prc_features_to_metric(
        features, reference, prc_neighborhood=3, prc_batch_size=1000, save_cpu_ram=True, verbose=False
    )
    # Its shares are float32.
    shares = [float(np.float32(share)) for share in precision_recall(features, reference, 3)]
    assert shares == [expected["precision"], expected["recall"]]


def test_copies_have_full_precision_and_recall():
    features = normal(0, 200, 16)
    assert precision_recall(features[torch.arange(199, -1, -1)], features, 3) == (1, 1)


@pytest.mark.parametrize("dimensions", [3, 2048])
@pytest.mark.parametrize("count", [5, 100, 1200])
def test_equal_images_have_full_precision_and_recall(count, dimensions):
    """Of more equal ones than neighbours every radius is 0, and so is every distance; 0 is within 0."""
    copies = (normal(0, 1, dimensions) * 30).float().expand(count, -1)
    assert precision_recall(copies, copies, 3) == (1, 1)
    assert precision_recall(copies, copies[:5], 3) == (1, 1)
    assert precision_recall(copies + 1e-3, copies, 3) == (0, 0)


def test_an_equal_image_lies_within_a_ball_without_extent_and_another_does_not():
    centre, other = normal(0, 1, 64) * 10, normal(1, 1, 64)
    near = centre + 1e-9 * other  # nearer than a product of matrices can tell
    reference = centre.expand(50, -1)
    features = torch.cat([centre, near, centre, other])
    assert precision_recall(features, reference, 3) == (0.5, 1)


@given(SEEDS, st.integers(6, 40), st.integers(6, 40), st.integers(1, 4), st.integers(1, 3))
def test_ties_are_within(seed, count, reference_count, neighbours, levels):
    """On a coarse grid most distances tie, and many rows are equal; far from 0, where products lose digits."""
    generator = torch.Generator().manual_seed(seed)
    features, reference = (
        torch.randint(0, levels + 1, (size, 3), generator=generator).double() + 4096
        for size in (count, reference_count)
    )
    assert precision_recall(features, reference, neighbours) == brute_force(features, reference, neighbours)


@given(SEEDS, st.sampled_from([1e-6, 1.0, 1e6]))
def test_precision_and_recall_do_not_depend_on_the_batches(seed, scale):
    features, reference = normal(seed, 60, 5) * scale, normal(seed + 1, 70, 5) * scale
    features[:20] = reference[:20]
    reference[-30:] = reference[0]
    expected = precision_recall(features, reference, 3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "BOUNDED_AT_ONCE", 7 * len(reference))
        patched.setattr(metrics, "EXACT_AT_ONCE", 5)
        patched.setattr(metrics, "PAIRWISE_SHARE", 1.0)
        assert precision_recall(features, reference, 3) == expected
        patched.setattr(metrics, "PAIRWISE_SHARE", 0.0)
        assert precision_recall(features, reference, 3) == expected
    assert precision_recall(features.flip(0), reference.flip(0), 3) == expected
    assert expected == brute_force(features, reference, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_features_that_are_not_finite_are_refused(where, value):
    sets = [normal(0, 20, 4), normal(1, 30, 4)]
    sets[where][3, 1] = sets[where][5, 0] = value
    for distances in (
        lambda: precision_recall(*sets, 3),
        lambda: kernel_distance(*sets, subsets=2, subset_size=10, seed=0),
    ):
        with pytest.raises(UserError, match=f"^2 of {len(sets[where])} rows of features are NaN or infinite"):
            distances()


def test_copies_of_one_mode_of_two_are_precise_but_recall_half():
    modes = torch.cat([normal(0, 100, 4), normal(1, 100, 4) + 100])
    assert precision_recall(modes[:100], modes, 3) == (1, 0.5)
    # The other way round, all that is real is covered, but half of what was made is nowhere near it.
    assert precision_recall(modes, modes[:100], 3) == (0.5, 1)


def test_samples_far_from_the_reference_have_neither_precision_nor_recall():
    assert precision_recall(normal(0, 50, 4) + 100, normal(1, 60, 4), 3) == (0, 0)
