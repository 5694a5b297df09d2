"""What a training step minimises: losses at drawn timesteps (section 4.5), of k noises for IWDiff (3.1)."""

import math
from collections.abc import Callable
from functools import partial

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
    iwae: softmax over the negative losses, the normalised weights of equations 14 and 15 with log w = -l.
    uniform: 1/k each, the control with the same compute.
    """
    if weights == "uniform":
        return torch.full_like(losses, 1 / len(losses))
    sign = -1 if weights == "iwae" else 1
    return torch.softmax(losses.detach() * (sign * pixels if reduction == "sum" else sign), 0)


def noise_weights_of(objective: Objective, x_0: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The noise_weights of an objective, as a function of the losses (k, B) of images such as x_0 (B, C, H, W)."""
    own = {"weights": objective.weights, "reduction": objective.reduction, "pixels": math.prod(x_0.shape[1:])}
    return partial(noise_weights, **own)


def effective_noises(weights: torch.Tensor) -> torch.Tensor:
    """The effective sample size 1 / sum_i w_i^2 of weights (k, B) that sum to 1 over k, relative to k: (B,), from 1/k
    (one noise has all the weight) to 1 (equal weights)."""
    return 1 / (weights.square().sum(0) * len(weights))


def quartile_means(prefix: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means of values (B,), in the order of their t, over each quarter of them: `prefix`_t_q1, ..., `prefix`_t_q4.

    A value that lies in two quarters counts in both, so that batches of fewer than four have all of them, too.
    """
    count = len(values)
    quarters = [values[n * count // 4 : -(-(n + 1) * count // 4)] for n in range(4)]
    return {f"{prefix}_t_q{n}": quarter.mean() for n, quarter in enumerate(quarters, 1)}


def add_gradient(
    losses_of: Callable[[range], torch.Tensor],
    weights_of: Callable[[torch.Tensor], torch.Tensor],
    noises: list[range],
    factor: torch.Tensor | float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradient of factor * sum_i w_i l_i, summed over images; returns the losses l and weights w, (k, B).

    losses_of: the losses (len(range), B) of some of the k noises; weights_of: the weights of all k, held constant.
    noises: how the k noises are split: a sample's noises go together, because their weights depend on all k losses.
    Where they are split, the weights come from a pass without gradient, and the gradient from a second one.
    """
    is_whole = len(noises) == 1
    with torch.set_grad_enabled(is_whole):
        losses = torch.cat([losses_of(part) for part in noises])
    w = weights_of(losses)
    for part in noises:
        again = losses if is_whole else losses_of(part)
        (factor * w[part.start : part.stop] * again).sum().backward()
    return losses.detach(), w


def noise_ranges(k: int, most: int) -> list[range]:
    """The k noises of an image in ranges of at most `most`."""
    return [range(first, min(first + most, k)) for first in range(0, k, most)]


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

    def accumulate(
        self, denoiser: Denoiser, x_0: torch.Tensor, step: int, micro_batch: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Add the gradient of this step's objective on images x_0 (B, C, H, W) in [-1, 1]; returns the `loss`,
        detached, and of several noises the mean effective_noises of each quarter of the batch in the order of its t:
        quartiles of the t that were drawn, so that none is ever without images.

        With `micro_batch`, at most that many network evaluations are held at once; the gradient stays as it is (see
        add_gradient).

        Of several processes each adds the gradient of its share of the rows. The loss and the history of timesteps are
        those of the whole batch on all of them.
        """
        k, batch = self.objective.noises, len(x_0)
        most = micro_batch or k * batch
        chunks = noise_ranges(k, most)
        rows = torch.arange(batch, device=x_0.device)
        parts = distributed.local_rows(rows).split(max(1, most // k))
        t, weight = self._timesteps(Stream.TIMESTEP, step, rows)
        combined, effective, weights_of = [], [], noise_weights_of(self.objective, x_0)
        for part in parts:

            def losses_of(noises: range, part=part):
                return self._losses(denoiser, x_0[part], t[part], Stream.EPS, step, part, noises, batch)

            losses, w = add_gradient(losses_of, weights_of, chunks, weight[part] / batch)
            combined.append((w * losses).sum(0))
            effective.append(effective_noises(w))
        combined = distributed.gather_rows(torch.cat(combined), batch)
        self.sampler.update(t, combined)
        for extra in range(self.objective.extra_timestep_batches):
            number = self.objective.extra_timestep_batches * step + extra
            self._extra(denoiser, x_0, number, rows, parts, chunks)
        loss = {"loss": (weight * combined).mean()}
        if k == 1:
            return loss
        effective = distributed.gather_rows(torch.cat(effective), batch)
        return loss | quartile_means("effective_noises", effective[t.argsort(stable=True)])

    @torch.no_grad()
    def _extra(self, denoiser: Denoiser, x_0: torch.Tensor, number: int, rows, parts, chunks: list[range]):
        """One more batch of timesteps whose losses only enter the history ("Importance Sampling +2")."""
        batch, combined = len(x_0), []
        t, _ = self._timesteps(Stream.EXTRA_TIMESTEP, number, rows)
        for part in parts:
            own = (denoiser, x_0[part], t[part], Stream.EXTRA_EPS, number, part)
            losses = torch.cat([self._losses(*own, noises, batch) for noises in chunks])
            combined.append((noise_weights_of(self.objective, x_0)(losses) * losses).sum(0))
        self.sampler.update(t, distributed.gather_rows(torch.cat(combined), batch))

    @torch.no_grad()
    def uniform_loss(
        self, denoiser: Denoiser, x_0: torch.Tensor, step: int, micro_batch: int | None = None
    ) -> dict[str, torch.Tensor]:
        """L_simple on x_0 at uniform t, the same noises for every objective: `loss_uniform_t`, what Figure 4.3
        compares, and its mean over each quartile of 1..T, `loss_t_q1` to `loss_t_q4`.

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
        losses = distributed.gather_rows(torch.cat(losses), batch)
        return {"loss_uniform_t": losses.mean(), **quartile_means("loss", losses)}
