"""A preset: data, models, and what is made of them; typed, with ranges, and checked as a whole."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from surrodiff.config import memory
from surrodiff.config.fields import (
    MOST_BATCH,
    MOST_REPETITIONS,
    Batch,
    Block,
    Distinct,
    Fraction,
    Name,
    Precision,
    Rate,
    Repetitions,
    Revision,
    Seed,
    Side,
    Steps,
    Timesteps,
    Width,
    check_path,
)
from surrodiff.config.models import DDPM, Generator, OneSampled, Sampled
from surrodiff.config.samplers import OneSampler
from surrodiff.config.surrogates import FewSteps, OneSurrogate, Upsampled

# As in config.models: far beyond any published use.
MOST_SAMPLES = 10_000_000
MOST_CODES = 1_000_000  # of an image
MOST_KEPT = 1_000_000  # features
MOST_SUBSETS = 10_000
MOST_SEEDS = 1_000
MOST_THREADS = 4_096
MOST_GPUS = 1_024  # of one job
DIGITS, CIFAR10, MNIST = 1_797, (50_000, 10_000), (60_000, 10_000)
LEAST_IMAGES = 4  # of a split, to be scored
MOST_RUNS = 10_000  # sets of samples of one preset; the paper's tables have 26


def _auto_or(description: str, allowed: Callable[[Any], bool]) -> BeforeValidator:
    """One message for `auto` or another type, where a union would give one for each of its types."""

    def check(value: Any):
        if value != "auto" and not allowed(value):
            raise PydanticCustomError("auto_or", f"must be auto or {description}")
        return value

    return BeforeValidator(check)


BatchOrAuto = Annotated[
    int | Literal["auto"],
    _auto_or(f"a whole number from 1 to {MOST_BATCH}", lambda v: type(v) is int and 0 < v <= MOST_BATCH),
]
SwitchOrAuto = Annotated[bool | Literal["auto"], _auto_or("true or false", lambda v: isinstance(v, bool))]


_OF_FOLDERS = {"padding", "fingerprint"}  # keys that only image folders have


class Data(Block):
    """Where the images come from. `path` is the folder of the archive (cifar10) or files (mnist), or of images
    (image_folder); `held_out` is the part kept for calibration where the source has no held-out split of its own.

    Of image folders alone: `padding` says how those that are not square are fitted, and `fingerprint` what the folder
    held when the runs were planned (see data.identity); it is None until then.
    """

    source: Literal["digits", "cifar10", "mnist", "image_folder"]
    path: str | None
    image_size: Side
    channels: Literal[1, 3]
    held_out: Fraction
    seed: Seed
    revision: Revision
    padding: Literal["crop", "pad"] = "crop"
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None

    @model_validator(mode="after")
    def _check(self):
        for key in _OF_FOLDERS:
            if self.source != "image_folder" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: only for source image_folder; remove it")
        if self.source != "digits" and not self.path:
            raise ValueError(f"path: source {self.source} needs a folder")
        if self.source == "digits" and self.channels != 1:
            raise ValueError("channels: digits are greyscale; write 1")
        if self.source == "mnist" and self.channels != 1:
            raise ValueError("channels: MNIST is greyscale; write 1")
        if self.source == "cifar10" and self.channels != 3:
            raise ValueError("channels: CIFAR-10 is in colour; write 3")
        if self.path is not None:
            check_path(self.path)
        if self.splits and min(self.splits) < LEAST_IMAGES:
            raise ValueError(
                f"held_out: {self.held_out} leaves {self.splits[0]} images to train on and {self.splits[1]} held out; "
                f"have at least {LEAST_IMAGES} of each"
            )
        return self

    def configuration(self) -> dict:
        """What a data run is made from."""
        return self.model_dump(exclude=None if self.source == "image_folder" else _OF_FOLDERS)

    @property
    def splits(self) -> tuple[int, int] | None:
        """How many images there are to train on and held out; None for a folder, whose images nobody has counted."""
        if self.source == "cifar10":
            return CIFAR10
        if self.source == "mnist":
            return MNIST
        if self.source == "digits":
            held_out = math.ceil(self.held_out * DIGITS)
            return DIGITS - held_out, held_out
        return None


class Sampling(Block):
    num_samples: Annotated[int, Field(ge=4, le=MOST_SAMPLES)]  # two for each half of the jackknife's
    precision: Precision
    revision: Revision


OneOrMoreSeeds = Annotated[list[Seed], Field(min_length=1, max_length=MOST_SEEDS), Distinct]


class Seeds(Block):
    """Every row of a table is made once for each pair of a training and a sampling seed and shows their mean;
    `calibration`: the training seeds of Default whose spread says how much of a difference is noise; `studies`: by the
    study's name, training seeds of its rows instead of `training`."""

    training: OneOrMoreSeeds
    sampling: OneOrMoreSeeds
    calibration: Annotated[list[Seed], Field(max_length=MOST_SEEDS), Distinct]
    studies: dict[Name, OneOrMoreSeeds] = Field(default={})

    def of_study(self, name: str) -> list[int]:
        """The training seeds of a study's rows."""
        return self.studies.get(name, self.training)


class Classifier(Block):
    channels: Width
    steps: Steps
    batch_size: Batch
    learning_rate: Rate
    seed: Seed
    revision: Revision


class Scoring(Block):
    """`kept_features`: at most so many of each set are kept for KID, precision and recall; the Frechet distance and the
    Inception Score use all, in memory that does not grow with their number."""

    features: Literal["classifier", "efficientnet_lite0", "inception", "inception_clean"]
    precision: Literal["float32", "bfloat16"]
    classifier: Classifier
    is_splits: Repetitions
    kid_subsets: Annotated[int, Field(ge=1, le=MOST_SUBSETS)]
    kid_subset_size: Annotated[int, Field(ge=2, le=MOST_KEPT)]
    neighbours: Repetitions
    kept_features: Annotated[int, Field(ge=2, le=MOST_KEPT)]
    revision: Revision

    @model_validator(mode="after")
    def _check(self):
        for key in ("kid_subset_size", "neighbours"):
            if getattr(self, key) >= self.kept_features:
                raise ValueError(f"{key}: must be less than kept_features ({self.kept_features})")
        return self


class Likelihood(Block):
    """The variational bound on `num_images` held-out images; `clip_x0`: with the predicted x_0 clipped to [-1, 1], as
    published bounds are. samples: of an image, by which a model with a likelihood of its own bounds it."""

    num_images: Annotated[int, Field(ge=2, le=MOST_SAMPLES)]
    samples: Annotated[int, Field(ge=1, le=MOST_CODES)] = 5000
    variance: Literal["fixed_large", "fixed_small"]
    clip_x0: bool
    precision: Precision
    seed: Seed
    revision: Revision


class Diagnosis(Block):
    """How the gradient of a trained diffusion's objective varies: on `num_images` training images, by `repetitions` of
    its noises, at so many of its `timesteps`, or all where it has no more."""

    num_images: Batch
    repetitions: Annotated[int, Field(ge=2, le=MOST_REPETITIONS)]
    timesteps: Timesteps
    seed: Seed
    revision: Revision


class Timing(Block):
    """Speeds are medians over `rounds`; in each, the model and Default take turns."""

    rounds: Repetitions
    train_steps: Repetitions
    sampling_steps: Repetitions
    batch_size: Batch
    revision: Revision


class Execution(Block):
    """How the work is done. Nothing here changes what comes out beyond rounding, so nothing here is part of a run's
    identity."""

    one_job_per_model: bool
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)]
    gpus_per_job: Annotated[int, Field(ge=1, le=MOST_GPUS)]
    compile: SwitchOrAuto
    channels_last: SwitchOrAuto
    fused: bool
    micro_batch: Batch | None
    sampling_batch: BatchOrAuto
    checkpoint_every: Steps
    log_every: Steps


class Preset(Block):
    """datasets: by name, images other than `data` that a model may be trained on."""

    groups: Annotated[list[Name], Distinct]
    data: Data
    datasets: dict[Name, Data] = Field(default={})
    models: dict[Name, OneSampled]
    samplers: dict[Name, OneSampler]
    surrogates: dict[Name, OneSurrogate] = Field(default={})
    seeds: Seeds
    sampling: Sampling
    scoring: Scoring
    likelihood: Likelihood
    diagnosis: Diagnosis
    timing: Timing
    execution: Execution

    def data_of(self, model: Sampled) -> tuple[str, Data]:
        """Where the images are written that a model is trained on, and what they are."""
        name = getattr(model, "data", None)
        return ("data", self.data) if name is None else (f"datasets.{name}", self.datasets[name])

    @model_validator(mode="after")
    def _check(self):
        if "Default" not in self.models:
            raise ValueError("models.Default: missing; rows are compared with it")
        default = self.models["Default"]
        if default.kind != "ddpm":
            raise ValueError("models.Default.kind: must be ddpm")
        if default.image_size != self.data.image_size:
            raise ValueError(f"models.Default.image_size: must be data.image_size ({self.data.image_size})")
        for name, model in self.models.items():
            if isinstance(model, Generator):
                if model.data not in (None, *self.datasets):
                    known = ", ".join(self.datasets) or "none"
                    raise ValueError(f"models.{name}.data: no data set {model.data!r} in datasets; there are {known}")
                where, data = self.data_of(model)
                if model.image_size != data.image_size:
                    raise ValueError(
                        f"models.{name}.image_size: a generator's must be {where}.image_size ({data.image_size})"
                    )
            elif model.image_size > self.data.image_size:
                raise ValueError(f"models.{name}.image_size: larger than data.image_size ({self.data.image_size})")
        if "ancestral" not in self.samplers:
            raise ValueError("samplers.ancestral: missing; it draws the rows that name no sampler")
        if self.sampling.num_samples < self.scoring.is_splits:
            raise ValueError(f"scoring.is_splits: more splits than the {self.sampling.num_samples} samples")
        self._check_surrogates()
        self._check_counts()
        self._check_memory()
        return self

    def _check_surrogates(self):
        for name, surrogate in self.surrogates.items():
            where = f"surrogates.{name}"
            if name in self.models:
                raise ValueError(f"{where}: a model has this name, too, and rows name both alike; give another one")
            if isinstance(surrogate, Upsampled) and surrogate.image_size >= self.data.image_size:
                size = self.data.image_size
                raise ValueError(f"{where}.image_size: must be less than data.image_size ({size}), to be resized to it")
            if isinstance(surrogate, FewSteps):
                model = self.models.get(surrogate.model)
                if not isinstance(model, DDPM) or model.image_size != self.data.image_size:
                    raise ValueError(
                        f"{where}.model: must be a ddpm of `models` with the data's size, got {surrogate.model!r}"
                    )
                if surrogate.sampler not in self.samplers:
                    known = ", ".join(self.samplers)
                    raise ValueError(f"{where}.sampler: there is no {surrogate.sampler!r}; there are {known}")

    def _check_counts(self):
        """Nothing asks for more images than a split has."""
        trained = [
            (f"models.{name}.training.batch_size", model.training.batch_size, self.data_of(model)[1])
            for name, model in self.models.items()
        ]
        trained.append(("diagnosis.num_images", self.diagnosis.num_images, self.data))
        if self.scoring.features == "classifier":
            trained.append(("scoring.classifier.batch_size", self.scoring.classifier.batch_size, self.data))
        for key, size, data in trained:
            if data.splits and size > data.splits[0]:
                raise ValueError(f"{key}: {size} is more than the {data.splits[0]} images to train on")
        used = [self.data, *(self.data_of(model)[1] for model in self.models.values())]
        held_out = [
            *(("likelihood.num_images", self.likelihood.num_images, data) for data in used),
            ("scoring.is_splits", self.scoring.is_splits, self.data),
            ("scoring.kid_subset_size", self.scoring.kid_subset_size, self.data),
            ("scoring.neighbours", self.scoring.neighbours + 1, self.data),
        ]
        for key, count, data in held_out:
            if data.splits and count > data.splits[1]:
                raise ValueError(f"{key}: too many for the {data.splits[1]} held-out images; lower it")

    def _check_memory(self):
        """Nothing needs more memory than any machine has."""
        channels, execution = self.data.channels, self.execution
        for name, model in self.models.items():
            processes = execution.gpus_per_job if isinstance(model, DDPM) else 1
            own_channels = self.data_of(model)[1].channels
            needed = memory.training_step(model, own_channels, execution.micro_batch, processes)
            advice = "lower batch_size, noises, importance_samples or channels, or set execution.micro_batch"
            _refuse_beyond(needed, f"models.{name}.training: a step", advice)
            if isinstance(model, DDPM):
                if execution.sampling_batch != "auto":
                    images = min(execution.sampling_batch, self.sampling.num_samples)
                    needed = memory.evaluation(model, channels, images)
                    _refuse_beyond(needed, "execution.sampling_batch: sampling", "lower it")
                needed = memory.evaluation(model, channels, self.timing.batch_size)
                _refuse_beyond(needed, "timing.batch_size: an evaluation", "lower it")
        image = channels * self.data.image_size**2
        _refuse_beyond(self.sampling.num_samples * image, "sampling.num_samples: a set of samples", "lower it")
        if self.data.splits:
            _refuse_beyond(sum(self.data.splits) * image, "data.image_size: the images", "lower it")


def _refuse_beyond(needed: int, what: str, advice: str):
    if needed > memory.MOST_BYTES:
        most = f"{memory.MOST_BYTES / 1e12:g} TB"
        raise ValueError(f"{what} takes more than {needed / 1e12:,.1f} TB, beyond the {most} that we allow; {advice}")
