"""Runs: the expensive artefacts, each by its stage's typed configuration, from which its id is made.

A run's id is `<name>-<first 8 hex digits of the SHA-256 of its canonical JSON configuration>`. A configuration names
the runs that it reads by their ids, so a changed number changes the ids of exactly what depends on it. One class for
each stage, in the order of the work; the module of the same name in `stages` makes its runs.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, TypeVar

from surrodiff.config.models import DDPM, SNGAN, Block, Model, Precision, Revision, Seed, Steps
from surrodiff.config.presets import Data
from surrodiff.config.samplers import Sampler


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Config(Block):
    """What a run is made from. stage: the folder in which runs of this class lie."""

    stage: ClassVar[str]

    def json_value(self) -> dict:
        """What the run's id and its config.json are made from."""
        return self.model_dump(mode="json")

    def needs(self) -> list[tuple[str, str]]:
        """The (stage, id) of every run that must be complete before this one is made."""
        return []


class DataConfig(Config, Data):
    """The images, read, resized and split."""

    stage = "data"

    def json_value(self) -> dict:
        return self.configuration()


class ModelConfig(Config):
    """A trained model: what is trained, on which images, from which seed. channels: of the images."""

    stage = "models"

    model: Model
    channels: Literal[1, 3]
    data: str
    seed: Seed

    def needs(self) -> list[tuple[str, str]]:
        return [("data", self.data)]


class Features(Block):
    """The network whose features score images. sha256: of its weights; run: of the classifier, if that is it."""

    network: Literal["classifier", "efficientnet_lite0", "inception", "inception_clean"]
    precision: Literal["float32", "bfloat16"]
    sha256: str | None
    run: str | None


class ReferenceConfig(Config):
    """Statistics of the real images, and how they are scored (see presets.Scoring)."""

    stage = "references"

    features: Features
    is_splits: int
    kid_subsets: int
    kid_subset_size: int
    neighbours: int
    kept_features: int
    revision: Revision
    data: str

    def needs(self) -> list[tuple[str, str]]:
        return [("data", self.data)] + ([("models", self.features.run)] if self.features.run else [])


class Trained(Block):
    """A trained model after a step."""

    run: str
    step: Steps


class Surrogate(Trained):
    """The cheap model of Surrogate Diffusion, whose sample is noised to t_mid; at t_mid = 0 it is the result.

    handover: what a low-resolution DDPM hands over; None of a generator.
    """

    t_mid: int
    handover: Literal["x0", "x_t"] | None


class SampleConfig(Config):
    """Samples of a diffusion, of a surrogate alone (t_mid = 0; `model` is None), or of both. A generator counts as a
    surrogate. sampler: None where no diffusion takes part."""

    stage = "samples"

    num_samples: int
    sampler: Sampler | None
    precision: Precision
    seed: Seed
    revision: Revision
    model: Trained | None
    surrogate: Surrogate | None

    def needs(self) -> list[tuple[str, str]]:
        return [("models", part.run) for part in (self.model, self.surrogate) if part]

    def evaluations(self, models: Mapping[str, "Run[ModelConfig]"]) -> list[tuple[DDPM | SNGAN, int]]:
        """The models that it evaluates, first a surrogate if it has one, and how often each for one image. What
        samplers do is what they count themselves; this says it before there is one.

        models: the runs that it needs, by id.
        """
        made, surrogate = (part and models[part.run].config.model for part in (self.model, self.surrogate))
        if not surrogate:
            return [(made, self.sampler.evaluations(made.diffusion.T))]
        t_mid, own = self.surrogate.t_mid, 1
        if isinstance(surrogate, DDPM):
            # One more for the estimate of x_0; x_t is handed over as it is, and at t_mid = 0 it is the sample.
            estimates = t_mid > 0 and self.surrogate.handover == "x0"
            own = self.sampler.evaluations(surrogate.diffusion.T, t_mid) + estimates
        return [(surrogate, own)] + ([(made, self.sampler.evaluations(t_mid))] if made else [])


class ScoreConfig(Config):
    """The scores of samples. The workflow makes both in one job."""

    stage = "scores"

    sample: str
    reference: str


class LikelihoodConfig(Config):
    """The variational bound of a DDPM on held-out images (see presets.Likelihood)."""

    stage = "likelihoods"

    num_images: int
    variance: Literal["fixed_large", "fixed_small"]
    clip_x0: bool
    precision: Precision
    seed: Seed
    revision: Revision
    model: Trained
    data: str

    def needs(self) -> list[tuple[str, str]]:
        return [("data", self.data), ("models", self.model.run)]


class TimingConfig(Config):
    """Speeds of a model beside Default's (`baseline`), both as `timed` gives them."""

    stage = "timings"

    rounds: int
    train_steps: int
    sampling_steps: int
    batch_size: int
    revision: Revision
    model: DDPM | SNGAN
    baseline: DDPM
    channels: Literal[1, 3]
    sampling_precision: Precision


CONFIGS = {
    config.stage: config
    for config in (
        *(DataConfig, ModelConfig, ReferenceConfig, SampleConfig),
        *(ScoreConfig, LikelihoodConfig, TimingConfig),
    )
}

Made = TypeVar("Made", bound=Config)


@dataclass(frozen=True)
class Run(Generic[Made]):
    """One expensive artefact: its readable name and what makes it."""

    name: str
    config: Made

    @property
    def stage(self) -> str:
        return self.config.stage

    @cached_property
    def id(self) -> str:
        return f"{self.name}-{hashlib.sha256(canonical(self.config.json_value()).encode()).hexdigest()[:8]}"
