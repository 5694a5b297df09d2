"""How noise grows with t: the betas of t = 1, ..., T of each published schedule, in plain floating point."""

import functools
import math
from itertools import accumulate, pairwise

SCHEDULES = ("linear", "cosine", "sigmoid", "karras")
MOST_BETA = 0.999  # Nichol & Dhariwal (2021): what the end of a schedule is clipped to
COSINE_OFFSET = 0.008
SIGMOID_ENDS = (-3.0, 3.0)
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # Karras et al. (2022), table 1


def _linear(T: int, beta_1: float, beta_T: float) -> list[float]:
    """Evenly from beta_1 to beta_T, counted from the nearer end (Ho et al., 2020)."""
    slope = (beta_T - beta_1) / (T - 1)
    return [beta_1 + slope * i if i < T // 2 else beta_T - slope * (T - 1 - i) for i in range(T)]


def _of_alpha_bar(alpha_bar: list[float]) -> list[float]:
    """Betas of alpha_bar at t = 0, ..., T, clipped."""
    return [min(1 - after / before, MOST_BETA) for before, after in pairwise(alpha_bar)]


def _cosine(T: int) -> list[float]:
    """alpha_bar is a squared cosine of t (Nichol & Dhariwal, 2021, equation 17)."""
    angles = [(t / T + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2 for t in range(T + 1)]
    return _of_alpha_bar([math.cos(angle) ** 2 for angle in angles])


def _sigmoid(T: int) -> list[float]:
    """alpha_bar is a sigmoid of t, moved and scaled to begin at 1 and to end at 0 (Jabri et al., 2022)."""
    first, last = SIGMOID_ENDS
    values = [1 / (1 + math.exp(first + (last - first) * t / T)) for t in range(T + 1)]
    return _of_alpha_bar([(value - values[-1]) / (values[0] - values[-1]) for value in values])


def _karras(T: int) -> list[float]:
    """sigma_t, the noise over the signal, is a power of t between its ends (Karras et al., 2022, equation 5)."""
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    variances = [0.0] + [(low + (high - low) * t / (T - 1)) ** (2 * RHO) for t in range(T)]
    return [(after - before) / (1 + after) for before, after in pairwise(variances)]


@functools.lru_cache(1000)
def betas(
    schedule: str, T: int, beta_1: float | None, beta_T: float | None, rescaled_from: int | None
) -> tuple[float, ...]:
    """The variances of the forward steps t = 1, ..., T (see config.diffusion)."""
    if schedule != "linear":
        return tuple({"cosine": _cosine, "sigmoid": _sigmoid, "karras": _karras}[schedule](T))
    scale = 1 if rescaled_from is None else rescaled_from / T
    return tuple(min(scale * beta, MOST_BETA) if scale != 1 else beta for beta in _linear(T, beta_1, beta_T))


@functools.lru_cache(1000)
def log_alpha_bar(of: tuple[float, ...]) -> tuple[float, ...]:
    """log alpha_bar at t = 0, ..., T, of the betas at t = 1, ..., T."""
    return tuple(accumulate((math.log1p(-beta) for beta in of), initial=0.0))
