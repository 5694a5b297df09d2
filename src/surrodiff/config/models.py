"""The blocks of `params.yaml` that describe a model: network, schedule, objective, training."""

import functools
import math
import re
from abc import abstractmethod
from collections import Counter
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

# 10 to 100 times the largest published use that we know of: beyond lies a slip, such as a zero too many.
MOST_SIDE = 4_096  # pixels
MOST_WIDTH = 16_384  # channels
MOST_LEVELS = 12  # of resolution
MOST_MULTIPLIER = 64
MOST_RES_BLOCKS = 100  # a level
MOST_TIMESTEPS = 100_000
LEAST_SIGNAL = 1e-30  # of x_0 in x_T, which predicting x_0 divides by, in float32
MOST_NOISES = 1_000
MOST_EXTRA_BATCHES = 100
MOST_BATCH = 1_000_000
MOST_STEPS = 100_000_000
MOST_RATE = 1e38  # float32 holds no more; likewise less than LEAST_RATE is nothing to it
LEAST_RATE = 1e-38
MOST_REPETITIONS = 1_000  # rounds, splits, discriminator steps
MOST_REVISIONS = 1_000_000


def _named(text: str) -> str:
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,59}", text):
        raise PydanticCustomError("name", "a name has a letter, then letters (a to z), digits or _; at most 60 in all")
    return text


def _distinct(values: list) -> list:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise PydanticCustomError("distinct", "{value} stands there more than once", {"value": twice[0]})
    return values


# What becomes a part of paths and of commands.
Name = Annotated[str, AfterValidator(_named)]
Distinct = AfterValidator(_distinct)
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]
Width = Annotated[int, Field(ge=1, le=MOST_WIDTH)]
Batch = Annotated[int, Field(ge=1, le=MOST_BATCH)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Repetitions = Annotated[int, Field(ge=1, le=MOST_REPETITIONS)]
Revision = Annotated[int, Field(ge=1, le=MOST_REVISIONS)]
Rate = Annotated[float, Field(ge=LEAST_RATE, le=MOST_RATE)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
# Zero is one number, whatever its sign: a run's id is made from how it prints.
FractionOrZero = Annotated[float, Field(ge=0, lt=1), AfterValidator(lambda value: value + 0.0)]
Precision = Literal["auto", "float32", "bfloat16"]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Network(Block):
    """The UNet of Ho et al. (2020) with standard or MBConv blocks; level 0 is the input's resolution."""

    block: Literal["standard", "mbconv"]
    base_channels: Width
    channel_multipliers: Annotated[
        list[Annotated[int, Field(ge=1, le=MOST_MULTIPLIER)]], Field(min_length=1, max_length=MOST_LEVELS)
    ]
    num_res_blocks: Annotated[int, Field(ge=1, le=MOST_RES_BLOCKS)]
    attention_levels: Annotated[list[Natural], Field(max_length=MOST_LEVELS), Distinct]
    groups: Width
    dropout: FractionOrZero

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

    T: Annotated[int, Field(ge=2, le=MOST_TIMESTEPS)]
    beta_1: Fraction
    beta_T: Fraction

    @model_validator(mode="after")
    def _check(self):
        if self.beta_1 > self.beta_T:
            raise ValueError(f"beta_1: {self.beta_1} is beyond beta_T = {self.beta_T}; noise grows with t")
        if self.signal_and_noise(self.T)[0] < LEAST_SIGNAL:
            raise ValueError(f"T: after {self.T} steps x_T keeps less than {LEAST_SIGNAL} of x_0; lower T or beta_T")
        return self

    def signal_and_noise(self, t: int) -> tuple[float, float]:
        """The factors of x_0 and of the noise in x_t: sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t)."""
        log = _log_alpha_bar(self.T, self.beta_1, self.beta_T, t)
        return math.exp(log / 2), math.sqrt(-math.expm1(log))


@functools.lru_cache(1000)
def _log_alpha_bar(T: int, beta_1: float, beta_T: float, t: int) -> float:
    slope = (beta_T - beta_1) / (T - 1)
    return math.fsum(math.log1p(-min(beta_1 + slope * step, beta_T)) for step in range(t))


class Objective(Block):
    """What one training step minimises (section 4.5): `noises` is k of IWDiff (3.1), `weights` how the k losses are
    weighted, `reduction` whether those weights see a loss as the mean or the sum over pixels."""

    timesteps: Literal["uniform", "importance"]
    extra_timestep_batches: Annotated[int, Field(ge=0, le=MOST_EXTRA_BATCHES)]
    noises: Annotated[int, Field(ge=1, le=MOST_NOISES)]
    weights: Literal["importance", "uniform"]
    reduction: Literal["mean", "sum"]

    @model_validator(mode="after")
    def _check(self):
        if self.extra_timestep_batches and self.timesteps != "importance":
            raise ValueError("extra_timestep_batches: only `timesteps: importance` keeps a history to add to")
        return self


class SampledTraining(Block):
    """What the training of every kind of model has that draws samples."""

    steps: Steps
    snapshot_every: Steps
    batch_size: Batch
    learning_rate: Rate
    horizontal_flip: bool
    precision: Precision
    revision: Revision

    @model_validator(mode="after")
    def _check(self):
        if self.steps % self.snapshot_every:
            raise ValueError(f"snapshot_every: {self.snapshot_every} does not divide the {self.steps} steps")
        return self


class Training(SampledTraining):
    """Adam with linear warm-up, clipping of the gradient's norm and an exponential moving average of the weights."""

    warmup_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)]
    grad_clip: Rate
    ema_decay: FractionOrZero


class AdversarialTraining(SampledTraining):
    """SNGAN's training; `steps` counts generator steps, each after `discriminator_steps` of the discriminator."""

    discriminator_steps: Repetitions


class DDPM(Block):
    """A diffusion model. by_all: all processes of a job train it together; the others' steps depend on a batch as a
    whole, so that the first process trains them alone."""

    by_all: ClassVar[bool] = True

    kind: Literal["ddpm"]
    image_size: Side
    network: Network
    diffusion: Diffusion
    objective: Objective
    training: Training

    def timed(self) -> "DDPM":
        """This model with fixed values wherever the speed of its training does not depend on them."""
        own = {"batch_size": self.training.batch_size, "precision": self.training.precision}
        return self.model_copy(update={"diffusion": _DIFFUSION, "training": Training(**_TRAINING, **_ADAM, **own)})

    def evaluated(self) -> "DDPM":
        """This model with fixed values wherever the speed of one evaluation does not depend on them."""
        training = Training(**_TRAINING, **_ADAM, batch_size=1, precision="auto")
        return self.model_copy(update={"diffusion": _DIFFUSION, "objective": _OBJECTIVE, "training": training})

    def sampling_precision(self, asked: str) -> str:
        """The precision that it samples in, given the one asked for."""
        return asked

    @model_validator(mode="after")
    def _check(self):
        levels = len(self.network.channel_multipliers)
        if self.image_size % 2 ** (levels - 1):
            raise ValueError(f"image_size: {self.image_size} cannot be halved {levels - 1} times for {levels} levels")
        return self


class Generator(Block):
    """A cheap model, such as Surrogate Diffusion begins with: one evaluation of its network is a batch of images of the
    data's size. Its subclasses are kinds of models, each with its `kind`, `image_size` and `training`, and with `timed`
    and `evaluated` as of DDPM."""

    by_all: ClassVar[bool] = False

    def sampling_precision(self, asked: str) -> str:
        """Its own: a generator samples as it was trained, since its one evaluation is the image itself."""
        return self.training.precision

    @abstractmethod
    def multiply_accumulates(self) -> int:
        """Those of one evaluation on one image, coarsely, from below (see config.memory)."""

    @abstractmethod
    def training_bytes(self, channels: int) -> int:
        """Memory that a training step takes, coarsely, from below."""


class SNGAN(Generator):
    kind: Literal["sngan"]
    image_size: Side
    z_dim: Width
    generator_channels: Width
    discriminator_channels: Width
    training: AdversarialTraining

    def timed(self) -> "SNGAN":
        """As DDPM.timed."""
        keep = ("batch_size", "precision", "discriminator_steps")
        own = {key: getattr(self.training, key) for key in keep}
        return self.model_copy(update={"training": AdversarialTraining(**_TRAINING, **own)})

    def evaluated(self) -> "SNGAN":
        """As DDPM.evaluated."""
        training = AdversarialTraining(
            **_TRAINING, batch_size=1, precision=self.training.precision, discriminator_steps=1
        )
        return self.model_copy(update={"discriminator_channels": 1, "training": training})

    @property
    def _doublings(self) -> int:
        return int(math.log2(self.image_size // 4))

    def multiply_accumulates(self) -> int:
        sides = (4 << level for level in range(1, self._doublings + 1))
        return sum(18 * self.generator_channels**2 * side**2 for side in sides)

    def training_bytes(self, channels: int) -> int:
        weights = 18 * self._doublings * (self.generator_channels**2 + self.discriminator_channels**2)
        widest = max(self.generator_channels, self.discriminator_channels)
        image = self.image_size**2
        return 16 * weights + self.training.batch_size * (2 * 4 * widest * image + 4 * channels * image)

    @model_validator(mode="after")
    def _check(self):
        if self.image_size < 8 or self.image_size & (self.image_size - 1):
            raise ValueError(f"image_size: SNGAN needs a power of two from 8, got {self.image_size}")
        return self


class ClassifierTraining(Block):
    """Adam on the cross-entropy."""

    steps: Steps
    batch_size: Batch
    learning_rate: Rate
    revision: Revision

    @property
    def snapshot_every(self) -> int:
        """Its weights are kept after the last step alone."""
        return self.steps


class Classifier(Block):
    """The classifier whose features score samples where Inception's do not fit."""

    by_all: ClassVar[bool] = False

    kind: Literal["classifier"]
    image_size: Side
    width: Width
    training: ClassifierTraining

    def timed(self) -> "Classifier":
        """As DDPM.timed."""
        training = ClassifierTraining(
            steps=MOST_STEPS, batch_size=self.training.batch_size, learning_rate=1e-4, revision=1
        )
        return self.model_copy(update={"training": training})

    def evaluated(self) -> "Classifier":
        """As DDPM.evaluated."""
        training = ClassifierTraining(steps=MOST_STEPS, batch_size=1, learning_rate=1e-4, revision=1)
        return self.model_copy(update={"training": training})


Sampled = DDPM | SNGAN  # every kind of model that draws samples
Model = Sampled | Classifier
OneSampled = Annotated[Sampled, Field(discriminator="kind")]
OneModel = Annotated[Model, Field(discriminator="kind")]

# Values that cost nothing, for models that stand for all which are equally fast.
_DIFFUSION = Diffusion(T=1000, beta_1=1e-4, beta_T=0.02)
_OBJECTIVE = Objective(timesteps="uniform", extra_timestep_batches=0, noises=1, weights="importance", reduction="mean")
_TRAINING = {
    "steps": MOST_STEPS,
    "snapshot_every": 1,
    "learning_rate": 1e-4,
    "horizontal_flip": True,
    "revision": 1,
}
_ADAM = {"warmup_steps": 0, "grad_clip": 1.0, "ema_decay": 0.999}
