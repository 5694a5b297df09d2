"""The deterministic steps of DDIM (Song et al., 2021), `stride` timesteps at a time."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import Strided
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.diffusion.schedule import Schedule


@dataclass(frozen=True)
class StridedProcess(ReverseProcess):
    """A trained diffusion that goes from x_t to x_{t - stride} in one step, and a shorter one at the end."""

    stride: int = 1

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        for t in range(t_start, t_stop, -self.stride):
            eps = self.predict_eps(x_t, t)
            x_0 = self.schedule.predict_x0(x_t, t, eps)
            x_t = self.schedule.q_sample(x_0, max(t - self.stride, t_stop), eps)
            advance(len(index))
        return x_t


def process(settings: Strided, diffusion: Diffusion, device, **made_from) -> StridedProcess:
    """The process whose steps are `stride` timesteps long."""
    return StridedProcess(schedule=Schedule(diffusion, device=device), stride=settings.stride, **made_from)
