"""Euler's and Heun's method on the probability-flow equation (Karras et al., 2022, algorithm 1): with x = x_t / signal
and sigma = noise / signal, dx / dsigma is the predicted eps."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import Euler, Heun
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.diffusion.schedule import Schedule


@dataclass
class EquationProcess(ReverseProcess):
    """corrects: Heun's method, which takes the mean of the slopes at both ends of a step, but for the last step, at
    whose end sigma is 0. Euler's method takes that at its beginning, which is DDIM with eta 0, and written as such:
    x_t / signal alone would lose, where little signal is left, what is to be kept of a clipped x_0."""

    corrects: bool = False

    def __post_init__(self):
        schedule = self.schedule
        sigma = schedule.noise / schedule.signal
        signal, noise = schedule.signal[schedule.previous], schedule.noise[schedule.previous]
        self.of_x_0 = signal
        self.of_eps = noise
        self.of_slope = signal * (sigma[schedule.previous] - sigma)
        super().__post_init__()

    def _step(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x_{previous} by the slope at x_t, and the slope."""
        x_0, slope = self._predicted(x_t, t)
        schedule = self.schedule
        return schedule.at(self.of_x_0, t, x_t) * x_0 + schedule.at(self.of_eps, t, x_t) * slope, slope

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """As ReverseProcess.run."""
        taken = self.schedule.timesteps
        ends = dict(zip(taken, (0, *taken), strict=False))
        for t in self.schedule.steps(t_start, t_stop):
            x_t, slope = self._take(x_t, self._timesteps(x_t, t))
            advance(len(index))
            if self.corrects and ends[t]:
                _, other = self._take(x_t, self._timesteps(x_t, ends[t]))
                x_t = x_t + self.schedule.at(self.of_slope, t, x_t) * (other - slope) / 2
                advance(len(index))
        return x_t


def process(settings: Euler | Heun, diffusion: Diffusion, device, **made_from) -> EquationProcess:
    """As ancestral.process."""
    schedule = Schedule(diffusion, device=device, timesteps=settings.grid(diffusion))
    corrects = isinstance(settings, Heun)
    return EquationProcess(schedule=schedule, clip_x0=settings.clip_x0, corrects=corrects, **made_from)
