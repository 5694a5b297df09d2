"""Frechet distance and Inception Score from streamed features."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch


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
