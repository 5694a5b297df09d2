"""How the gradient of a diffusion's objective varies over its noises, at one timestep of a fixed batch."""

from collections.abc import Iterable

import torch

from surrodiff.config.diffusion import Objective
from surrodiff.diffusion.losses import NoiseLosses
from surrodiff.diffusion.objectives import add_gradient, effective_noises, noise_ranges, noise_weights_of
from surrodiff.diffusion.prediction import Denoiser
from surrodiff.diffusion.schedule import Schedule
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream


def diagnose(
    objective: Objective,
    schedule: Schedule,
    denoiser: Denoiser,
    parameters: Iterable[torch.nn.Parameter],
    x_0: torch.Tensor,
    t: int,
    *,
    seed: int,
    repetitions: int,
    most: int,
) -> torch.Tensor:
    """What the objective does at timestep t on images x_0 (n, C, H, W) in [-1, 1], float64 (4,), by R >= 2 repetitions
    of the k noises of every image (planning.measures.DIAGNOSED names them):

    effective_sample_size: the mean over images and repetitions of 1 / (k sum_i w_i^2).
    loss: the mean of all n R k losses, without weights, as the objective has them (see losses.NoiseLosses).
    gradient_variance: trace of the covariance over noises of the gradient g = (1/n) sum_images sum_i w_i dl_i, by
      v = sum_r |g_r - m|^2 / (R - 1) with m = sum_r g_r / R: unbiased.
    gradient_square: the squared norm of the mean gradient, |E g|^2, by |m|^2 - v / R: unbiased, so that it may be
      negative where the noise is much larger.

    The weights of timesteps that an importance sampler gives are no part of it. A noise depends on (seed, t, r, its
    number, the image's place) alone. At most `most` evaluations of the network are held at once, which changes nothing
    beyond rounding. The parameters' gradients are overwritten.
    """
    parameters, count, k = list(parameters), len(x_0), objective.noises
    losses_at, weights_of = NoiseLosses(objective, schedule), noise_weights_of(objective, x_0)
    ranges = noise_ranges(k, most)
    effective, loss, square = (torch.zeros((), dtype=torch.float64, device=x_0.device) for _ in range(3))
    total = 0.0
    for repetition in range(repetitions):
        for parameter in parameters:
            parameter.grad = None
        for part in torch.arange(count, device=x_0.device).split(max(1, most // k)):

            def losses_of(noises: range, part=part, first=repetition * k):
                rows = torch.cat([part + count * (first + j) for j in noises])
                eps = noise.normal(seed, Stream.DIAGNOSIS, t, rows, x_0.shape[1:]).unflatten(0, (len(noises), -1))
                return losses_at(denoiser, x_0[part], torch.full_like(part, t), eps)

            losses, w = add_gradient(losses_of, weights_of, ranges, 1 / count)
            effective += effective_noises(w).sum()
            loss += losses.sum()
        gradient = torch.cat([parameter.grad.flatten().double() for parameter in parameters])
        total = total + gradient
        square += gradient @ gradient
    mean = total / repetitions
    variance = (square - repetitions * (mean @ mean)) / (repetitions - 1)
    images = count * repetitions
    return torch.stack([effective / images, loss / (images * k), variance, mean @ mean - variance / repetitions])
