"""What refinement does to an image: how far it moves it, and whether its nearest training image stays the same.

Sample i of the surrogate, x~_0, belongs to refined sample i, x_0. What chance gives is what the same two sets show
where x~_0 of one number is paired with x_0 of another.
"""

import math

import torch

from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream
from surrodiff.scoring.metrics import nearest, require_finite

PAIRINGS = 10  # of different numbers, whose mean distance stands for that of all pairs
NEIGHBOURS = 10
_AT_ONCE = 1000  # rows that are copied as float64


def _error(parts: torch.Tensor) -> float:
    """Standard error of a mean of independent parts (N,)."""
    return float(parts.std()) / math.sqrt(len(parts))


def _distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N,) of the rows of two sets (N, D), float64."""
    pairs = zip(a.split(_AT_ONCE), b.split(_AT_ONCE), strict=True)
    return torch.cat([(x.double() - y.double()).square().sum(1).sqrt() for x, y in pairs])


def movement(surrogate: torch.Tensor, refined: torch.Tensor) -> dict[str, float]:
    """How far refinement moves rows (N, D): `distance`, the mean Euclidean distance of x~_0 from its x_0, and
    `relative`, the same in units of the mean distance of an x~_0 from another's x_0, each with its standard error over
    images. 2 <= N.

    An image's part in a ratio m / c of means is that of the delta method, (m_i - (m / c) c_i) / c, where c_i has both
    pairings that it is in.
    """
    count = len(refined)
    order = noise.permutation(0, Stream.SCORING, 0, count).to(refined.device)
    moved = _distances(surrogate, refined)
    others, pairings = torch.zeros_like(moved), min(PAIRINGS, count - 1)
    for shift in range(1, pairings + 1):
        partner = order.roll(shift)
        apart = _distances(surrogate[order], refined[partner])
        others.index_add_(0, order, apart).index_add_(0, partner, apart)
    others /= pairings  # of each image: its mean distance from others' x_0, and that of its x_0 from others' x~_0
    chance = (others.mean() / 2).clamp(min=torch.finfo(others.dtype).tiny)  # all images may be equal
    ratio = moved.mean() / chance
    return {
        "distance": float(moved.mean()),
        "distance_error": _error(moved),
        "relative": float(ratio),
        "relative_error": _error((moved - ratio * others) / chance),
    }


def _shared(surrogate: torch.Tensor, refined: torch.Tensor, total: int) -> tuple[float, float, float, float]:
    """The share of images whose x~_0's training image (N,) is among those of its x_0 (N, k), of `total`; the share that
    chance gives; and the standard errors of the share and of what it has above chance.

    Chance is the mean over all pairs of different numbers, exactly. The share's error is Agresti and Coull's (1998), as
    if two more images had kept theirs and two had not: it does not vanish where all do or none. The other is that of
    each image's part, the delta method's, and no smaller.
    """
    count = len(refined)
    kept = (refined == surrogate[:, None]).any(1).double()
    of_surrogate = torch.bincount(surrogate, minlength=total)
    of_refined = torch.bincount(refined.flatten(), minlength=total)
    # Of each image, in how many pairs with others its x~_0, or its x_0, shares a training image by chance.
    as_surrogate = (of_refined[surrogate] - kept) / (count - 1)
    as_refined = (of_surrogate[refined].sum(1) - kept) / (count - 1)
    share, chance, more = float(kept.mean()), float(as_surrogate.mean()), count + 4
    error = math.sqrt((share * count + 2) * ((1 - share) * count + 2) / more) / more
    return share, chance, error, max(error, _error(kept - as_surrogate - as_refined))


def neighbours(surrogate: torch.Tensor, refined: torch.Tensor, training: torch.Tensor) -> dict[str, float]:
    """Whether an image's nearest training image stays, for rows (N, D) and training images (M, D): `kept`, the share of
    images for which that of x~_0 is that of x_0, `kept_by_chance`, and `above_chance`, their difference, with standard
    errors over images; `within` and `within_by_chance`, the same for that of x~_0 being among the NEIGHBOURS nearest of
    x_0."""
    count = min(NEIGHBOURS, len(training))
    first, several = nearest(surrogate, training, 1)[:, 0], nearest(refined, training, count)
    kept, by_chance, error, above_error = _shared(first, several[:, :1], len(training))
    within, within_by_chance, _, _ = _shared(first, several, len(training))
    return {
        "kept": kept,
        "kept_error": error,
        "kept_by_chance": by_chance,
        "above_chance": kept - by_chance,
        "above_chance_error": above_error,
        "within": within,
        "within_by_chance": within_by_chance,
    }


def compare(surrogate: torch.Tensor, refined: torch.Tensor, training: torch.Tensor) -> dict[str, float]:
    """`movement` and `neighbours` of rows (N, D), any numbers, and training images (M, D), all on one device.

    Raises UserError if one is not finite.
    """
    require_finite(surrogate, refined, training)
    return movement(surrogate, refined) | neighbours(surrogate, refined, training)
