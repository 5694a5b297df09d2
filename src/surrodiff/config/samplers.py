"""How samples are drawn from a diffusion: one class for each kind of sampler, with what its steps depend on."""

from typing import Annotated, Literal

from pydantic import Field

from surrodiff.config.models import Block


class Ancestral(Block):
    """Algorithm 2: one step of the reverse process for each timestep.

    variance: of its noise, beta_t (`fixed_large`) or that of the posterior (`fixed_small`); clip_x0: the predicted x_0
    is clipped to [-1, 1] before each step's mean (the paper's code does not).
    """

    kind: Literal["ancestral"]
    variance: Literal["fixed_large", "fixed_small"]
    clip_x0: bool

    def evaluations(self, t_start: int, t_stop: int = 0) -> int:
        """How often the network is evaluated for one image on the way from x_{t_start} to x_{t_stop}."""
        return t_start - t_stop


Sampler = Ancestral  # every kind of sampler; with a second: Ancestral | Other
OneSampler = Annotated[Sampler, Field(discriminator="kind")]
