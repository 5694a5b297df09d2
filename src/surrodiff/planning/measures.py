"""Runs that measure: likelihoods, refinements, diagnoses and timings (see runs); all configurations by stage."""

import math
from collections import Counter
from typing import Literal

from surrodiff.config.fields import Grown, Precision, Revision, Seed
from surrodiff.config.models import DDPM, OneSampled, Sampled
from surrodiff.planning.runs import (
    Config,
    DataConfig,
    ModelConfig,
    RealImages,
    ReferenceConfig,
    Rows,
    Runs,
    SampleConfig,
    ScoreConfig,
    Trained,
    evaluation_of,
)
from surrodiff.planning.units import Evaluation, TrainStep, Unit

# What a diagnosis has of a timestep (see diffusion.diagnosis).
DIAGNOSED = ("effective_sample_size", "loss", "gradient_variance", "gradient_square")


class LikelihoodConfig(Config, Grown):
    """The likelihood of held-out images (see presets.Likelihood): of a DDPM the variational bound, or what a model with
    a likelihood of its own gives. timesteps: how many of the diffusion's, evenly spaced; all if None.

    samples: of an image, by which a model of the second kind bounds it; None of a DDPM, which has `variance` and
    `clip_x0` instead.
    """

    stage = "likelihoods"
    later = ("timesteps", "samples")

    num_images: int
    variance: Literal["fixed_large", "fixed_small", "learned"] | None
    timesteps: int | None = None
    clip_x0: bool | None
    samples: int | None = None
    precision: Precision
    seed: Seed
    revision: Revision
    model: Trained
    data: str

    def needs(self) -> list[tuple[str, str]]:
        return [("data", self.data), ("models", self.model.run)]

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit]:
        trained = runs[self.model.run].config
        unit = evaluation_of(trained.model, trained.channels, self.precision)
        count = trained.model.bound_sizes(self.samples)[-1] if self.samples else self._count(runs)
        return Counter({unit: count * self.num_images})

    def rows(self, runs: Runs) -> Rows:
        if self.samples:
            sizes = runs[self.model.run].config.model.bound_sizes(self.samples)
            return Rows("bounds", 8 * len(sizes), self.num_images)
        learned = self._count(runs) * (self.variance == "learned")
        return Rows("terms", 8 * (self._count(runs) + 1 + learned), self.num_images)

    def _count(self, runs: Runs) -> int:
        return self.timesteps or runs[self.model.run].config.model.diffusion.T

    def share_made(self, record: dict) -> float:
        return record["evaluated_now"] / self.num_images


class RefinementConfig(Config):
    """What the diffusion changes in a surrogate's samples: those of the surrogate alone beside the refined ones of the
    same seeds and numbers. data: the training images, among which both look for their nearest; reference: whose
    features both have."""

    stage = "refinements"

    surrogate: str
    refined: str
    reference: str
    data: str

    def needs(self) -> list[tuple[str, str]]:
        return [
            *(("samples", sample) for sample in (self.surrogate, self.refined)),
            *(("references", self.reference), ("data", self.data)),
        ]

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit] | None:
        if real is None:
            return None
        images = 2 * runs[self.refined].config.num_samples + real.train
        return Counter({runs[self.reference].config.image_score(runs): images})


class DiagnosisConfig(Config):
    """How the gradient of a trained DDPM's objective varies over noises (see presets.Diagnosis). timesteps: how many of
    the diffusion's, evenly spaced."""

    stage = "diagnoses"

    num_images: int
    repetitions: int
    timesteps: int
    seed: Seed
    revision: Revision
    model: Trained
    data: str

    def needs(self) -> list[tuple[str, str]]:
        return [("data", self.data), ("models", self.model.run)]

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit]:
        trained = runs[self.model.run].config
        images = self.num_images * self.repetitions * self.timesteps
        unit = TrainStep(model=trained.model.timed(), channels=trained.channels)
        return Counter({unit: math.ceil(images / trained.model.training.batch_size)})

    def rows(self, runs: Runs) -> Rows:
        return Rows("timesteps", 8 * len(DIAGNOSED), self.timesteps)

    def share_made(self, record: dict) -> float:
        return record["diagnosed_now"] / self.timesteps


class TimingConfig(Config):
    """Speeds of a model beside Default's (`baseline`), both as `timed` gives them."""

    stage = "timings"

    rounds: int
    train_steps: int
    sampling_steps: int
    batch_size: int
    revision: Revision
    model: OneSampled
    baseline: DDPM
    channels: Literal[1, 3]
    sampling_precision: Precision

    def units(self, model: Sampled) -> tuple[TrainStep, Evaluation]:
        """What is timed of a model."""
        step = TrainStep(model=model, channels=self.channels)
        return step, evaluation_of(model, self.channels, self.sampling_precision)

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit]:
        found, rounds = Counter(), self.rounds + 1  # one warms up
        for model in (self.model, self.baseline)[: 2 - (self.model == self.baseline)]:
            step, evaluation = self.units(model)
            found[step] += rounds * self.train_steps
            found[evaluation] += rounds * self.sampling_steps * self.batch_size
        return found

    def rates(self, work: Counter[Unit], record: dict) -> dict[Unit, float]:
        step, evaluation = self.units(self.model)
        told = record["model"]
        return {step: told["train_step_seconds"], evaluation: told["evaluation_seconds_per_image"]}


CONFIGS = {
    config.stage: config
    for config in (
        *(DataConfig, ModelConfig, ReferenceConfig, SampleConfig),
        *(ScoreConfig, RefinementConfig, LikelihoodConfig, DiagnosisConfig, TimingConfig),
    )
}
