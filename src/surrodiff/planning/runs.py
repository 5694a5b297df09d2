"""Runs: the expensive artefacts, each by its stage's typed configuration, from which its id is made.

A run's id is `<name>-<first 8 hex digits of the SHA-256 of its canonical JSON configuration>`. A configuration names
the runs that it reads by their ids, so a changed number changes the ids of exactly what depends on it. One class for
each stage, in the order of the work; the module of the same name in `stages` makes its runs.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from surrodiff.config.fields import Block, Grown, Precision, Revision, Seed, Steps
from surrodiff.config.models import DDPM, OneModel, Sampled
from surrodiff.config.presets import Data
from surrodiff.config.samplers import OneSampler
from surrodiff.config.surrogates import OneGiven
from surrodiff.planning.units import Evaluation, Features, ImageScore, TrainStep, Unit


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


Runs = Mapping[str, "Run[Any]"]  # by id; at least those that a configuration names, and what those name


class RealImages(NamedTuple):
    """How many images there are to train on, and how many a reference scores."""

    train: int
    scored: float


class Rows(NamedTuple):
    """An array that a run is made of row by row: its name, how many bytes a row has, and how many rows there are."""

    name: str
    row_bytes: int
    total: int


class Config(Block):
    """What a run is made from. stage: the folder in which runs of this class lie; seconds: the key of a run's record
    that says how long it took."""

    stage: ClassVar[str]
    seconds: ClassVar[str] = "seconds"

    def json_value(self) -> dict:
        """What the run's id and its config.json are made from."""
        return self.model_dump(mode="json")

    def needs(self) -> list[tuple[str, str]]:
        """The (stage, id) of every run that must be complete before this one is made."""
        return []

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit] | None:
        """How many of which units a run is made of; None where that is unknown.

        real: None while the images are not counted.
        """
        return Counter()

    def rows(self, runs: Runs) -> Rows | None:
        """The array that it is made of row by row, if it is."""
        return None

    def share_made(self, record: dict) -> float:
        """The share of a finished run's work that the seconds in its record are for: an interrupted run's are for what
        was left."""
        return 1.0

    def rates(self, work: Counter[Unit], record: dict) -> dict[Unit, float]:
        """The seconds of each unit that a finished run's record tells: of none where it has several."""
        share = self.share_made(record)
        if len(work) != 1 or not share:
            return {}
        return {unit: record[self.seconds] / (count * share) for unit, count in work.items()}


class DataConfig(Config, Data):
    """The images, read, resized and split."""

    stage = "data"

    def json_value(self) -> dict:
        return self.configuration()


class ModelConfig(Config):
    """A trained model: what is trained, on which images, from which seed. channels: of the images."""

    stage = "models"
    seconds = "train_seconds"

    model: OneModel
    channels: Literal[1, 3]
    data: str
    seed: Seed

    def needs(self) -> list[tuple[str, str]]:
        return [("data", self.data)]

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit]:
        return Counter({TrainStep(model=self.model.timed(), channels=self.channels): self.model.training.steps})


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

    def image_score(self, runs: Runs) -> ImageScore:
        """The unit of which it and the scores against it are made."""
        data, run = runs[self.data].config, self.features.run
        return ImageScore(
            features=self.features.model_copy(update={"run": None}),
            channels=data.channels,
            image_size=data.image_size,
            classifier=runs[run].config.model.evaluated() if run else None,
        )

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit] | None:
        if real is None:
            return None
        return Counter({self.image_score(runs): round(real.scored)})


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


class Given(Block):
    """Images that no network makes, fitted to those of a data run."""

    source: OneGiven
    data: str


class Begun(Block):
    """The samples of another run as those of the surrogate, which are noised to t_mid."""

    samples: str
    t_mid: int


class SampleConfig(Config, Grown):
    """Samples of a diffusion, of a surrogate alone (t_mid = 0; `model` is None), or of both. A generator counts as a
    surrogate. sampler: None where no diffusion takes part.

    given: the samples are images from elsewhere. begun: `model` begins with another run's samples.
    """

    stage = "samples"
    seconds = "sample_seconds"
    later = ("given", "begun")

    num_samples: int
    sampler: OneSampler | None
    precision: Precision
    seed: Seed
    revision: Revision
    model: Trained | None
    surrogate: Surrogate | None
    given: Given | None = None
    begun: Begun | None = None

    def needs(self) -> list[tuple[str, str]]:
        return [
            *(("models", part.run) for part in (self.model, self.surrogate) if part),
            *([("samples", self.begun.samples)] if self.begun else ()),
            *([("data", self.given.data)] if self.given else ()),
        ]

    def subject(self, runs: Runs) -> str:
        """The id of the model that the samples are about: of Surrogate Diffusion the surrogate; of given images, which
        are of none, that of their own samples. runs: those that it needs, and that these need."""
        if self.begun:
            return runs[self.begun.samples].config.subject(runs)
        if self.given:
            return next(run_id for run_id, run in runs.items() if run.config == self)
        return (self.surrogate or self.model).run

    def begins_with(self, runs: Runs) -> list[str]:
        """The ids of the sample runs that it begins with, and these with."""
        return [*runs[self.begun.samples].config.begins_with(runs), self.begun.samples] if self.begun else []

    def evaluations(self, models: Runs) -> list[tuple[Sampled, int]]:
        """The models that it evaluates, first a surrogate if it has one, and how often each for one image; without what
        another run's samples took, with which it begins.

        models: the runs that it needs, by id.
        """
        if self.given:
            return []
        made, surrogate = (part and models[part.run].config.model for part in (self.model, self.surrogate))
        if not surrogate:
            t_start = self.begun.t_mid if self.begun else made.diffusion.T
            return [(made, self.sampler.evaluations(made.diffusion, t_start))]
        t_mid, own = self.surrogate.t_mid, 1
        if isinstance(surrogate, DDPM):
            # One more for the estimate of x_0; x_t is handed over as it is, and at t_mid = 0 it is the sample.
            estimates = t_mid > 0 and self.surrogate.handover == "x0"
            own = self.sampler.evaluations(surrogate.diffusion, surrogate.diffusion.T, t_mid) + estimates
        return [(surrogate, own)] + ([(made, self.sampler.evaluations(made.diffusion, t_mid))] if made else [])

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit]:
        found = Counter()
        for model, count in self.evaluations(runs):
            if count:  # a surrogate whose x_T is handed over is evaluated never
                channels = runs[(self.model or self.surrogate).run].config.channels
                found[evaluation_of(model, channels, self.precision)] += count * self.num_samples
        return found

    def rows(self, runs: Runs) -> Rows:
        if self.given:
            data = runs[self.given.data].config
            return Rows("samples", data.channels * data.image_size**2, self.num_samples)
        made = runs[(self.surrogate or self.model).run].config
        # A surrogate's samples are resized to the data's size.
        size = runs[made.data].config.image_size if self.surrogate else made.model.image_size
        return Rows("samples", made.channels * size**2, self.num_samples)

    def share_made(self, record: dict) -> float:
        return record["sampled_now"] / self.num_samples


class ScoreConfig(Config):
    """The scores of samples. The workflow makes both in one job."""

    stage = "scores"
    seconds = "score_seconds"

    sample: str
    reference: str

    def needs(self) -> list[tuple[str, str]]:
        return [("samples", self.sample), ("references", self.reference)]

    def work(self, runs: Runs, real: RealImages | None) -> Counter[Unit]:
        return Counter({runs[self.reference].config.image_score(runs): runs[self.sample].config.num_samples})


def evaluation_of(model: Sampled, channels: int, asked: str) -> Evaluation:
    """One evaluation of a model that is asked to sample in a precision."""
    precision = model.sampling_precision(asked)
    return Evaluation(model=model.evaluated(), channels=channels, precision=precision)


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


@dataclass
class Collected:
    """Runs by id."""

    runs: dict[str, Run] = field(default_factory=dict)

    def add(self, name: str, config: Config) -> str:
        run = Run(name, config)
        self.runs[run.id] = run
        return run.id

    def of_stage(self, stage: str) -> list[str]:
        return [run_id for run_id, run in self.runs.items() if run.stage == stage]
