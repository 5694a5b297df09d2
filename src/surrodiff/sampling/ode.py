"""Euler's and Heun's method on the probability-flow equation (Karras et al., 2022, algorithm 1): with x = x_t / signal
and sigma = noise / signal, dx / dsigma is the predicted eps."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import Euler, Heun
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.diffusion.schedule import Schedule


@dataclass(frozen=True)
class EquationProcess(ReverseProcess):
    """corrects: Heun's method, which takes the mean of the slopes at both ends of a step, but for the last step, at
    whose end sigma is 0. Euler's method takes that at its beginning, which is DDIM with eta 0."""

    corrects: bool = False

    def __post_init__(self):
        schedule = self.schedule
        sigma = schedule.noise / schedule.signal
        signal = schedule.signal[schedule.previous]
        object.__setattr__(self, "of_x_t", signal / schedule.signal)
        object.__setattr__(self, "of_slope", signal * (sigma[schedule.previous] - sigma))
        super().__post_init__()

    def _step(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """The slope at x_t."""
        return self._predicted(x_t, t)[1]

    def _moved(self, x_t: torch.Tensor, t: int, slope: torch.Tensor) -> torch.Tensor:
        """x_{previous} by a slope."""
        return self.schedule.at(self.of_x_t, t, x_t) * x_t + self.schedule.at(self.of_slope, t, x_t) * slope

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """As ReverseProcess.run."""
        ends = {t: int(end) for t, end in enumerate(self.schedule.previous.tolist())}
        for t in self.schedule.steps(t_start, t_stop):
            slope = self._take(x_t, self._timesteps(x_t, t))
            x, end = self._moved(x_t, t, slope), ends[t]
            advance(len(index))
            if self.corrects and end:
                x = self._moved(x_t, t, (slope + self._take(x, self._timesteps(x, end))) / 2)
                advance(len(index))
            x_t = x
        return x_t


def process(settings: Euler | Heun, diffusion: Diffusion, device, **made_from) -> EquationProcess:
    """As ancestral.process."""
    schedule = Schedule(diffusion, device=device, timesteps=settings.grid(diffusion))
    corrects = isinstance(settings, Heun)
    return EquationProcess(schedule=schedule, clip_x0=settings.clip_x0, corrects=corrects, **made_from)
