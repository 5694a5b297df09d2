"""The variational bound of a DDPM in bits per dimension (Nichol & Dhariwal, 2021, "Improved DDPM")."""

import math

import torch

from surrodiff.diffusion.bound import bound_term, gaussian_kl
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream


@torch.inference_mode()
def variational_bound(
    reverse: ReverseProcess, x_0: torch.Tensor, index: torch.Tensor, advance: Advance = no_progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms (B, K + 1) of the bound on -log p(x_0), float64, in bits per dimension, by a process of K timesteps; an
    image's bound is their sum. And the mean of v over an image at each of these timesteps, (B, K), where its network
    has learned a variance, else NaN.

    x_0: float32 (B, C, H, W) in [-1, 1], of 8-bit values. index: int64 (B,); image i's noise depends on
    (reverse.seed, index[i]) alone.
    Entry 0 is the prior's L_T = KL(q(x_T | x_0) || N(0, I)), entry 1 the decoder's L_0 = -log p(x_0 | x_1), the others
    L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), each of one x_t ~ q(x_t | x_0).
    """
    schedule, exact = reverse.schedule, x_0.double()
    last = schedule.timesteps[-1]
    prior = gaussian_kl(schedule.signal[last] * exact, schedule.noise[last], 0, 1).flatten(1).mean(1)
    terms, learned = [prior / math.log(2)], []
    for t in schedule.timesteps:
        x_t = schedule.q_sample(x_0, t, noise.normal(reverse.seed, Stream.BOUND, t, index, reverse.shape))
        predicted = reverse.predict(x_t, t)
        terms.append(bound_term(schedule, exact, predicted, reverse.clip_x0))
        nothing = exact.new_full((len(index),), torch.nan)
        learned.append(nothing if predicted.v is None else predicted.v.double().flatten(1).mean(1))
        advance(len(index))
    return torch.stack(terms, 1), torch.stack(learned, 1)
