"""UniPC of order 2 with B_2(h) (Zhao et al., 2023): each evaluation also corrects the step that led to it."""

from dataclasses import dataclass

import torch

from surrodiff.config.diffusion import Diffusion
from surrodiff.config.samplers import UniPC
from surrodiff.diffusion.reverse import Advance, no_progress
from surrodiff.diffusion.schedule import Schedule
from surrodiff.sampling.dpm_solver import DPMSolverProcess


@dataclass(frozen=True)
class UniPCProcess(DPMSolverProcess):
    """UniP, which predicts, takes the steps of DPM-Solver++ (2M). UniC, which corrects, takes the step that led to x_t
    once more with the prediction of x_0 at x_t as well; by half of what that changes where the step was the first."""

    def __post_init__(self):
        super().__post_init__()
        log_ratio = torch.log(self.schedule.signal / self.schedule.noise)
        taken = torch.tensor(self.schedule.timesteps, device=log_ratio.device)
        # weights[n, t]: of the n-th step, 2 for all later ones (see _step).
        weights = log_ratio.new_zeros(3, len(log_ratio), 6)
        begin, t = taken[1:], taken[:-1]  # of the step that led to t
        weights[1:, t, 0], weights[1:, t, 1] = self.of_x_t[begin], self.of_x_0[begin]
        weights[1, t, 3], weights[1:, :, 4], weights[1:, t, 5] = 0.5, self.extrapolated, 1
        before, begin, t = taken[2:], taken[1:-1], taken[:-2]
        h = log_ratio[t] - log_ratio[begin]
        r = (log_ratio[begin] - log_ratio[before]) / h
        phi_1 = -torch.expm1(-h) / h
        b_1, b_2 = (1 - phi_1) / (h * phi_1), (h - 2 + 2 * phi_1) / (h**2 * phi_1)
        weights[2, t, 2] = (b_1 - b_2) / (1 + r) / r
        weights[2, t, 3] = b_1 - (b_1 - b_2) / (1 + r)
        object.__setattr__(self, "weights", weights)

    def _step(self, x_t, t, weights, x_before, x_0_before, x_0_earlier):
        """x_{previous}, the corrected x_t and the predicted x_0; of the step before, what it began from."""
        x_0, _ = self._predicted(x_t, t)
        of_x, of_x_0, of_earlier, of_new, extrapolated, corrects = weights.to(x_t.dtype)
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
            weights, before = self.weights[min(number, 2), t], x_0
            x_t, corrected, x_0 = self._take(x_t, self._timesteps(x_t, t), weights, corrected, x_0, earlier)
            earlier = before
            advance(len(index))
        return x_t


def process(settings: UniPC, diffusion: Diffusion, device, **made_from) -> UniPCProcess:
    """As ancestral.process."""
    schedule = Schedule(diffusion, device=device, timesteps=settings.grid(diffusion))
    return UniPCProcess(schedule=schedule, clip_x0=settings.clip_x0, **made_from)
