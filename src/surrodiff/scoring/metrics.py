"""Distances of sets of features, precision and recall, and the Inception Score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.polynomial import Polynomial

from surrodiff.errors import UserError

BOUNDED_AT_ONCE = 4_000_000  # pairs of rows, of whose distances there are bounds
EXACT_AT_ONCE = 1000  # pairs, both of whose rows are copied
PAIRWISE_SHARE = 1 / 20  # of all pairs: beyond it, computing them all takes less time than picking some


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
    its root: of many distances to one reference, which is then b, only the first computes it. Raises UserError if a
    mean or a covariance is not finite.
    """
    for statistics in (a, b):
        if not (statistics.mean.isfinite().all() and statistics.covariance.isfinite().all()):
            raise UserError(f"the moments of {statistics.count} features are NaN or infinite; such cannot be scored")
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

    Subsets have at most min(N, M) rows and are drawn from `seed`, 0..2^32 - 1, as torch-fidelity draws them. Raises
    UserError if a feature is not finite.
    """
    require_finite(features, reference)
    size, draw = min(subset_size, len(features), len(reference)), np.random.RandomState(seed)
    arrays = [rows.double().cpu().numpy() for rows in (features, reference)]

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T * (1 / x.shape[1]) + 1) ** 3

    def without_diagonal(square: np.ndarray) -> float:
        return (square.sum(1) - np.diagonal(square)).sum()

    estimates = []
    for _ in range(subsets):
        x, y = (rows[draw.choice(len(rows), size, replace=False)] for rows in arrays)
        within = without_diagonal(kernel(x, x)) + without_diagonal(kernel(y, y))
        estimates.append(within / (size * (size - 1)) - 2 * kernel(x, y).sum(0).sum() / size**2)
    return float(np.mean(estimates)), float(np.std(estimates))


def require_finite(*sets: torch.Tensor):
    """Raise UserError if a set of features (N, D) has NaN or infinite ones, which no score would show as such."""
    for features in sets:
        rows = int((~features.isfinite()).any(1).sum())
        if rows:
            raise UserError(f"{rows} of {len(features)} rows of features are NaN or infinite; such cannot be scored")


def _parts(rows: torch.Tensor, others: torch.Tensor) -> Sequence[torch.Tensor]:
    """The rows (N, D) in parts whose distances from all others (M, D) fit into memory."""
    return rows.split(max(1, BOUNDED_AT_ONCE // len(others)))


def _screened(rows: torch.Tensor, others: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Between which bounds the squared distances of rows (N, D) from others (M, D) lie, (N, M) each, by one product
    of matrices, which is ten times as fast as `_exact` and leaves noise where rows are nearly equal. b: the others'
    squared norms (M,)."""
    a = rows.square().sum(1)[:, None]
    squares, sizes = a + b - 2 * rows @ others.T, a + b
    # Sums of D products in any order, of either way: each is off by at most D eps / 2 of the sizes; the rest is room.
    sizes *= 8 * (rows.shape[1] + 8) * torch.finfo(rows.dtype).eps
    return squares - sizes, squares + sizes


def _exact(rows: torch.Tensor, others: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N, M) of the pairs that are wanted, of the others infinite; from the differences, so that
    equal rows' is 0, and each pair's depends on that pair alone."""
    direct = partial(torch.cdist, compute_mode="donot_use_mm_for_euclid_dist")
    if wanted.double().mean() > PAIRWISE_SHARE:
        return direct(rows, others).where(wanted, torch.inf)
    distances = torch.full(wanted.shape, torch.inf, dtype=rows.dtype, device=rows.device)
    for i, j in zip(*(part.split(EXACT_AT_ONCE) for part in wanted.nonzero(as_tuple=True)), strict=True):
        distances[i, j] = direct(rows[i, None], others[j, None])[:, 0, 0]
    return distances


def nearest(rows: torch.Tensor, others: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers int64 (N, count) of the `others` (M, D) that are nearest to each of the rows (N, D), the nearest first;
    of equally near ones the lower number first. Distances are exact, in float64, whatever the blocks.

    `others` are copied as float64, the rows a block at a time. count <= M.
    """
    others, found = others.double(), []
    squares = others.square().sum(1)
    for part in _parts(rows, others):
        part = part.double()
        low, high = _screened(part, others, squares)
        near = low <= high.kthvalue(count, keepdim=True).values
        distances, (i, j) = _exact(part, others, near), near.nonzero(as_tuple=True)
        # By row, then by distance; j rises within a row, and so it does where both sorts leave ties alone.
        order = distances[i, j].argsort(stable=True)
        order = order[i[order].argsort(stable=True)]
        first = near.sum(1).cumsum(0) - near.sum(1)
        found.append(j[order][first[:, None] + torch.arange(count, device=j.device)])
    return torch.cat(found)


def _radii(centres: torch.Tensor, neighbours: int) -> torch.Tensor:
    """The distance (M,) of each of the centres (M, D) from its k-th nearest other centre."""
    radii, squares = [], centres.square().sum(1)
    for part in _parts(centres, centres):
        low, high = _screened(part, centres, squares)
        # Each is its own nearest, at 0. The k + 1 nearest are among those whose bounds do not rule it out.
        near = low <= high.kthvalue(neighbours + 1, keepdim=True).values
        radii.append(_exact(part, centres, near).kthvalue(neighbours + 1).values)
    return torch.cat(radii)


def _share_within(rows: torch.Tensor, centres: torch.Tensor, neighbours: int) -> float:
    """The share of the rows (N, D) in some closed ball around centres (M, D) that reaches its k-th nearest other
    centre."""
    # Each row once, and no more copies of a centre than decide its radius: equal ones would take as long as all pairs.
    rows, counts = rows.unique(dim=0, return_counts=True)
    centres, copies = centres.unique(dim=0, return_counts=True)
    centres = centres.repeat_interleave(copies.clamp(max=neighbours + 1), 0)
    radii, within = _radii(centres, neighbours), []
    low_radii, high_radii = (radii.square() * (1 + room) for room in (-1e-12, 1e-12))
    squares = centres.square().sum(1)
    for part in _parts(rows, centres):
        low, high = _screened(part, centres, squares)
        inside = (high <= low_radii).any(1)
        doubtful = (low <= high_radii) & ~inside[:, None]
        within.append(inside | (_exact(part, centres, doubtful) <= radii).any(1))
    return int(counts[torch.cat(within)].sum()) / int(counts.sum())


def precision_recall(features: torch.Tensor, reference: torch.Tensor, neighbours: int) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019) of features (N, D) to a reference's (M, D), in float64.

    Precision is the share of the features that lie in some ball around a reference's, its surface included, whose
    radius is the distance to its k-th nearest neighbour in the reference; recall is the same with the two exchanged.
    k < min(N, M). Distances are exact: equal features are 0 apart, and ties count as within, whatever the batches.
    Raises UserError if a feature is not finite.
    """
    require_finite(features, reference)
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
        """Mean and standard deviation (of the population, as in the original) over the splits.

        Raises UserError if there were NaN or infinite logits.
        """
        sizes = self.sums.new_tensor(self.sizes)
        marginal = self.sums / sizes[:, None]
        scores = (self.entropies / sizes - torch.special.xlogy(marginal, marginal).sum(1)).exp()
        if not scores.isfinite().all():
            raise UserError(f"the logits of {self.count} images are NaN or infinite; such cannot be scored")
        return float(scores.mean()), float(scores.std(correction=0))
