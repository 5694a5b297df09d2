"""What the report reads of runs' records, typed; and every record read once an output."""

from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from surrodiff.errors import UserError
from surrodiff.store.runs import load_run


class Record(BaseModel):
    """A part of a record; what the report does not read is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Provenance(Record):
    device: str


class Distances(Record):
    """Of a set of images to a split of the real ones (see scoring.measuring.against); the last two are given for
    one split alone."""

    frechet_distance: float
    kernel_distance: float
    kernel_distance_std: float
    precision: float
    recall: float
    frechet_error: float | None = None
    frechet_infinity: float | None = None


class Scores(Record):
    """Of any set of images."""

    is_mean: float
    is_std: float
    train: Distances | None = None
    held_out: Distances | None = None


class Score(Scores):
    """Of samples."""

    features: str
    data: str
    num_samples: int
    is_splits: int


class RealScores(Scores):
    """Of real images, whole or corrupted by an amount."""

    images: str
    corruption: str | None
    amount: float | None
    num_images: int


class Reference(Record):
    features: str
    features_precision: str
    features_sha256: str
    data: str
    train_images: int
    held_out_images: int
    is_splits: int
    calibration: list[RealScores]


class Trained(Record):
    parameters: int
    parameters_by_paper: float | None = None


class BoundBySamples(Record):
    """-L_k in nats for k samples, and by how much L_k exceeds the one before; each with its standard error over
    images."""

    samples: int
    nats: float
    nats_error: float
    rise: float | None
    rise_error: float | None


class Bound(Record):
    """Of a likelihood, in bits per dimension, with its standard error over images: of a diffusion its three parts, of a
    model with a likelihood of its own -log p in nats and all of its bounds, by rising numbers of samples."""

    bits_per_dim: float
    bits_per_dim_error: float
    prior: float | None = None
    kl: float | None = None
    decoder: float | None = None
    nats: float | None = None
    nats_error: float | None = None
    bounds: list[BoundBySamples] = []
    num_images: int
    data: str


class Changes(Record):
    """What refinement changes in images, in pixels or in features (see scoring.refinement)."""

    distance: float
    distance_error: float
    relative: float
    relative_error: float
    kept: float
    kept_error: float
    kept_by_chance: float
    above_chance: float
    above_chance_error: float
    within: float
    within_by_chance: float


class Refinement(Record):
    """Of a surrogate's samples. neighbours: among how many nearest training images `within` looks."""

    pixels: Changes
    features: Changes
    num_samples: int
    train_images: int
    neighbours: int
    data: str
    feature_network: str


class Speeds(Record):
    """Seconds, or ratios of them."""

    train_step: float = Field(alias="train_step_seconds")
    evaluation: float = Field(alias="evaluation_seconds_per_image")


class Timing(Record):
    """A model's seconds, and how they compare with Default's, with half of an interval (see stages.time)."""

    model: Speeds
    to_baseline: Speeds
    to_baseline_interval: Speeds
    provenance: Provenance


KINDS = {
    "scores": Score,
    "references": Reference,
    "models": Trained,
    "refinements": Refinement,
    "likelihoods": Bound,
    "timings": Timing,
}
Kind = TypeVar("Kind", bound=Record)


class Records:
    """The records of complete runs below `results`. Every method raises UserError if the run is not complete."""

    def __init__(self, results: Path):
        self.results = results
        self._read = cache(self._read_anew)

    def _read_anew(self, stage: str, run_id: str) -> Record:
        path, _, record = load_run(self.results, stage, run_id)
        try:
            return KINDS[stage].model_validate(record)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise UserError(
                f"{path / 'record.json'}: {key}: {error.errors()[0]['msg']}; delete {path} to make the run anew"
            ) from None

    def score(self, run_id: str) -> Score:
        return self._read("scores", run_id)

    def reference(self, run_id: str) -> Reference:
        return self._read("references", run_id)

    def trained(self, run_id: str) -> Trained:
        return self._read("models", run_id)

    def bound(self, run_id: str) -> Bound:
        return self._read("likelihoods", run_id)

    def refinement(self, run_id: str) -> Refinement:
        return self._read("refinements", run_id)

    def timing(self, run_id: str) -> Timing:
        return self._read("timings", run_id)
