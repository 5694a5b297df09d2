"""The loss of one noise of one image: L_simple, its weightings over t, L_hybrid and L_vlb (section 2.2.1)."""

import torch

from surrodiff.config.diffusion import Objective
from surrodiff.diffusion.bound import bound_term
from surrodiff.diffusion.prediction import PREDICTIONS, Denoiser, Eps, predict
from surrodiff.diffusion.schedule import Schedule

HYBRID_SHARE = 0.001  # of L_vlb in L_hybrid (Nichol & Dhariwal, 2021)
MOST_SNR = 5.0  # gamma of Hang et al. (2023)


def _constant(schedule: Schedule, prediction: Eps) -> torch.Tensor:
    return torch.ones_like(schedule.signal)


def _min_snr(schedule: Schedule, prediction: Eps) -> torch.Tensor:
    """min(SNR, 5) on the squared error of x_0 (Hang et al., 2023, equation 8)."""
    snr = (schedule.signal / schedule.noise) ** 2
    return snr.clamp(max=MOST_SNR) * prediction.x0_scale**2


def _vlb(schedule: Schedule, prediction: Eps) -> torch.Tensor:
    """What the squared error has in T times the bound's term at t, in bits, with the variance fixed_small (Ho et al.,
    2020, equation 12): half the step's change of the SNR on the squared error of x_0."""
    small = (schedule.log_small / 2).exp()
    of_x0 = (schedule.posterior_x0 / small) ** 2 / 2
    return schedule.T * of_x0 * prediction.x0_scale**2 / torch.log(torch.tensor(2.0, dtype=torch.float64))


# By the word of `objective.weighting`: tables over t, of the squared error of the network's output.
WEIGHTINGS = {"simple": _constant, "min_snr": _min_snr, "vlb": _vlb}


class NoiseLosses:
    """A loss for each of several noises of each image, as an objective says. schedule: of all timesteps, its variance
    `learned` where the network's is."""

    def __init__(self, objective: Objective, schedule: Schedule):
        self.objective, self.schedule = objective, schedule
        self.prediction = PREDICTIONS[schedule.prediction](schedule)
        self.weighting = WEIGHTINGS[objective.weighting](schedule, self.prediction)

    def __call__(self, denoiser: Denoiser, x_0: torch.Tensor, t: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Losses (k, B) of images x_0 (B, C, H, W) at t (B,) with noises eps (k, B, C, H, W).

        simple: the squared error of the network's output, mean over pixels (equation 6), times the weighting. vlb: T
        times the bound's term at t in bits per dimension, whose mean over t is the bound but for the prior. hybrid: the
        first and 0.001 of the second, whose mean has no gradient.
        """
        k, loss = len(eps), self.objective.loss
        eps, t, x_0 = eps.flatten(0, 1), t.repeat(k), x_0.repeat(k, 1, 1, 1)
        predicted = predict(denoiser, self.prediction, self.schedule.q_sample(x_0, t, eps), t)
        losses = torch.zeros((), device=x_0.device)
        if loss != "vlb":
            error = (self.prediction.target(x_0, eps, t) - predicted.output).square().flatten(1).mean(1)
            weighted = self.objective.weighting != "simple"
            losses = error * self.weighting[t].to(error.dtype) if weighted else error
        if loss != "simple":
            hybrid = loss == "hybrid"
            term = bound_term(self.schedule, x_0, predicted.with_fixed_mean() if hybrid else predicted)
            losses = losses + (term * self.schedule.T * (HYBRID_SHARE if hybrid else 1)).float()
        return losses.reshape(k, -1)

    def eps_errors(self, denoiser: Denoiser, x_0: torch.Tensor, t: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Mean over pixels of ||eps - eps_theta(x_t, t)||^2 (equation 6), (B,), whatever the network predicts; eps
        (B, C, H, W)."""
        predicted = predict(denoiser, self.prediction, self.schedule.q_sample(x_0, t, eps), t)
        return (eps - predicted.eps).square().flatten(1).mean(1)
