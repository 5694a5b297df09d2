"""How noise grows with t, what a network predicts of it, and what its training minimises."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from surrodiff.config import schedules
from surrodiff.config.fields import Fraction, Grown, Timesteps
from surrodiff.config.schedules import SCHEDULES

MOST_EXTRA_BATCHES = 100
MOST_NOISES = 1_000
LEAST_SIGNAL = 1e-30  # of x_0 in x_T, which predicting x_0 divides by, in float32


class Diffusion(Grown):
    """How noise grows with t = 1, ..., T (config.schedules), and what the network predicts of an x_t.

    beta_1, beta_T: of the linear schedule alone, at t = 1 and T; with rescaled_from, times rescaled_from / T, so that
    beta_1 and beta_T are those of a diffusion of so many steps (Nichol & Dhariwal, 2021). Other schedules have none.
    prediction: the noise `eps`, the image `x0`, `v` (Salimans & Ho, 2022), or `edm`, Karras et al.'s (2022).
    """

    later = ("schedule", "beta_1", "beta_T", "rescaled_from", "prediction")

    T: Timesteps
    schedule: Literal[SCHEDULES] = "linear"
    beta_1: Fraction | None = None
    beta_T: Fraction | None = None
    rescaled_from: Timesteps | None = None
    prediction: Literal["eps", "x0", "v", "edm"] = "eps"

    @field_validator("beta_1", "beta_T", "rescaled_from")
    @classmethod
    def _of_its_schedule(cls, value: Any, info: ValidationInfo):
        # A difference from a linear schedule still has that one's ends, which mean nothing here.
        return value if info.data.get("schedule", "linear") == "linear" else None

    @model_validator(mode="after")
    def _check(self):
        if self.schedule == "linear":
            for key in ("beta_1", "beta_T"):
                if getattr(self, key) is None:
                    raise ValueError(f"{key}: missing; a linear schedule has both ends")
            if self.beta_1 > self.beta_T:
                raise ValueError(f"beta_1: {self.beta_1} is beyond beta_T = {self.beta_T}; noise grows with t")
        if self.signal_and_noise(self.T)[0] < LEAST_SIGNAL:
            raise ValueError(f"T: after {self.T} steps x_T keeps less than {LEAST_SIGNAL} of x_0; lower T or beta_T")
        return self

    def betas(self) -> tuple[float, ...]:
        """The variances of the forward steps t = 1, ..., T."""
        return schedules.betas(self.schedule, self.T, self.beta_1, self.beta_T, self.rescaled_from)

    def signal_and_noise(self, t: int) -> tuple[float, float]:
        """The factors of x_0 and of the noise in x_t: sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)."""
        log = schedules.log_alpha_bar(self.betas())[t]
        return math.exp(log / 2), math.sqrt(-math.expm1(log))

    def noises_like(self, other: "Diffusion") -> bool:
        """Whether x_t means the same in another diffusion, whatever their networks predict."""
        return self.betas() == other.betas()


class Objective(Grown):
    """What one training step minimises (section 4.5): `noises` is k of IWDiff (3.1), `weights` how the k losses are
    weighted (by softmax(+l), as Algorithm 3 prints; equally; or by softmax(-l), which equations 14 and 15 give),
    `reduction` whether those weights see a loss as the mean or the sum over pixels.

    loss: the squared error of what the network predicts (`simple`), that with 0.001 of the variational bound, whose
    gradient only reaches the variance (`hybrid`), or the bound (`vlb`). weighting: of the squared error over t: none
    (`simple`), Hang et al.'s (2023) minimum of the signal-to-noise ratio and 5 (`min_snr`), or what it has in the bound
    of a fixed variance (`vlb`). timesteps: drawn uniformly, by `importance`, or with Karras et al.'s (2022) `lognormal`
    distribution of the noise.
    """

    later = ("loss", "weighting")

    timesteps: Literal["uniform", "importance", "lognormal"]
    extra_timestep_batches: Annotated[int, Field(ge=0, le=MOST_EXTRA_BATCHES)]
    noises: Annotated[int, Field(ge=1, le=MOST_NOISES)]
    weights: Literal["importance", "uniform", "iwae"]
    reduction: Literal["mean", "sum"]
    loss: Literal["simple", "hybrid", "vlb"] = "simple"
    weighting: Literal["simple", "min_snr", "vlb"] = "simple"

    @model_validator(mode="after")
    def _check(self):
        if self.extra_timestep_batches and self.timesteps != "importance":
            raise ValueError("extra_timestep_batches: only `timesteps: importance` keeps a history to add to")
        if self.loss == "vlb" and self.weighting != "simple":
            raise ValueError(
                f"weighting: {self.weighting} weighs the squared error, and `loss: vlb` has none; write simple, or "
                "`loss: simple` or `hybrid`"
            )
        if self.loss == "vlb" and self.timesteps == "lognormal":
            raise ValueError(
                "timesteps: lognormal draws some t more often without weighing them less, so that `loss: vlb` would be "
                "no bound; write uniform or importance"
            )
        return self
