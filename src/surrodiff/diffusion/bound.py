"""One term of the variational bound of a DDPM (Nichol & Dhariwal, 2021, "Improved DDPM", equations 4 to 7)."""

import math

import torch
from torch.special import log_ndtr

from surrodiff.diffusion.prediction import Predicted, mean_and_sigma
from surrodiff.diffusion.schedule import Schedule

HALF_BIN = 1 / 255  # half the distance of two 8-bit values in [-1, 1]


def gaussian_kl(mean_q, sigma_q, mean_p, sigma_p) -> torch.Tensor:
    """KL(N(mean_q, sigma_q^2) || N(mean_p, sigma_p^2)) in nats, elementwise."""
    ratio = (sigma_q / sigma_p) ** 2
    return (((mean_q - mean_p) / sigma_p) ** 2 + ratio - 1 - torch.log(ratio)) / 2


def decoder_nll(x_0: torch.Tensor, mean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """-log of the mass of N(mean, sigma^2) in the bins of 8-bit values x_0 in [-1, 1], in nats, elementwise.

    The bins of -1 and 1 are open to their ends (Ho et al., 2020, equation 13).
    """
    lower = torch.where(x_0 - HALF_BIN < -1, -torch.inf, (x_0 - HALF_BIN - mean) / sigma)
    upper = torch.where(x_0 + HALF_BIN > 1, torch.inf, (x_0 + HALF_BIN - mean) / sigma)
    # Mirrored into the lower tail, where the logarithm of the distribution function keeps its digits.
    mirrored = lower + upper > 0
    lower, upper = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    log_upper = log_ndtr(upper)
    return -log_upper - torch.log(-torch.expm1(log_ndtr(lower) - log_upper))


def bound_term(schedule: Schedule, x_0: torch.Tensor, predicted: Predicted, clip_x0: bool = False) -> torch.Tensor:
    """The bound's term of the step from x_t, in bits per dimension, (B,): -log p(x_0 | x_t) at the first timestep that
    the schedule takes, else KL(q(x_{previous} | x_t, x_0) || p(x_{previous} | x_t)).

    x_0: (B, C, H, W) in [-1, 1], of 8-bit values; the t of `predicted` is an int or int64 (B,). All in float64: float32
    does not tell apart the means and variances of a short step, nor hold the slope of log_ndtr in its tail.
    """
    x_0, predicted = x_0.double(), predicted.double()
    x_t, t = predicted.x_t, predicted.t
    mean, sigma = mean_and_sigma(schedule, predicted, clip_x0)
    variance = schedule.posterior_variance.clone()
    variance[schedule.timesteps[0]] = 1.0  # of q at the first timestep, where its divergence is not used
    kl = gaussian_kl(schedule.posterior_mean(x_0, x_t, t), schedule.at(variance.sqrt(), t, x_t), mean, sigma)
    is_last = (schedule.draws == 0)[t]
    nats = torch.where(is_last, decoder_nll(x_0, mean, sigma).flatten(1).mean(1), kl.flatten(1).mean(1))
    return nats / math.log(2)
