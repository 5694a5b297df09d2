"""UniPC of order 2 with B_2(h) (Zhao et al., 2023): each evaluation also corrects the step that led to it."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import UniPC
from surrodiff.diffusion.reverse import Advance, no_progress
from surrodiff.diffusion.schedule import Schedule
from surrodiff.sampling.dpm_solver import DPMSolverProcess


@dataclass
class UniPCProcess(DPMSolverProcess):
    """UniP, which predicts, takes the steps of DPM-Solver++ (2M). UniC, which corrects, takes the step that led to x_t
    once more with the prediction of x_0 at x_t as well; by half of what that changes where the step was the first."""

    def __post_init__(self):
        super().__post_init__()
        log_ratio = torch.log(self.schedule.signal / self.schedule.noise)
        taken = torch.tensor(self.schedule.timesteps, device=log_ratio.device)
        # The factors at x_t, of which the step that led there began at the timestep taken next above: those of the
        # second evaluation of a chain, and those of all later ones. The first corrects nothing.
        begin, t = taken[1:], taken[:-1]
        of_x, of_x_0, of_new, of_earlier = log_ratio.new_zeros(4, len(log_ratio))
        of_x[t], of_x_0[t], of_new[t] = self.of_x_t[begin], self.of_x_0[begin], 0.5
        corrects = torch.ones_like(log_ratio)
        second = torch.stack([of_x, of_x_0, of_earlier, of_new, self.extrapolated, corrects], 1)
        before, begin, t = taken[2:], taken[1:-1], taken[:-2]
        h = log_ratio[t] - log_ratio[begin]
        r = (log_ratio[begin] - log_ratio[before]) / h
        phi_1 = -torch.expm1(-h) / h
        b_1, b_2 = (1 - phi_1) / (h * phi_1), (h - 2 + 2 * phi_1) / (h**2 * phi_1)
        of_earlier, of_new = torch.zeros_like(log_ratio), torch.zeros_like(log_ratio)
        of_earlier[t] = (b_1 - b_2) / (1 + r) / r
        of_new[t] = b_1 - (b_1 - b_2) / (1 + r)
        later = torch.stack([of_x, of_x_0, of_earlier, of_new, self.extrapolated, corrects], 1)
        self.factors = torch.stack([torch.zeros_like(second), second, later])

    def _step(self, x_t, t, factors, x_before, x_0_before, x_0_earlier):
        """x_{previous}, the corrected x_t and the predicted x_0; of the step before, what it began from."""
        x_0, _ = self._predicted(x_t, t)
        of_x, of_x_0, of_earlier, of_new, extrapolated, corrects = factors.to(x_t.dtype)
        straight = x_0_before + of_earlier * (x_0_before - x_0_earlier) + of_new * (x_0 - x_0_before)
        x_t = corrects * (of_x * x_before + of_x_0 * straight) + (1 - corrects) * x_t
        straight = x_0 + extrapolated * (x_0 - x_0_before)
        schedule = self.schedule
        return schedule.at(self.of_x_t, t, x_t) * x_t + schedule.at(self.of_x_0, t, x_t) * straight, x_t, x_0

    @torch.inference_mode()
    def run(
        self, x_t, index: torch.Tensor, t_start: int, t_stop: int = 0, advance: Advance = no_progress
    ) -> torch.Tensor:
        """As ReverseProcess.run."""
        # Three tensors: one alone in their places would be compiled for by itself.
        corrected, x_0, earlier = (torch.zeros_like(x_t) for _ in range(3))
        for number, t in enumerate(self.schedule.steps(t_start, t_stop)):
            factors, before = self.factors[min(number, 2), t], x_0
            x_t, corrected, x_0 = self._take(x_t, self._timesteps(x_t, t), factors, corrected, x_0, earlier)
            earlier = before
            advance(len(index))
        return x_t


def process(settings: UniPC, diffusion: Diffusion, device, **made_from) -> UniPCProcess:
    """As ancestral.process."""
    schedule = Schedule(diffusion, device=device, timesteps=settings.grid(diffusion))
    return UniPCProcess(schedule=schedule, clip_x0=settings.clip_x0, **made_from)
