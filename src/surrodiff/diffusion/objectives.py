"""What a training step minimises: losses at drawn timesteps (section 4.5), of k noises for IWDiff (3.1)."""

import math
from collections.abc import Callable

import torch

from surrodiff.config.diffusion import Objective
from surrodiff.diffusion.losses import NoiseLosses
from surrodiff.diffusion.prediction import Denoiser
from surrodiff.diffusion.schedule import Schedule
from surrodiff.diffusion.timesteps import TIMESTEPS, Uniform
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.noise import Stream

# Called before every evaluation with the rows, int64, of the whole batch that it is for: (stream, number, rows, total).
BeforeForward = Callable[[Stream, int, torch.Tensor, int], None]


def _nothing(stream: Stream, number: int, rows: torch.Tensor, total: int):
    pass


def noise_weights(losses: torch.Tensor, weights: str, reduction: str, pixels: int) -> torch.Tensor:
    """How the k losses of a sample are weighted: (k, B) mean-over-pixel losses to (k, B) weights that sum to 1 over k.

    importance: Algorithm 3's softmax over the losses, where a loss is the mean over pixels (nearly even weights, the
    author's code) or their sum (nearly one-hot, Algorithm 3 as printed), by `reduction`.
    uniform: 1/k each, the control with the same compute.
    """
    if weights == "uniform":
        return torch.full_like(losses, 1 / len(losses))
    return torch.softmax(losses.detach() * (pixels if reduction == "sum" else 1), 0)


class ObjectiveGradient:
    """Accumulates the gradient of one step's objective; holds the history of importance-sampled timesteps.

    The loss that is differentiated is always a mean over pixels, whatever `reduction` the weights see: a sum would be
    3,072 times larger, and the clipping of the gradient's norm would turn it into another optimiser.
    """

    def __init__(self, objective: Objective, schedule: Schedule, seed: int, before_forward: BeforeForward = _nothing):
        self.objective, self.schedule, self.seed, self.before_forward = objective, schedule, seed, before_forward
        self.losses = NoiseLosses(objective, schedule)
        self.sampler = TIMESTEPS[objective.timesteps](schedule)

    def _timesteps(self, stream: Stream, step: int, index: torch.Tensor):
        return self.sampler.draw(noise.uniform(self.seed, stream, step, index)[:, 0])

    def _losses(
        self, denoiser: Denoiser, x_0, t, stream: Stream, number: int, rows: torch.Tensor, noises: range, batch: int
    ):
        """Losses (len(noises), B) of the given noises of images x_0 (B, C, H, W), `rows` of a batch of `batch`."""
        draws = torch.cat([rows + batch * j for j in noises])
        eps = noise.normal(self.seed, stream, number, draws, x_0.shape[1:]).unflatten(0, (len(noises), -1))
        self.before_forward(stream, number, draws, self.objective.noises * batch)
        return self.losses(denoiser, x_0, t, eps)

    def accumulate(self, denoiser: Denoiser, x_0: torch.Tensor, step: int, micro_batch: int | None = None):
        """Add the gradient of this step's objective on images x_0 (B, C, H, W) in [-1, 1]; returns the loss, detached.

        With `micro_batch`, at most that many network evaluations are held at once; the gradient stays as it is. A
        sample's k noises go together, because their weights depend on all k losses. Where not even k fit, the weights
        come from a pass without gradient, and the gradient from a second one.

        Of several processes each adds the gradient of its share of the rows. The loss and the history of timesteps are
        those of the whole batch on all of them.
        """
        k, batch = self.objective.noises, len(x_0)
        most = micro_batch or k * batch
        chunks = [range(first, min(first + most, k)) for first in range(0, k, most)]
        rows = torch.arange(batch, device=x_0.device)
        parts = distributed.local_rows(rows).split(max(1, most // k))
        t, weight = self._timesteps(Stream.TIMESTEP, step, rows)
        combined = []
        for part in parts:

            def losses_of(noises: range, part=part):
                return self._losses(denoiser, x_0[part], t[part], Stream.EPS, step, part, noises, batch)

            with torch.set_grad_enabled(len(chunks) == 1):
                losses = torch.cat([losses_of(noises) for noises in chunks])
            w = self._noise_weights(losses, x_0)
            for noises in chunks:
                again = losses if len(chunks) == 1 else losses_of(noises)
                (weight[part] * w[noises.start : noises.stop] * again).sum().div(batch).backward()
            combined.append((w * losses.detach()).sum(0))
        combined = distributed.gather_rows(torch.cat(combined), batch)
        self.sampler.update(t, combined)
        for extra in range(self.objective.extra_timestep_batches):
            number = self.objective.extra_timestep_batches * step + extra
            self._extra(denoiser, x_0, number, rows, parts, chunks)
        return (weight * combined).mean()

    def _noise_weights(self, losses: torch.Tensor, x_0: torch.Tensor) -> torch.Tensor:
        return noise_weights(losses, self.objective.weights, self.objective.reduction, math.prod(x_0.shape[1:]))

    @torch.no_grad()
    def _extra(self, denoiser: Denoiser, x_0: torch.Tensor, number: int, rows, parts, chunks: list[range]):
        """One more batch of timesteps whose losses only enter the history ("Importance Sampling +2")."""
        batch, combined = len(x_0), []
        t, _ = self._timesteps(Stream.EXTRA_TIMESTEP, number, rows)
        for part in parts:
            own = (denoiser, x_0[part], t[part], Stream.EXTRA_EPS, number, part)
            losses = torch.cat([self._losses(*own, noises, batch) for noises in chunks])
            combined.append((self._noise_weights(losses, x_0) * losses).sum(0))
        self.sampler.update(t, distributed.gather_rows(torch.cat(combined), batch))

    @torch.no_grad()
    def uniform_loss(self, denoiser: Denoiser, x_0: torch.Tensor, step: int, micro_batch: int | None = None):
        """L_simple on x_0 at uniform t, the same noises for every objective: what Figure 4.3 compares.

        Image i of B takes its t from the i-th of B equal parts of 1..T. The mean is that of independent t, but most of
        its noise is gone: the loss depends on t more than on anything else.
        """
        batch = len(x_0)
        index = torch.arange(batch, device=x_0.device)
        u = (index + noise.uniform(self.seed, Stream.LOG_TIMESTEP, step, index)[:, 0]) / batch
        t, _ = Uniform(self.schedule.T).draw(u)
        eps = noise.normal(self.seed, Stream.LOG_EPS, step, index, x_0.shape[1:])
        losses = []
        for part in distributed.local_rows(index).split(micro_batch or batch):
            self.before_forward(Stream.LOG_EPS, step, part, batch)
            losses.append(self.losses.eps_errors(denoiser, x_0[part], t[part], eps[part]))
        return distributed.gather_rows(torch.cat(losses), batch).mean()
