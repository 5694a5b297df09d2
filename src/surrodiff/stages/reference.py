"""A reference run: statistics of the real images, and how the scores see real images: the calibration."""

import time

import torch

from surrodiff.data import sources
from surrodiff.data.sources import SPLITS
from surrodiff.errors import UserError
from surrodiff.planning.runs import ReferenceConfig, Run
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.noise import Stream
from surrodiff.scoring import corruptions, features
from surrodiff.scoring.measuring import LEAST_COUNT, Measured, Real, against, measure, uncertainty
from surrodiff.stages.job import Job
from surrodiff.store import provenance, tensors
from surrodiff.store.runs import RunFolder

STATISTICS = "statistics.safetensors"


def _check_counts(protocol: ReferenceConfig, splits: dict[str, torch.Tensor]):
    fewest = min(len(images) for images in splits.values())
    if fewest < LEAST_COUNT:
        raise UserError(f"data: {fewest} held-out images are too few to score with; have at least {LEAST_COUNT}")
    for key, least in (("is_splits", 0), ("kid_subset_size", 0), ("neighbours", 1)):
        value = getattr(protocol, key)
        if value + least > fewest:
            raise UserError(f"scoring.{key}: {value} is too many for {fewest} held-out images; lower it")


def make(run: Run[ReferenceConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]]:
    """Features of the training and the held-out split, shared by all scores, and the calibration: how the scores see
    real images, corrupted ones, and a split that lacks classes."""
    began = time.monotonic()
    protocol = run.config
    arrays, data_record = sources.load(job.results, protocol.data)
    splits, labels = {}, {}
    for split in SPLITS:
        # At random: files of a folder are sorted by class, and the Inception Score's splits are consecutive.
        order = noise.permutation(0, Stream.SCORING, 0, len(arrays[f"{split}_images"]))
        splits[split], labels[split] = arrays[f"{split}_images"][order], arrays[f"{split}_labels"][order]
    _check_counts(protocol, splits)
    network = features.load(protocol.features, job.results, job.device)
    batch = features.images_at_once(job.execution.sampling_batch)

    def measured(images: torch.Tensor, what: str) -> Measured:
        what = f"{what} of {protocol.data}, shuffled"
        return measure(network, images, protocol, job.device, batch, what)

    measurements = {split: measured(images, split) for split, images in splits.items()}
    real = {
        split: Real(measurement.moments.statistics(), measurement.kept) for split, measurement in measurements.items()
    }
    train, held_out = splits["train"], splits["held_out"]
    rows = [
        _row("train", None, None, measurements["train"], real, protocol, "held_out"),
        _row("held_out", None, None, measurements["held_out"], real, protocol, "train"),
    ]
    if len(train) > len(held_out):
        part_of_train = measured(train[: len(held_out)], "a part of train")
        rows.insert(1, _row("part of train", None, None, part_of_train, real, protocol, "held_out"))
    for kind, amount, images in corruptions.copies(held_out, labels["held_out"]):
        if len(images) < max(LEAST_COUNT, protocol.is_splits):
            distributed.print_rank0(f"reference: {kind} {amount} leaves {len(images)} images, too few to score")
            continue
        measurement = measured(images, f"held_out, {kind} {amount}")
        rows.append(_row("held_out", kind, amount, measurement, real, protocol, "train"))
    statistics = {f"{split}_{name}": value for split in SPLITS for name, value in _tensors(real[split]).items()}
    if distributed.rank() == 0:
        tensors.save(folder.path / STATISTICS, statistics)
    record = {
        "features": network.name,
        "features_sha256": network.checksum,
        "features_precision": protocol.features.precision,
        "feature_dimensions": measurements["train"].kept.shape[1],
        "data": data_record["source"],
        "train_images": len(train),
        "held_out_images": len(held_out),
        "is_splits": protocol.is_splits,
        "calibration": rows,
        "seconds": time.monotonic() - began,
        "provenance": provenance.describe(job.device, protocol.features.precision),
    }
    return record, [STATISTICS]


def _row(
    images: str, kind, amount, measured: Measured, real: dict[str, Real], protocol: ReferenceConfig, split: str
) -> dict:
    """A line of the calibration: a set of real images, scored against the given split."""
    is_mean, is_std = measured.inception_score
    description = {"images": images, "corruption": kind, "amount": amount, "num_images": measured.moments.count}
    distances = against(measured, real[split], protocol) | uncertainty(measured, real[split])
    return description | {"is_mean": is_mean, "is_std": is_std, split: distances}


def _tensors(real: Real) -> dict[str, torch.Tensor]:
    return {"mean": real.statistics.mean, "covariance": real.statistics.covariance, "kept": real.kept}
