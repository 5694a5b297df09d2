"""Frechet distance and Inception Score from streamed features."""

from dataclasses import dataclass

import torch


class Moments:
    """Mean and covariance of features (B, D) added batch by batch, in float64, in constant memory."""

    def __init__(self):
        self.count, self.shift, self.sum, self.products = 0, None, None, None

    def add(self, features: torch.Tensor):
        features = features.double()
        if self.shift is None:  # sums around a typical value keep their digits
            self.shift = features.mean(0)
            self.sum = torch.zeros_like(self.shift)
            self.products = torch.zeros(len(self.shift), len(self.shift), dtype=torch.float64)
        centred = features - self.shift
        self.count += len(features)
        self.sum += centred.sum(0)
        self.products += centred.T @ centred

    @property
    def mean(self) -> torch.Tensor:
        """(D,)"""
        return self.shift + self.sum / self.count

    @property
    def covariance(self) -> torch.Tensor:
        """(D, D), normalised by count - 1."""
        return (self.products - torch.outer(self.sum, self.sum) / self.count) / (self.count - 1)


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of `count` feature vectors, float64."""

    mean: torch.Tensor
    covariance: torch.Tensor
    count: int


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Squared Frechet distance of two Gaussians (Heusel et al., 2017): |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2).

    The trace of the root is that of the symmetric (C_a^1/2 C_b C_a^1/2)^1/2, from eigenvalues; covariances may be
    rank-deficient.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = root @ b.covariance @ root
    overlap = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return float(distance.clamp(min=0))  # rounding can leave a tiny negative number for equal inputs


class InceptionScore:
    """exp(E KL(p(y|x) || p(y))) (Salimans et al., 2016) over equal consecutive splits, from probabilities (B, K)."""

    def __init__(self, count: int, splits: int):
        self.bounds = [round(count * i / splits) for i in range(1, splits + 1)]
        self.sizes = [0] * splits
        self.entropies = torch.zeros(splits, dtype=torch.float64)
        self.sums: torch.Tensor | None = None
        self.seen = 0

    def add(self, probabilities: torch.Tensor):
        probabilities = probabilities.double()
        if self.sums is None:
            self.sums = torch.zeros(len(self.bounds), probabilities.shape[1], dtype=torch.float64)
        split = torch.bucketize(
            torch.arange(self.seen, self.seen + len(probabilities)), torch.tensor(self.bounds), right=True
        )
        for number in split.unique().tolist():
            p = probabilities[split == number]
            self.sizes[number] += len(p)
            self.sums[number] += p.sum(0)
            self.entropies[number] += torch.special.xlogy(p, p).sum()
        self.seen += len(probabilities)

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation (of the population, as in the original) over the splits."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        marginal = self.sums / sizes[:, None]
        scores = (self.entropies / sizes - torch.special.xlogy(marginal, marginal).sum(1)).exp()
        return float(scores.mean()), float(scores.std(correction=0))
