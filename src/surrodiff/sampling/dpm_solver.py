"""DPM-Solver++ (2M) (Lu et al., 2022, "DPM-Solver++", algorithm 2): the equation of the image's prediction, in log SNR,
solved with the predictions of two steps."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import DPMSolver
from surrodiff.diffusion.reverse import Advance, ReverseProcess, no_progress
from surrodiff.diffusion.schedule import Schedule


@dataclass
class DPMSolverProcess(ReverseProcess):
    """A step is exact for a prediction of x_0 that is linear in the half log SNR, as the last two evaluations say. The
    first step has one of these, and the last one, whose log SNR is infinite, uses one: they are DDIM's with eta 0."""

    def __post_init__(self):
        schedule = self.schedule
        log_ratio = torch.log(schedule.signal / schedule.noise)
        taken = torch.tensor(schedule.timesteps, device=log_ratio.device)
        before, at, after = taken[2:], taken[1:-1], taken[:-2]
        # 1 / (2 r), r being the step before over this one, both in half log SNR.
        extrapolated = torch.zeros_like(log_ratio)
        extrapolated[at] = (log_ratio[after] - log_ratio[at]) / (log_ratio[at] - log_ratio[before]) / 2
        self.extrapolated = extrapolated
        of_x_t = schedule.noise[schedule.previous] / schedule.noise
        self.of_x_t = of_x_t
        self.of_x_0 = schedule.signal[schedule.previous] - schedule.signal * of_x_t
        super().__post_init__()

    def _step(
        self, x_t: torch.Tensor, t: torch.Tensor, x_0_before: torch.Tensor, extrapolated: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x_0, _ = self._predicted(x_t, t)
        straight = x_0 + extrapolated.to(x_0.dtype) * (x_0 - x_0_before)
        schedule = self.schedule
        return schedule.at(self.of_x_t, t, x_t) * x_t + schedule.at(self.of_x_0, t, x_t) * straight, x_0

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """As ReverseProcess.run."""
        steps = self.schedule.steps(t_start, t_stop)
        x_0 = torch.zeros_like(x_t)
        for t in steps:
            extrapolated = self.extrapolated[t] * (t != steps[0])
            x_t, x_0 = self._take(x_t, self._timesteps(x_t, t), x_0, extrapolated)
            advance(len(index))
        return x_t


def process(settings: DPMSolver, diffusion: Diffusion, device, **made_from) -> DPMSolverProcess:
    """As ancestral.process."""
    schedule = Schedule(diffusion, device=device, timesteps=settings.grid(diffusion))
    return DPMSolverProcess(schedule=schedule, clip_x0=settings.clip_x0, **made_from)
