"""The variational bound of a DDPM in bits per dimension (Nichol and Dhariwal, 2021, "Improved DDPM")."""

import math

import torch
from torch.special import log_ndtr

from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

HALF_BIN = 1 / 255  # half the distance of two 8-bit values in [-1, 1]


def gaussian_kl(mean_q, sigma_q, mean_p, sigma_p) -> torch.Tensor:
    """KL(N(mean_q, sigma_q^2) || N(mean_p, sigma_p^2)) in nats, elementwise."""
    ratio = (sigma_q / sigma_p) ** 2
    return (((mean_q - mean_p) / sigma_p) ** 2 + ratio - 1 - torch.log(ratio)) / 2


def decoder_nll(x_0: torch.Tensor, mean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """-log of the mass of N(mean, sigma^2) in the bins of 8-bit values x_0 in [-1, 1], in nats, elementwise, float64.

    The bins of -1 and 1 are open to their ends (Ho et al., 2020, equation 13).
    """
    lower = torch.where(x_0 - HALF_BIN < -1, -torch.inf, (x_0 - HALF_BIN - mean) / sigma)
    upper = torch.where(x_0 + HALF_BIN > 1, torch.inf, (x_0 + HALF_BIN - mean) / sigma)
    # Mirrored into the lower tail, where the logarithm of the distribution function keeps its digits.
    mirrored = lower + upper > 0
    lower, upper = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    log_upper = log_ndtr(upper)
    return -log_upper - torch.log(-torch.expm1(log_ndtr(lower) - log_upper))


@torch.inference_mode()
def variational_bound(
    reverse: ReverseProcess, x_0: torch.Tensor, index: torch.Tensor, advance: Advance = no_progress
) -> torch.Tensor:
    """Terms (B, T + 1) of the bound on -log p(x_0), float64, in bits per dimension; an image's bound is their sum.

    x_0: float32 (B, C, H, W) in [-1, 1], of 8-bit values. index: int64 (B,); image i's noise depends on
    (reverse.seed, index[i]) alone.
    Entry 0 is the prior's L_T = KL(q(x_T | x_0) || N(0, I)), entry 1 the decoder's L_0 = -log p(x_0 | x_1), entry
    t > 1 is L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), each of one x_t ~ q(x_t | x_0).
    """
    schedule, exact = reverse.schedule, x_0.double()
    nats = [gaussian_kl(schedule.signal[-1] * exact, schedule.noise[-1], 0, 1).flatten(1).mean(1)]
    for t in range(1, schedule.T + 1):
        x_t = schedule.q_sample(x_0, t, noise.normal(reverse.seed, Stream.BOUND, t, index, reverse.shape))
        eps, x_t = reverse.predict_eps(x_t, t).double(), x_t.double()
        predicted = schedule.predict_x0(x_t, t, eps)
        if reverse.clip_x0:
            predicted = predicted.clamp(-1, 1)
        mean, sigma = schedule.posterior_mean(predicted, x_t, t), schedule.sigma[t]
        if t == 1:
            term = decoder_nll(exact, mean, sigma)
        else:
            posterior_mean = schedule.posterior_mean(exact, x_t, t)
            term = gaussian_kl(posterior_mean, schedule.posterior_variance[t].sqrt(), mean, sigma)
        nats.append(term.flatten(1).mean(1))
        advance(len(index))
    return torch.stack(nats, 1) / math.log(2)
