"""One pass of a feature network over a set of images, and the set's scores against real images."""

from dataclasses import dataclass

import torch

from surrodiff.planning.runs import ReferenceConfig
from surrodiff.scoring import features
from surrodiff.scoring.metrics import (
    InceptionScore,
    Moments,
    Statistics,
    frechet_distance,
    frechet_error,
    frechet_infinity,
    kernel_distance,
    precision_recall,
)
from surrodiff.scoring.uncertainty import jackknife_groups

LEAST_COUNT = 4
FULL_COUNT = 50_000  # the number of samples of published distances, whose bias is part of the convention


@dataclass(frozen=True)
class Measured:
    """What one pass over a set of images leaves: moments of all features, the first `kept` features (K, D) float32, and
    the Inception Score's mean and standard deviation over its splits."""

    moments: Moments
    kept: torch.Tensor
    inception_score: tuple[float, float]


@dataclass(frozen=True)
class Real:
    """A split of the real images to score against: moments of all, and kept features (K, D)."""

    statistics: Statistics
    kept: torch.Tensor


def measure(
    network: features.FeatureNetwork,
    images: torch.Tensor,
    protocol: ReferenceConfig,
    device: torch.device,
    batch: int,
    what: str,
) -> Measured:
    """One pass of the feature network over uint8 images (N, C, H, W)."""
    moments = Moments(len(images), groups=jackknife_groups(len(images)))
    inception_score = InceptionScore(len(images), protocol.is_splits)
    kept, remaining = [], protocol.kept_features
    for vectors, logits in features.extract_all(network, images, device, batch, what):
        moments.add(vectors)
        inception_score.add(logits)
        kept.append(vectors[:remaining].cpu())
        remaining -= len(kept[-1])
    return Measured(moments, torch.cat(kept), inception_score.result())


def against(measured: Measured, real: Real, protocol: ReferenceConfig) -> dict[str, float]:
    """The distances of a measured set to a split of the real images (see metrics)."""
    kernel, kernel_std = kernel_distance(
        measured.kept, real.kept, subsets=protocol.kid_subsets, subset_size=protocol.kid_subset_size, seed=0
    )
    # Of a set that lacks classes there may be fewer images than neighbours.
    neighbours = min(protocol.neighbours, len(measured.kept) - 1)
    precision, recall = precision_recall(measured.kept, real.kept, neighbours)
    return {
        "frechet_distance": frechet_distance(measured.moments.statistics(), real.statistics),
        "kernel_distance": kernel,
        "kernel_distance_std": kernel_std,
        "precision": precision,
        "recall": recall,
    }


def uncertainty(measured: Measured, real: Real) -> dict[str, float | None]:
    """The Frechet distance's standard error, and its extrapolation to infinitely many samples: None for the published
    FULL_COUNT. Tens of distances each, so only against the split that tables compare with."""
    is_full = measured.moments.count >= FULL_COUNT
    return {
        "frechet_error": frechet_error(measured.moments, real.statistics),
        "frechet_infinity": None if is_full else frechet_infinity(measured.moments, real.statistics),
    }
