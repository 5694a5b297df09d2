"""A linear multistep method of order 2 (Liu et al., 2022): DDIM's step without noise, by two evaluations' noise."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import Multistep
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.diffusion.schedule import Schedule


@dataclass
class MultistepProcess(ReverseProcess):
    """eps' = (3 eps - eps_before) / 2 in the place of eps; at the first step, which has none before it, eps itself."""

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """As ReverseProcess.run."""
        ends = dict(zip(self.schedule.timesteps, (0, *self.schedule.timesteps), strict=False))
        before = None
        for t in self.schedule.steps(t_start, t_stop):
            eps = self.predict(x_t, t).eps
            extrapolated = eps if before is None else (3 * eps - before) / 2
            x_0 = self.schedule.predict_x0(x_t, t, extrapolated)
            x_t, before = self.schedule.q_sample(x_0, ends[t], extrapolated), eps
            advance(len(index))
        return x_t


def process(settings: Multistep, diffusion: Diffusion, device, **made_from) -> MultistepProcess:
    """The process whose timesteps are the settings'."""
    return MultistepProcess(
        schedule=Schedule(diffusion, device=device, timesteps=settings.grid(diffusion)), **made_from
    )
