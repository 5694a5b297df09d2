"""Distances of sets of features, precision and recall, and the Inception Score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.polynomial import Polynomial

DISTANCES_AT_ONCE = 1000  # rows of either set


def _grouped(batch: torch.Tensor, seen: int, count: int, groups: int) -> list[tuple[int, torch.Tensor]]:
    """(group, rows) of a batch that follows `seen` of `count` rows, which form equal consecutive groups."""
    ends = [max(count * group // groups - seen, 0) for group in range(1, groups + 1)]
    return [(group, rows) for group, rows in enumerate(batch.tensor_split(ends)) if len(rows)]


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of `count` feature vectors, float64."""

    mean: torch.Tensor
    covariance: torch.Tensor
    count: int

    @cached_property
    def root(self) -> torch.Tensor:
        """The covariance's symmetric square root (D, D); the covariance may be rank-deficient."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T


class Moments:
    """Means and covariances of `count` features, added in order as batches (B, D), and of `groups` equal consecutive
    groups of them; in float64, on the features' device, in memory for groups x D x D numbers."""

    def __init__(self, count: int, groups: int = 10):
        self.count, self.sizes = count, [0] * groups
        self.shift, self.sums, self.products = None, None, None

    def add(self, features: torch.Tensor):
        features = features.double()
        if self.shift is None:  # sums around a typical value keep their digits
            self.shift = features.mean(0)
            groups, dimensions = len(self.sizes), features.shape[1]
            self.sums = features.new_zeros(groups, dimensions)
            self.products = features.new_zeros(groups, dimensions, dimensions)
        for group, rows in _grouped(features - self.shift, sum(self.sizes), self.count, len(self.sizes)):
            self.sizes[group] += len(rows)
            self.sums[group] += rows.sum(0)
            self.products[group] += rows.T @ rows

    def statistics(self, groups: Sequence[int] | None = None) -> Statistics:
        """Of all features, or of those of some groups; the covariance is normalised by their number - 1."""
        chosen = list(range(len(self.sizes)) if groups is None else groups)
        count, total = sum(self.sizes[group] for group in chosen), self.sums[chosen].sum(0)
        covariance = (self.products[chosen].sum(0) - torch.outer(total, total) / count) / (count - 1)
        return Statistics(self.shift + total / count, covariance, count)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Squared Frechet distance of two Gaussians (Heusel et al., 2017): |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2).

    The trace of the root is that of the symmetric (C_b^1/2 C_a C_b^1/2)^1/2, from eigenvalues, on b's device. b keeps
    its root: of many distances to one reference, which is then b, only the first computes it.
    """
    mean, covariance = a.mean.to(b.mean.device), a.covariance.to(b.mean.device)
    product = b.root @ covariance @ b.root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean - b.mean).square().sum() + covariance.trace() + b.covariance.trace() - 2 * overlap
    return float(distance.clamp(min=0))  # rounding can leave a tiny negative number for equal inputs


def frechet_error(moments: Moments, reference: Statistics) -> float:
    """Standard error of the Frechet distance to a fixed reference, from two or more groups by the delete-a-group
    jackknife: ((G - 1) / G sum_g (d_g - mean d)^2)^1/2, where d_g is the distance without group g.

    It is frechet_infinity's too; of a distance that is hardly more than its bias it is up to twice too large.
    """
    groups = range(len(moments.sizes))
    distances = [
        frechet_distance(moments.statistics([group for group in groups if group != left_out]), reference)
        for left_out in groups
    ]
    return float(np.std(distances)) * math.sqrt(len(groups) - 1)


def frechet_infinity(moments: Moments, reference: Statistics) -> float:
    """The Frechet distance to a fixed reference that infinitely many samples would have (Chong & Forsyth, 2020): the
    value at 1/n = 0 of a line through the distances of half of two or more groups and more, up to all.

    The distance of few samples is biased upwards by about a constant over n. Noise can take this one below 0.
    """
    groups = len(moments.sizes)
    points = []
    for size in range((groups + 1) // 2, groups + 1):
        # Rotations until every group was taken equally often: which groups are far off does not tilt the line.
        starts = range(0, math.lcm(size, groups), size)
        subsets = (moments.statistics([(start + i) % groups for i in range(size)]) for start in starts)
        points.append(np.mean([(1 / subset.count, frechet_distance(subset, reference)) for subset in subsets], axis=0))
    return float(Polynomial.fit(*np.transpose(points), 1)(0))


def kernel_distance(
    features: torch.Tensor, reference: torch.Tensor, subsets: int, subset_size: int, seed: int
) -> tuple[float, float]:
    """Kernel distance (Binkowski et al., 2018) of features (N, D) to a reference's (M, D): mean and standard deviation,
    over random subsets of both, of the unbiased squared MMD with the kernel (x.y / D + 1)^3; in float64.

    Subsets have at most min(N, M) rows and are drawn from `seed`, 0..2^32 - 1, as torch-fidelity draws them.
    """
    size, draw = min(subset_size, len(features), len(reference)), np.random.RandomState(seed)
    arrays = [rows.double().cpu().numpy() for rows in (features, reference)]

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T * (1 / x.shape[1]) + 1) ** 3

    def without_diagonal(square: np.ndarray) -> float:
        return (square.sum(1) - np.diagonal(square)).sum()

    found = []
    for _ in range(subsets):
        x, y = (rows[draw.choice(len(rows), size, replace=False)] for rows in arrays)
        within = without_diagonal(kernel(x, x)) + without_diagonal(kernel(y, y))
        found.append(within / (size * (size - 1)) - 2 * kernel(x, y).sum(0).sum() / size**2)
    return float(np.mean(found)), float(np.std(found))


def _distances(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N, M) on the CPU of rows (N, D) from others (M, D)."""
    return torch.cat([torch.cdist(rows, part).cpu() for part in others.split(DISTANCES_AT_ONCE)], 1)


def _share_within(rows: torch.Tensor, centres: torch.Tensor, neighbours: int) -> float:
    """The share of the rows (N, D) in some ball around centres (M, D) that reaches its k-th nearest other centre."""
    # A batch's distances at a time, not N x M; each centre is its own nearest.
    radii = [_distances(part, centres).kthvalue(neighbours + 1).values for part in centres.split(DISTANCES_AT_ONCE)]
    reach = torch.cat(radii)
    within = [(_distances(part, centres) <= reach).any(1) for part in rows.split(DISTANCES_AT_ONCE)]
    return torch.cat(within).float().mean().item()


def precision_recall(features: torch.Tensor, reference: torch.Tensor, neighbours: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019) of features (N, D) to a reference's (M, D), in float64.

    Precision is the share of the features that lie in some ball around a reference's, whose radius is the distance to
    its k-th nearest neighbour in the reference; recall is the same with the two exchanged. k < min(N, M).
    """
    features, reference = features.double(), reference.double()
    return _share_within(features, reference, neighbours), _share_within(reference, features, neighbours)


class InceptionScore:
    """exp(E KL(p(y|x) || p(y))) (Salimans et al., 2016) over equal consecutive splits of `count` samples, whose logits
    are added in order as batches (B, K); in float64, on the logits' device."""

    def __init__(self, count: int, splits: int):
        self.count, self.sizes = count, [0] * splits
        self.sums, self.entropies = None, None

    def add(self, logits: torch.Tensor):
        probabilities = logits.double().softmax(1)
        if self.sums is None:
            self.sums = probabilities.new_zeros(len(self.sizes), probabilities.shape[1])
            self.entropies = probabilities.new_zeros(len(self.sizes))
        for split, p in _grouped(probabilities, sum(self.sizes), self.count, len(self.sizes)):
            self.sizes[split] += len(p)
            self.sums[split] += p.sum(0)
            self.entropies[split] += torch.special.xlogy(p, p).sum()

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation (of the population, as in the original) over the splits."""
        sizes = self.sums.new_tensor(self.sizes)
        marginal = self.sums / sizes[:, None]
        scores = (self.entropies / sizes - torch.special.xlogy(marginal, marginal).sum(1)).exp()
        return float(scores.mean()), float(scores.std(correction=0))
