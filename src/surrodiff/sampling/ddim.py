"""DDIM (Song et al., 2021, equation 12): the same marginals with less noise in each step, or none."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import DDIM
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.runtime import noise


@dataclass
class DDIMProcess(ReverseProcess):
    """x_{previous} = signal x_0 + sqrt(noise^2 - added^2) eps + added z; added: eta times the posterior's deviation."""

    eta: float = 0.0

    def __post_init__(self):
        schedule = self.schedule
        added = self.eta * schedule.posterior_variance.sqrt()
        added[0] = 0
        self.added = added
        kept = (schedule.noise[schedule.previous] ** 2 - added**2).clamp(min=0).sqrt()
        self.kept = kept
        super().__post_init__()

    def _step(self, x_t: torch.Tensor, t: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        x_0, eps = self._predicted(x_t, t)
        schedule = self.schedule
        x = schedule.at(schedule.signal[schedule.previous], t, x_t) * x_0 + schedule.at(self.kept, t, x_t) * eps
        if self.eta == 0:
            return x
        return x + schedule.at(self.added, t, x_t) * noise.normal(self.seed, self.stream, t, index, self.shape)


def process(settings: DDIM, diffusion: Diffusion, device, **made_from) -> DDIMProcess:
    """As ancestral.process."""
    schedule = Schedule(diffusion, device=device, timesteps=settings.grid(diffusion))
    return DDIMProcess(schedule=schedule, clip_x0=settings.clip_x0, eta=settings.eta, **made_from)
