"""What a row's runs say: means over seeds, 95 % intervals, speeds beside Default's."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from surrodiff.planning.plan import Row
from surrodiff.planning.recipes import Recipe
from surrodiff.report.records import Bound, Record, Records, Refinement, Score
from surrodiff.scoring.uncertainty import (
    Estimate,
    Measurement,
    Spread,
    difference,
    jackknife_groups,
    student_95,
)
from surrodiff.store.losses import training_losses
from surrodiff.store.runs import load_run, verified

# By metric of a refinement: in pixels or in features, which change, with its error of that name.
REFINEMENTS = {
    "moved": ("pixels", "distance"),
    "moved_relative": ("pixels", "relative"),
    "moved_in_features": ("features", "relative"),
    "neighbour_kept": ("pixels", "kept"),
    "neighbour_above_chance": ("pixels", "above_chance"),
    "feature_neighbour_kept": ("features", "kept"),
    "feature_neighbour_above_chance": ("features", "above_chance"),
}
# Metrics whose spread over Default's trainings says nothing of other rows': one training has an interval over images.
OVER_IMAGES = ("bits_per_dim", "nll", "bound_rise", *REFINEMENTS)


@dataclass(frozen=True)
class Names:
    """How the Frechet distance, the Inception Score and the kernel distance are called in a table."""

    distance: str
    score: str
    kernel: str


def score_names(features: str, num_samples: int | None) -> Names:
    """`fid`, `is`, `kid` only for the 2015 Inception's features, `fid` only for 50,000 samples; else the features are
    part of the name."""
    if features == "inception":
        return Names("fid" if num_samples == 50_000 else "fd_inception", "is", "kid")
    return Names(f"fd_{features}", f"is_{features}", f"kd_{features}")


@dataclass(frozen=True)
class Ratio:
    """A value, its ratio to Default's, and half of the ratio's interval."""

    value: float
    ratio: float
    interval: float


@dataclass(frozen=True)
class Cost:
    """Hours of training every model that a row's images need, and of drawing all of its samples."""

    training: float
    sampling: float


def over_samples(error: float, count: int) -> float:
    """Half of a distance's 95 % interval over samples, by the jackknife's standard error of so many."""
    return student_95(jackknife_groups(count) - 1) * error


def _least_rise(bound: Bound) -> Measurement:
    """By how much a bound exceeds the one by fewer samples, where that is least sure."""
    rises = [Measurement(line.rise, line.rise_error) for line in bound.bounds if line.rise is not None]
    return min(rises, key=lambda rise: rise.value / max(rise.error, 1e-300))


def _change(record: Refinement, metric: str) -> Measurement:
    space, name = REFINEMENTS[metric]
    changes = getattr(record, space)
    return Measurement(getattr(changes, name), getattr(changes, f"{name}_error"))


class Values:
    """The values of a recipe's rows, with intervals (see scoring.uncertainty).

    A row of one seed is taken to vary as Default's trainings do; its loss's variance, whose size differs much between
    rows, as they do relative to their mean.
    """

    def __init__(self, recipe: Recipe, records: Records):
        self.records, self.recipe = records, recipe
        self._of_default: dict[str, dict[int, Measurement]] = {}

    @cached_property
    def names(self) -> Names:
        """How this recipe's scores are called."""
        (score, *_) = self.scores(self.recipe.default)
        return score_names(score.features, score.num_samples)

    def scores(self, row: Row) -> list[Score]:
        """A row's scores, one for each pair of seeds."""
        return [self.records.score(run.score) for run in row.runs]

    def bounds(self, row: Row) -> list[Bound]:
        """A row's likelihoods, one for each pair of seeds: the same ones for every sampling seed."""
        return [self.records.bound(run.likelihood) for run in row.runs]

    def refinements(self, row: Row) -> list[Refinement]:
        """What became of a row's images, one for each pair of seeds; of a row that is not refined none."""
        return [self.records.refinement(run.refinement) for run in row.runs if run.refinement]

    def _by_seed(
        self, row: Row, records: list[Record], measure: Callable[[Record], Measurement]
    ) -> dict[int, Measurement]:
        """What a function measures of a row's records, averaged over the sampling seeds of each training seed."""
        measurements: dict[int, list[Measurement]] = {}
        for run, record in zip(row.runs, records, strict=True):
            measurements.setdefault(run.seed, []).append(measure(record))
        return {
            seed: Measurement(
                statistics.fmean(m.value for m in several), math.hypot(*(m.error for m in several)) / len(several)
            )
            for seed, several in measurements.items()
        }

    def _loss_variances(self, row: Row) -> dict[int, Measurement]:
        """Variance of the training loss around its running mean, relative to that mean, after the first third of
        training; the error takes logged losses for independent normal ones. Of a log of three rows or fewer, NaN."""
        variances = {}
        for seed, model in {run.seed: run.model for run in row.runs}.items():
            losses = training_losses(self.records.results, model)["loss"]
            losses = losses[len(losses) // 3 :]
            relative = losses / losses.rolling(max(3, len(losses) // 10), center=True, min_periods=1).mean()
            variance = float(relative.var()) if len(losses) > 3 else math.nan
            variances[seed] = Measurement(variance, variance * math.sqrt(2 / max(1, len(losses) - 1)))
        return variances

    def _measured(self, metric: str, row: Row) -> dict[int, Measurement]:
        match metric:
            case "distance":
                scores = self.scores(row)
                return self._by_seed(
                    row, scores, lambda s: Measurement(s.train.frechet_distance, s.train.frechet_error)
                )
            case "score":
                scores = self.scores(row)
                return self._by_seed(row, scores, lambda s: Measurement(s.is_mean, s.is_std / math.sqrt(s.is_splits)))
            case "loss_variance":
                return self._loss_variances(row)
            case "bits_per_dim":
                return {
                    run.seed: Measurement(bound.bits_per_dim, bound.bits_per_dim_error)
                    for run, bound in zip(row.runs, self.bounds(row), strict=True)
                }
            case "nll":
                return {
                    run.seed: Measurement(bound.nats, bound.nats_error)
                    for run, bound in zip(row.runs, self.bounds(row), strict=True)
                }
            case "bound_rise":
                return {run.seed: _least_rise(bound) for run, bound in zip(row.runs, self.bounds(row), strict=True)}
            case _ if metric in REFINEMENTS:
                return self._by_seed(row, self.refinements(row), lambda r: _change(r, metric))
        raise ValueError(f"no metric {metric!r} that varies with the training")

    def estimate(self, metric: str, row: Row) -> Estimate:
        """A row's `distance`, `score` (the Inception Score), `loss_variance`, or one of OVER_IMAGES. Nothing
        shows how trainings differ in the last."""
        by_seed = self._measured(metric, row)
        if metric in OVER_IMAGES or self.recipe.default is None:
            return Estimate(by_seed, None)
        if metric not in self._of_default:
            self._of_default[metric] = self._measured(metric, self.recipe.default)
        default = self._of_default[metric]
        spread = Spread.over(default)
        if spread and metric == "loss_variance":
            spread = spread.scaled(Estimate(by_seed, None).value / Estimate(default, None).value)
        return Estimate(by_seed, spread)

    def interval(self, metric: str, row: Row) -> float | None:
        """Half of the 95 % interval of a row's value. Of a row about one training of several, and of what one training
        alone has OVER_IMAGES, it is that over samples or images."""
        estimate = self.estimate(metric, row)
        if metric == "distance" and row.line.seeds:
            (measurement,) = estimate.by_seed.values()
            return over_samples(measurement.error, self.scores(row)[0].num_samples)
        if metric in OVER_IMAGES and len(row.seeds) == 1:
            refined = metric in REFINEMENTS
            count = self.refinements(row)[0].num_samples if refined else self.bounds(row)[0].num_images
            return student_95(count - 1) * estimate.by_seed[row.seeds[0]].error
        return estimate.interval

    def has_nats(self, row: Row) -> bool:
        """Whether a row's likelihood is of a model that has one of its own, and so is in nats."""
        return self.bounds(row)[0].nats is not None

    def has_rises(self, row: Row) -> bool:
        """Whether a row's likelihood has bounds by several numbers of samples."""
        return len(self.bounds(row)[0].bounds) > 1

    def nats_of_images(self, row: Row) -> pd.Series:
        """-log p in nats, by the tightest bound, by the number of the held-out image; of the first training."""
        path, _, record = load_run(self.records.results, "likelihoods", row.runs[0].likelihood)
        return pd.read_csv(verified(path, record, "images.csv"), index_col="image").iloc[:, -1]

    def is_default(self, row: Row) -> bool:
        """Whether a row shows Default's samples after its last step."""
        return row.runs[0].sample in [run.sample for run in self.recipe.default.runs]

    def against_default(self, row: Row) -> str:
        """`better`, `worse` or `within interval`, that of the difference from the mean of Default's seeds; nothing for
        Default itself, and where one seed is all there is."""
        if self.is_default(row):
            return ""
        default = self.estimate("distance", self.recipe.default)
        excess, interval = difference(self.estimate("distance", row), default)
        if interval is None:
            return ""
        if abs(excess) <= interval:
            return "within interval"
        return "better" if excess < 0 else "worse"

    def _of_timing(self, timing: str, what: str) -> tuple[float, float]:
        """A ratio to Default, and half of its interval."""
        record = self.records.timing(timing)
        return getattr(record.to_baseline, what), getattr(record.to_baseline_interval, what)

    def speed(self, row: Row) -> Ratio | None:
        """Samples per second of a timed row: each of its networks as often as it is evaluated, all relative to
        Default's whole chain, since each was measured beside Default in one job."""
        if not row.timings:
            return None
        ((default, default_count),) = self.recipe.default.timings
        parts = [(*self._of_timing(timing, "evaluation"), count) for timing, count in row.timings]
        relative = sum(ratio * count for ratio, _, count in parts) / default_count
        spread = math.hypot(*(interval * count for _, interval, count in parts)) / default_count
        default_speed = 1 / (self.records.timing(default).model.evaluation * default_count)
        return Ratio(default_speed / relative, 1 / relative, spread / relative**2)

    def cost(self, row: Row) -> Cost | None:
        """What a timed row's samples cost with nothing there before."""
        speed = self.speed(row)
        if speed is None:
            return None
        ((default, _),) = self.recipe.default.timings
        step = self.records.timing(default).model.train_step
        steps = sum(self._of_timing(timing, "train_step")[0] * count for timing, count in row.trainings)
        return Cost(step * steps / 3600, row.num_samples / speed.value / 3600)

    def train_time(self, row: Row) -> Ratio | None:
        """Hours of training a timed row's model up to its step, by the ratio of a step to Default's."""
        if not row.timings:
            return None
        ((default, _),) = self.recipe.default.timings
        ratio, interval = self._of_timing(row.timings[0][0], "train_step")
        hours = ratio * self.records.timing(default).model.train_step * row.step / 3600
        return Ratio(hours, ratio, interval)
