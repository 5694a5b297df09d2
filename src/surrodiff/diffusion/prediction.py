"""What a network's output says of an x_t: the noise, the image, v, or EDM's preconditioned image, one class each.

A network's output has the channels of x_t, and as many more where it tells the variance of a reverse step. Everything
here is linear in x_t and in that output.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from surrodiff.diffusion.schedule import Schedule

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # x_t (B, C, H, W), t (B,) -> (B, C or 2 C, H, W)
SIGMA_DATA = 0.5  # Karras et al.'s (2022) standard deviation of images in [-1, 1]


class Eps:
    """The noise (Ho et al., 2020)."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        # How far an error of the output goes into x_0.
        self.x0_scale = schedule.noise / schedule.signal

    def given(self, x_t: torch.Tensor, t) -> torch.Tensor:
        """What the network sees of x_t."""
        return x_t

    def target(self, x_0: torch.Tensor, eps: torch.Tensor, t) -> torch.Tensor:
        """What the output should be where x_t was made of x_0 and eps."""
        return eps

    def eps(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        """The noise in x_t."""
        return output

    def x_0(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        """The image in x_t."""
        return self.schedule.predict_x0(x_t, t, output)


class X0(Eps):
    """The image itself (Ho et al., 2020, section 3.2)."""

    def __init__(self, schedule: Schedule):
        self.schedule, self.x0_scale = schedule, torch.ones_like(schedule.signal)

    def target(self, x_0: torch.Tensor, eps: torch.Tensor, t) -> torch.Tensor:
        return x_0

    def eps(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        return self.schedule.predict_eps(x_t, t, self.x_0(output, x_t, t))

    def x_0(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        return output


class V(X0):
    """v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans & Ho, 2022, appendix D)."""

    def __init__(self, schedule: Schedule):
        self.schedule, self.x0_scale = schedule, schedule.noise

    def target(self, x_0: torch.Tensor, eps: torch.Tensor, t) -> torch.Tensor:
        return (
            self.schedule.at(self.schedule.signal, t, x_0) * eps - self.schedule.at(self.schedule.noise, t, x_0) * x_0
        )

    def eps(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        return (
            self.schedule.at(self.schedule.noise, t, x_t) * x_t
            + self.schedule.at(self.schedule.signal, t, x_t) * output
        )

    def x_0(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        return (
            self.schedule.at(self.schedule.signal, t, x_t) * x_t
            - self.schedule.at(self.schedule.noise, t, x_t) * output
        )


class EDM(X0):
    """Karras et al. (2022), table 1: x_0 is c_skip x + c_out times the output, of which the network sees c_in x; here x
    is x_t / sqrt(alpha_bar_t), whose noise has the standard deviation sigma."""

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        sigma, signal = schedule.noise / schedule.signal, schedule.signal
        total = (sigma**2 + SIGMA_DATA**2).sqrt()
        # By x_t instead of x.
        self.c_in, self.c_skip = 1 / (total * signal), SIGMA_DATA**2 / total**2 / signal
        self.c_out = self.x0_scale = sigma * SIGMA_DATA / total
        # The target, (x_0 - c_skip x) / c_out, of x_0 and eps.
        self.of_x_0, self.of_eps = sigma / (SIGMA_DATA * total), -SIGMA_DATA / total

    def given(self, x_t: torch.Tensor, t) -> torch.Tensor:
        return self.schedule.at(self.c_in, t, x_t) * x_t

    def target(self, x_0: torch.Tensor, eps: torch.Tensor, t) -> torch.Tensor:
        return self.schedule.at(self.of_x_0, t, x_0) * x_0 + self.schedule.at(self.of_eps, t, x_0) * eps

    def x_0(self, output: torch.Tensor, x_t: torch.Tensor, t) -> torch.Tensor:
        return self.schedule.at(self.c_skip, t, x_t) * x_t + self.schedule.at(self.c_out, t, x_t) * output


# By the word of `diffusion.prediction`.
PREDICTIONS = {"eps": Eps, "x0": X0, "v": V, "edm": EDM}


@dataclass(frozen=True)
class Predicted:
    """What a network says of x_t at t: its `output` for the image or the noise, and `v`, where a learned variance lies
    between its ends, about 0 to 1; None of a network that learned none."""

    prediction: Eps
    output: torch.Tensor
    v: torch.Tensor | None
    x_t: torch.Tensor
    t: int | torch.Tensor

    @property
    def eps(self) -> torch.Tensor:
        return self.prediction.eps(self.output, self.x_t, self.t)

    @property
    def x_0(self) -> torch.Tensor:
        return self.prediction.x_0(self.output, self.x_t, self.t)

    def double(self) -> "Predicted":
        """The same in float64."""
        v = None if self.v is None else self.v.double()
        return replace(self, output=self.output.double(), v=v, x_t=self.x_t.double())

    def with_fixed_mean(self) -> "Predicted":
        """The same, but that no gradient reaches the network's first half."""
        return replace(self, output=self.output.detach())


def predict(denoiser: Denoiser, prediction: Eps, x_t: torch.Tensor, t: torch.Tensor) -> Predicted:
    """Evaluate a network on images x_t (B, C, H, W) at t, int64 (B,); what it says is of x_t's precision."""
    output = denoiser(prediction.given(x_t, t), t).to(x_t.dtype)
    channels = x_t.shape[1]
    v = (output[:, channels:] + 1) / 2 if output.shape[1] > channels else None
    return Predicted(prediction, output[:, :channels], v, x_t, t)


def mean_and_sigma(
    schedule: Schedule, predicted: Predicted, clip_x0: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of p(x_{previous} | x_t) (Algorithm 2; section 2.2.1 where the variance is learned):
    what training, sampling and the likelihood mean by the model.

    clip_x0: the mean is that of the predicted x_0, clipped to [-1, 1]. Raises ValueError where the schedule asks for a
    learned variance of a network that has none.
    """
    x_t, t = predicted.x_t, predicted.t
    if clip_x0:
        mean = schedule.posterior_mean(predicted.x_0.clamp(-1, 1), x_t, t)
    else:
        mean = schedule.reverse_mean(x_t, t, predicted.eps)
    if schedule.variance != "learned":
        return mean, schedule.at(schedule.sigma, t, x_t)
    if predicted.v is None:
        raise ValueError("this network has learned no variance")
    v = predicted.v
    log_variance = v * schedule.at(schedule.log_large, t, x_t) + (1 - v) * schedule.at(schedule.log_small, t, x_t)
    return mean, (log_variance / 2).exp()
