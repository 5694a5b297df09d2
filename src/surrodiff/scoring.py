"""Reference statistics with their calibration, and the scores of samples against them."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from surrodiff import damage, data, distributed, features, noise, provenance, samples, tensors
from surrodiff.errors import UserError
from surrodiff.metrics import (
    InceptionScore,
    Moments,
    Statistics,
    frechet_distance,
    frechet_error,
    frechet_infinity,
    kernel_distance,
    precision_recall,
)
from surrodiff.noise import Stream
from surrodiff.plan import Run
from surrodiff.runs import complete, opened, verified
from surrodiff.uncertainty import jackknife_groups

STATISTICS = "statistics.safetensors"
SPLITS = ("train", "held_out")
LEAST_COUNT = 4
FULL_COUNT = 50_000  # the number of samples of published distances, whose bias is part of the convention


@dataclass(frozen=True)
class Measured:
    """What one pass over a set of images leaves: moments of all features, the first `kept` features (K, D) float32, and
    the Inception Score's mean and standard deviation over its splits."""

    moments: Moments
    kept: torch.Tensor
    inception_score: tuple[float, float]


@dataclass(frozen=True)
class Real:
    """A split of the real images to score against: moments of all, and kept features (K, D)."""

    statistics: Statistics
    kept: torch.Tensor


def measure(network, images: torch.Tensor, protocol: dict, device: torch.device, batch: int, what: str) -> Measured:
    """One pass of the feature network over uint8 images (N, C, H, W); protocol: a reference run's configuration."""
    moments = Moments(len(images), groups=jackknife_groups(len(images)))
    inception_score = InceptionScore(len(images), protocol["is_splits"])
    kept, room = [], protocol["kept_features"]
    for vectors, logits in features.extract_all(network, images, device, batch, what):
        moments.add(vectors)
        inception_score.add(logits)
        kept.append(vectors[:room].cpu())
        room -= len(kept[-1])
    return Measured(moments, torch.cat(kept), inception_score.result())


def against(measured: Measured, real: Real, protocol: dict) -> dict[str, float]:
    """The distances of a measured set to a split of the real images (see metrics)."""
    kid = {key: protocol[f"kid_{key}"] for key in ("subsets", "subset_size")}
    kernel, kernel_std = kernel_distance(measured.kept, real.kept, seed=0, **kid)
    # Of a set that lacks classes there may be fewer images than neighbours.
    neighbours = min(protocol["neighbours"], len(measured.kept) - 1)
    precision, recall = precision_recall(measured.kept, real.kept, neighbours)
    return {
        "frechet_distance": frechet_distance(measured.moments.statistics(), real.statistics),
        "kernel_distance": kernel,
        "kernel_distance_std": kernel_std,
        "precision": precision,
        "recall": recall,
    }


def uncertainty(measured: Measured, real: Real) -> dict[str, float | None]:
    """The Frechet distance's standard error, and its extrapolation to endlessly many samples: None for the published
    FULL_COUNT. Tens of distances each, so only against the split that tables compare with."""
    full = measured.moments.count >= FULL_COUNT
    return {
        "frechet_error": frechet_error(measured.moments, real.statistics),
        "frechet_infinity": None if full else frechet_infinity(measured.moments, real.statistics),
    }


def _check_counts(protocol: dict, splits: dict[str, torch.Tensor]):
    fewest = min(len(images) for images in splits.values())
    if fewest < LEAST_COUNT:
        raise UserError(f"data: {fewest} held-out pictures are too few to score with; have at least {LEAST_COUNT}")
    for key, least in (("is_splits", 0), ("kid_subset_size", 0), ("neighbours", 1)):
        if protocol[key] + least > fewest:
            raise UserError(f"scoring.{key}: {protocol[key]} is too many for {fewest} held-out pictures; lower it")


def reference(run: Run, results: Path, device: torch.device, batch: int) -> dict:
    """Features of the training and the held-out split, shared by all scores, and the calibration: how the scores see
    real images, damaged ones, and a split that lacks classes; returns the record."""
    with opened(results, run) as folder:
        if folder.record is None:
            began = time.monotonic()
            protocol = run.config
            arrays, data_record = data.load(results, protocol["data"])
            splits, labels = {}, {}
            for split in SPLITS:
                # At random: files of a folder are sorted by class, and the Inception Score's splits are consecutive.
                order = noise.permutation(0, Stream.SCORING, 0, len(arrays[f"{split}_images"]))
                splits[split], labels[split] = arrays[f"{split}_images"][order], arrays[f"{split}_labels"][order]
            _check_counts(protocol, splits)
            network = features.load(protocol["features"], results, device)

            def measured(images: torch.Tensor, what: str) -> Measured:
                what = f"{what} of {protocol['data']}, shuffled"
                return measure(network, images, protocol, device, batch, what)

            whole = {split: measured(images, split) for split, images in splits.items()}
            real = {split: Real(found.moments.statistics(), found.kept) for split, found in whole.items()}
            train, held_out = splits["train"], splits["held_out"]
            rows = [
                _row("train", None, None, whole["train"], real, protocol, "held_out"),
                _row("held_out", None, None, whole["held_out"], real, protocol, "train"),
            ]
            if len(train) > len(held_out):
                part = measured(train[: len(held_out)], "a part of train")
                rows.insert(1, _row("part of train", None, None, part, real, protocol, "held_out"))
            for kind, amount, images in damage.copies(held_out, labels["held_out"]):
                if len(images) < max(LEAST_COUNT, protocol["is_splits"]):
                    distributed.say(f"reference: {kind} {amount} leaves {len(images)} images, too few to score")
                    continue
                found = measured(images, f"held_out, {kind} {amount}")
                rows.append(_row("held_out", kind, amount, found, real, protocol, "train"))
            statistics = {f"{split}_{name}": value for split in SPLITS for name, value in _tensors(real[split]).items()}
            if distributed.rank() == 0:
                tensors.save(folder.path / STATISTICS, statistics)
            record = {
                "features": network.name,
                "features_sha256": network.checksum,
                "features_precision": protocol["features"]["precision"],
                "feature_dimensions": whole["train"].kept.shape[1],
                "data": data_record["source"],
                "train_images": len(train),
                "held_out_images": len(held_out),
                "is_splits": protocol["is_splits"],
                "calibration": rows,
                "seconds": time.monotonic() - began,
                "provenance": provenance.describe(device, protocol["features"]["precision"]),
            }
            folder.finish(record, [STATISTICS])
        folder.mark_done()
        return folder.record


def _row(images: str, kind, amount, measured: Measured, real: dict[str, Real], protocol: dict, split: str) -> dict:
    """A line of the calibration: a set of real images, scored against the given split."""
    is_mean, is_std = measured.inception_score
    own = {"images": images, "damage": kind, "amount": amount, "num_images": measured.moments.count}
    found = against(measured, real[split], protocol) | uncertainty(measured, real[split])
    return own | {"is_mean": is_mean, "is_std": is_std, split: found}


def _tensors(real: Real) -> dict[str, torch.Tensor]:
    return {"mean": real.statistics.mean, "covariance": real.statistics.covariance, "kept": real.kept}


def score(run: Run, results: Path, device: torch.device, batch: int) -> dict:
    """Scores of a sample run against both splits of the real images, from one pass of the feature network; returns the
    record, which says what they rest on."""
    with opened(results, run) as folder:
        if folder.record is None:
            began = time.monotonic()
            path, protocol, reference_record = complete(results, "references", run.config["reference"])
            saved, _ = tensors.load(verified(path, reference_record, STATISTICS))
            network = features.load(protocol["features"], results, device)
            images, sample_record = samples.load(results, run.config["sample"])
            measured = measure(network, torch.from_numpy(images), protocol, device, batch, run.config["sample"])
            _, sample_config, _ = complete(results, "samples", run.config["sample"])
            scores = {}
            for split in SPLITS:
                count = reference_record[f"{split}_images"]
                statistics = Statistics(saved[f"{split}_mean"], saved[f"{split}_covariance"], count)
                real = Real(statistics, saved[f"{split}_kept"])
                scores[split] = against(measured, real, protocol)
                if split == "train":
                    scores[split] |= uncertainty(measured, real)
            is_mean, is_std = measured.inception_score
            record = {
                **scores,
                "is_mean": is_mean,
                "is_std": is_std,
                "is_splits": protocol["is_splits"],
                "num_samples": measured.moments.count,
                "data": reference_record["data"],
                "features": network.name,
                "features_sha256": network.checksum,
                "sample": sample_config,
                "models": _models(results, sample_config),
                "evaluations_per_sample": sample_record["evaluations_per_sample"],
                "sample_seconds": sample_record["sample_seconds"],
                "score_seconds": time.monotonic() - began,
                "sampled_by": sample_record["provenance"],
                "provenance": provenance.describe(device, protocol["features"]["precision"]),
            }
            folder.finish(record, [])
        folder.mark_done()
        return folder.record


def _models(results: Path, sample_config: dict) -> list[dict]:
    """Every model that took part in a sample: after which step, its whole configuration, and what trained it."""
    made = []
    for part in (sample_config["model"], sample_config["surrogate"]):
        if part:
            _, config, record = complete(results, "models", part["run"])
            own = {"run": part["run"], "step": part["step"], "config": config}
            made.append({**own, "train_seconds": record["train_seconds"], "provenance": record["provenance"]})
    return made
