"""The blocks of `params.yaml` that describe a model: network, schedule, objective, training."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["auto", "float32", "bfloat16"]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Network(Block):
    """The UNet of Ho et al. (2020) with standard or MBConv blocks; level 0 is the input's resolution."""

    block: Literal["standard", "mbconv"]
    base_channels: Count
    channel_multipliers: Annotated[list[Count], Field(min_length=1)]
    num_res_blocks: Count
    attention_levels: list[Natural]
    groups: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _check(self):
        if max(self.attention_levels, default=0) >= len(self.channel_multipliers):
            raise ValueError(
                f"attention_levels: levels are 0 to {len(self.channel_multipliers) - 1}, got {self.attention_levels}"
            )
        for channels in {self.base_channels * m for m in self.channel_multipliers}:
            if channels % self.groups:
                raise ValueError(f"groups: {self.groups} does not divide a level's {channels} channels")
        if self.base_channels % 2:
            raise ValueError("base_channels: must be even (pairs of sine and cosine in the timestep embedding)")
        return self


class Diffusion(Block):
    """A linear schedule: beta_1 at t = 1 to beta_T at t = T."""

    T: Annotated[int, Field(ge=2)]
    beta_1: Fraction
    beta_T: Fraction


class Objective(Block):
    """What one training step minimises (section 4.4): `noises` is k of IWDiff, `weights` how the k losses are
    weighted, `reduction` whether those weights see a loss as the mean or the sum over pixels."""

    timesteps: Literal["uniform", "importance"]
    extra_timestep_batches: Natural
    noises: Count
    weights: Literal["importance", "uniform"]
    reduction: Literal["mean", "sum"]

    @model_validator(mode="after")
    def _check(self):
        if self.extra_timestep_batches and self.timesteps == "uniform":
            raise ValueError("extra_timestep_batches: only `timesteps: importance` keeps a history to add to")
        return self


class _Steps(Block):
    steps: Count
    snapshot_every: Count
    batch_size: Count
    learning_rate: Positive
    horizontal_flip: bool
    precision: Precision
    revision: Count

    @model_validator(mode="after")
    def _check(self):
        if self.steps % self.snapshot_every:
            raise ValueError(f"snapshot_every: {self.snapshot_every} does not divide the {self.steps} steps")
        return self


class Training(_Steps):
    """Adam with linear warm-up, clipping of the gradient's norm and an exponential moving average of the weights."""

    warmup_steps: Natural
    grad_clip: Positive
    ema_decay: Annotated[float, Field(ge=0, lt=1)]


class AdversarialTraining(_Steps):
    """SNGAN's training; `steps` counts generator steps, each after `discriminator_steps` of the discriminator."""

    discriminator_steps: Count


class DDPM(Block):
    kind: Literal["ddpm"]
    image_size: Count
    network: Network
    diffusion: Diffusion
    objective: Objective
    training: Training

    @model_validator(mode="after")
    def _check(self):
        levels = len(self.network.channel_multipliers)
        if self.image_size % 2 ** (levels - 1):
            raise ValueError(f"image_size: {self.image_size} cannot be halved {levels - 1} times for {levels} levels")
        return self


class SNGAN(Block):
    kind: Literal["sngan"]
    image_size: Count
    z_dim: Count
    generator_channels: Count
    discriminator_channels: Count
    training: AdversarialTraining

    @model_validator(mode="after")
    def _check(self):
        if self.image_size < 8 or self.image_size & (self.image_size - 1):
            raise ValueError(f"image_size: SNGAN needs a power of two from 8, got {self.image_size}")
        return self
