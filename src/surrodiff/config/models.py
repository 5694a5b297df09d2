"""The blocks of `params.yaml` that describe a model: its network, its training, and each kind of model as a whole."""

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from surrodiff.config.diffusion import Diffusion, Objective
from surrodiff.config.fields import (
    MOST_STEPS,
    Batch,
    Block,
    Distinct,
    FractionOrZero,
    Grown,
    Name,
    Natural,
    Rate,
    Repetitions,
    Revision,
    Side,
    Steps,
    Text,
    Width,
    check_path,
)
from surrodiff.config.training import AdversarialTraining, Training, VAETraining

MOST_LEVELS = 12  # of resolution
MOST_MULTIPLIER = 64
MOST_RES_BLOCKS = 100  # a level
MOST_DEQUANTISATIONS = 64  # of an image; on digits 64 tighten a flow's bound by 0.001 bits per dimension more than 16
Setting = bool | int | float | str  # of a generator of the user's own


class Network(Grown):
    """The UNet of Ho et al. (2020) with standard or MBConv blocks; level 0 is the input's resolution. learned_variance:
    a second half of output channels predicts the variance of a reverse step (section 2.2.1)."""

    later = ("learned_variance",)

    block: Literal["standard", "mbconv"]
    base_channels: Width
    channel_multipliers: Annotated[
        list[Annotated[int, Field(ge=1, le=MOST_MULTIPLIER)]], Field(min_length=1, max_length=MOST_LEVELS)
    ]
    num_res_blocks: Annotated[int, Field(ge=1, le=MOST_RES_BLOCKS)]
    attention_levels: Annotated[list[Natural], Field(max_length=MOST_LEVELS), Distinct]
    groups: Width
    dropout: FractionOrZero
    learned_variance: bool = False

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
        loss = "hybrid" if self.network.learned_variance else "simple"
        objective = _OBJECTIVE.model_copy(update={"loss": loss})
        return self.model_copy(update={"diffusion": _DIFFUSION, "objective": objective, "training": training})

    def sampling_precision(self, asked: str) -> str:
        """The precision that it samples in, given the one asked for."""
        return asked

    @model_validator(mode="after")
    def _check(self):
        levels = len(self.network.channel_multipliers)
        if self.image_size % 2 ** (levels - 1):
            raise ValueError(f"image_size: {self.image_size} cannot be halved {levels - 1} times for {levels} levels")
        learned, loss = self.network.learned_variance, self.objective.loss
        if learned and loss == "simple":
            raise ValueError(
                "objective.loss: simple trains no variance; write hybrid or vlb for network.learned_variance"
            )
        if loss == "hybrid" and not learned:
            raise ValueError(
                "objective.loss: of hybrid the bound trains the variance alone, and the network has none; write "
                "network.learned_variance: true"
            )
        return self


class Generator(Grown):
    """A cheap model, such as Surrogate Diffusion begins with: one evaluation of its network is a batch of images of the
    data's size. Its subclasses are kinds of models, each with its `kind`, `image_size` and `training`, and with `timed`
    and `evaluated` as of DDPM.

    data: the name among the preset's `datasets` of the images that it is trained on; None: the preset's `data`.
    has_likelihood: its network gives log p(x) or bounds on it.
    """

    later = ("data",)
    by_all: ClassVar[bool] = False
    has_likelihood: ClassVar[bool] = False

    data: Name | None = None

    def bound_sizes(self, samples: int) -> tuple[int, ...]:
        """By how many samples of an image its likelihood is bounded, in rising order, given the number of the tightest
        bound."""
        return (samples,)

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


class Averaged(Generator):
    """A generator whose network has one loss, trained as a diffusion is, with an average of the weights (see
    kinds.generators)."""

    training: Training

    def timed(self) -> "Averaged":
        """As DDPM.timed."""
        return self._with_fixed_training(self.training.batch_size)

    def evaluated(self) -> "Averaged":
        """As DDPM.evaluated."""
        return self._with_fixed_training(1)

    def _with_fixed_training(self, batch_size: int) -> "Averaged":
        fixed = _TRAINING | _ADAM | {"batch_size": batch_size}
        return self.model_copy(update={"training": self.training.model_copy(update=fixed)})


class VAE(Averaged):
    """A variational or importance weighted autoencoder (section 2.4): in training k codes inside the logarithm
    (`importance_samples`; 1 is the VAE) and so many such bounds averaged (`repetitions`). width: units of a layer, or
    channels of the first."""

    has_likelihood = True

    kind: Literal["vae"]
    image_size: Side
    layers: Literal["convolutional", "connected"]
    decoder: Literal["gaussian", "bernoulli"]
    z_dim: Width
    width: Width
    importance_samples: Repetitions
    repetitions: Repetitions
    training: VAETraining

    def timed(self) -> "VAE":
        """As DDPM.timed."""
        timed = super().timed()
        return timed.model_copy(update={"training": timed.training.model_copy(update={"rates": "constant"})})

    def evaluated(self) -> "VAE":
        """As DDPM.evaluated."""
        training = super().evaluated().training.model_copy(update={"rates": "constant"})
        return self.model_copy(update={"importance_samples": 1, "repetitions": 1, "training": training})

    def bound_sizes(self, samples: int) -> tuple[int, ...]:
        return tuple(sorted({1, min(self.importance_samples, samples), samples}))

    def multiply_accumulates(self) -> int:
        if self.layers == "connected":
            return self.width * (self.z_dim + self.width + self.image_size**2)
        return 9 * self.width**2 * self.image_size**2

    def training_bytes(self, channels: int) -> int:
        codes, image = self.importance_samples * self.repetitions, channels * self.image_size**2
        connected = self.layers == "connected"
        each = 3 * image + (4 * self.width if connected else 2 * self.width * self.image_size**2)
        weights = 2 * self.width * (self.width + image) if connected else 18 * self.width**2
        return 20 * weights + 4 * self.training.batch_size * codes * each

    @model_validator(mode="after")
    def _check(self):
        if self.layers == "convolutional" and (self.image_size < 4 or self.image_size % 2):
            raise ValueError(
                f"image_size: convolutional layers need an even one from 4, got {self.image_size}; or write layers: "
                "connected"
            )
        return self


class Flow(Averaged):
    """A normalising flow (see networks.flow): at each level half the resolution, and so many invertible steps, whose
    couplings have `hidden_channels`."""

    has_likelihood = True

    kind: Literal["flow"]
    image_size: Side
    levels: Annotated[int, Field(ge=1, le=MOST_LEVELS)]
    steps_per_level: Repetitions
    hidden_channels: Width

    def bound_sizes(self, samples: int) -> tuple[int, ...]:
        return tuple(sorted({1, min(samples, MOST_DEQUANTISATIONS)}))

    def multiply_accumulates(self) -> int:
        # Of the couplings' three convolutions on images of one channel: 4 channels, and from level to level 2 times.
        hidden, channels = self.hidden_channels, [4 << level for level in range(self.levels)]
        pixels = [(self.image_size >> level + 1) ** 2 for level in range(self.levels)]
        of_levels = (side * (hidden**2 + 13 * c * hidden) for side, c in zip(pixels, channels, strict=True))
        return self.steps_per_level * sum(of_levels)

    def training_bytes(self, channels: int) -> int:
        weights = self.steps_per_level * self.levels * (self.hidden_channels**2 + 54 * channels * self.hidden_channels)
        pixels = sum((self.image_size >> level + 1) ** 2 for level in range(self.levels))
        values = self.steps_per_level * pixels * (2 * self.hidden_channels + 8 * channels)
        return 20 * weights + 4 * self.training.batch_size * values

    @model_validator(mode="after")
    def _check(self):
        if self.image_size % 2**self.levels:
            raise ValueError(f"image_size: {self.image_size} cannot be halved {self.levels} times, once for each level")
        if self.training.precision != "float32":
            raise ValueError("training.precision: a flow needs float32, for an inverse and determinants that are exact")
        return self


class Own(Averaged):
    """A generator that a file of the user's describes, in a class `Generator` (see kinds.own).

    file: its path; settings: what its class is made with besides size and channels; sha256: of the file when
    the runs were planned (see data.identity), None until then.
    """

    kind: Literal["own"]
    image_size: Side
    file: Text
    settings: dict[Name, Setting | list[Setting]] = Field(default={})
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _check(self):
        check_path(self.file, "file")
        return self

    def multiply_accumulates(self) -> int:
        return 0  # nobody has counted

    def training_bytes(self, channels: int) -> int:
        return 4 * channels * self.image_size**2 * self.training.batch_size


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


Sampled = DDPM | SNGAN | VAE | Flow | Own  # every kind of model that draws samples
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
