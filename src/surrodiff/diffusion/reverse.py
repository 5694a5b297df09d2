"""Samplers: from sample numbers to images. All have one signature, and sample i depends on (seed, i) alone.

A sampler takes `index`, int64 (B,) sample numbers, and returns float images (B, C, S, S) in about [-1, 1]; `advance`,
if given, is called with the number of images after each evaluation of a network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from surrodiff.diffusion.prediction import PREDICTIONS, Denoiser, Predicted, mean_and_sigma, predict
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


@dataclass
class ReverseProcess:
    """A trained diffusion: its network, its schedule and how its steps are taken, here as in Algorithm 2.

    clip_x0: clip the predicted x_0 to [-1, 1] before each step (the paper's code does not).
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
        self.prediction = PREDICTIONS[self.schedule.prediction](self.schedule)
        self._take = self.compiled(self._step)

    def prior(self, index: torch.Tensor) -> torch.Tensor:
        """x_T ~ N(0, I), (B, *shape): the same for every sampler."""
        # Step T + 1 of the stream; the reverse steps themselves draw at t = T, ..., 2.
        return noise.normal(self.seed, self.stream, self.schedule.T + 1, index, self.shape)

    def predict(self, x_t: torch.Tensor, t: int) -> Predicted:
        """What the network says at one timestep for the whole batch."""
        return predict(self.denoiser, self.prediction, x_t, self._timesteps(x_t, t))

    def step(self, x_t: torch.Tensor, t: int, index: torch.Tensor) -> torch.Tensor:
        """x_{previous} from x_t (Algorithm 2, lines 3 and 4)."""
        return self._take(x_t, self._timesteps(x_t, t), index)

    @torch.inference_mode()
    def probe(self, index: torch.Tensor):
        """One evaluation as it is, not compiled, to see what memory it takes."""
        self.predict(self.prior(index), self.schedule.T)

    def _timesteps(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        return torch.full((len(x_t),), t, device=x_t.device)

    # In what may be compiled, t is a tensor (B,) and decides nothing, so that one compiled step serves all timesteps.

    def _predicted(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The x_0 and the eps of x_t that belong together: eps anew where x_0 is clipped."""
        predicted = predict(self.denoiser, self.prediction, x_t, t)
        if not self.clip_x0:
            return predicted.x_0, predicted.eps
        x_0 = predicted.x_0.clamp(-1, 1)
        return x_0, self.schedule.predict_eps(x_t, t, x_0)

    def _step(self, x_t: torch.Tensor, t: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        predicted = predict(self.denoiser, self.prediction, x_t, t)
        mean, sigma = mean_and_sigma(self.schedule, predicted, self.clip_x0)
        z = noise.normal(self.seed, self.stream, t, index, self.shape)
        return mean + self.schedule.at(self.schedule.draws, t, x_t) * sigma * z

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """x_{t_stop} from x_{t_start}: a step from each timestep between them; none if they are equal."""
        for t in self.schedule.steps(t_start, t_stop):
            x_t = self.step(x_t, t, index)
            advance(len(index))
        return x_t
