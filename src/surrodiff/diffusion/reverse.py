"""Samplers: from sample numbers to images. All have one signature, and sample i depends on (seed, i) alone.

A sampler takes `index`, int64 (B,) sample numbers, and returns float images (B, C, S, S) in about [-1, 1]; `advance`,
if given, is called with the number of images after each evaluation of a network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from surrodiff.diffusion.objectives import Denoiser
from surrodiff.diffusion.schedule import Schedule
from surrodiff.runtime import noise
from surrodiff.runtime.noise import Stream

Advance = Callable[[int], None]


class Sampler(Protocol):
    """What every sampler offers; `hands_over_x_t` says that its result is a noisy x_tmid and no image.

    reverse: the reverse process that ends it, None for a generator alone, which has its network as `generator`.
    """

    hands_over_x_t: bool
    reverse: "ReverseProcess | None"

    def __call__(self, index: torch.Tensor, advance: Advance = ...) -> torch.Tensor: ...


def no_progress(count: int):
    """Count nothing."""


@dataclass(frozen=True)
class ReverseProcess:
    """A trained diffusion: its network, its schedule and how its steps are taken.

    clip_x0: clip the predicted x_0 to [-1, 1] before each step's mean (the paper's code does not).
    compiled: what makes compiled code of the function that takes a step, if it is worth it (see acceleration).
    """

    denoiser: Denoiser
    schedule: Schedule
    shape: tuple[int, int, int]
    seed: int
    clip_x0: bool = False
    stream: Stream = Stream.REVERSE
    compiled: Callable[[Callable], Callable] = lambda function: function

    def __post_init__(self):
        object.__setattr__(self, "_take", self.compiled(self._step))

    def prior(self, index: torch.Tensor) -> torch.Tensor:
        """x_T ~ N(0, I), (B, *shape)."""
        # Step T + 1 of the stream; the reverse steps themselves draw at t = T, ..., 2.
        return noise.normal(self.seed, self.stream, self.schedule.T + 1, index, self.shape)

    def predict_eps(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        """The network's noise at one timestep for the whole batch."""
        return self.denoiser(x_t, self._timesteps(x_t, t)).float()

    def step(self, x_t: torch.Tensor, t: int, index: torch.Tensor) -> torch.Tensor:
        """x_{t-1} from x_t (Algorithm 2, lines 3 and 4)."""
        return self._take(x_t, self._timesteps(x_t, t), index)

    @torch.inference_mode()
    def probe(self, index: torch.Tensor):
        """One evaluation as it is, not compiled, to see what memory it takes."""
        self.predict_eps(self.prior(index), self.schedule.T)

    def _timesteps(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        return torch.full((len(x_t),), t, device=x_t.device)

    def _step(self, x_t: torch.Tensor, t: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        # t is a tensor (B,) and decides nothing here, so that one compiled step serves all timesteps.
        eps = self.denoiser(x_t, t).float()
        if self.clip_x0:
            x_0 = self.schedule.predict_x0(x_t, t, eps).clamp(-1, 1)
            mean = self.schedule.posterior_mean(x_0, x_t, t)
        else:
            mean = self.schedule.reverse_mean(x_t, t, eps)
        z = noise.normal(self.seed, self.stream, t, index, self.shape)
        return mean + self.schedule.at(self.schedule.added, t, x_t) * z

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """x_{t_stop} from x_{t_start}: steps t = t_start, ..., t_stop + 1; no step if they are equal."""
        for t in range(t_start, t_stop, -1):
            x_t = self.step(x_t, t, index)
            advance(len(index))
        return x_t
