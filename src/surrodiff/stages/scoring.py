"""Reference statistics with their calibration, and the scores of samples against them."""

import time
from pathlib import Path

import torch

from surrodiff.data import sources
from surrodiff.errors import UserError
from surrodiff.planning.plan import Run
from surrodiff.runtime import distributed, noise
from surrodiff.runtime.noise import Stream
from surrodiff.scoring import corruptions, features
from surrodiff.scoring.measuring import LEAST_COUNT, Measured, Real, against, measure, uncertainty
from surrodiff.scoring.metrics import (
    Statistics,
)
from surrodiff.stages import samples
from surrodiff.store import provenance, tensors
from surrodiff.store.runs import load_run, open_run, verified

STATISTICS = "statistics.safetensors"
SPLITS = ("train", "held_out")


def _check_counts(protocol: dict, splits: dict[str, torch.Tensor]):
    fewest = min(len(images) for images in splits.values())
    if fewest < LEAST_COUNT:
        raise UserError(f"data: {fewest} held-out images are too few to score with; have at least {LEAST_COUNT}")
    for key, least in (("is_splits", 0), ("kid_subset_size", 0), ("neighbours", 1)):
        if protocol[key] + least > fewest:
            raise UserError(f"scoring.{key}: {protocol[key]} is too many for {fewest} held-out images; lower it")


def reference(run: Run, results: Path, device: torch.device, batch: int) -> dict:
    """Features of the training and the held-out split, shared by all scores, and the calibration: how the scores see
    real images, damaged ones, and a split that lacks classes; returns the record."""
    with open_run(results, run) as folder:
        if folder.record is None:
            began = time.monotonic()
            protocol = run.config
            arrays, data_record = sources.load(results, protocol["data"])
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
            for kind, amount, images in corruptions.copies(held_out, labels["held_out"]):
                if len(images) < max(LEAST_COUNT, protocol["is_splits"]):
                    distributed.print_rank0(f"reference: {kind} {amount} leaves {len(images)} images, too few to score")
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
    with open_run(results, run) as folder:
        if folder.record is None:
            began = time.monotonic()
            path, protocol, reference_record = load_run(results, "references", run.config["reference"])
            saved, _ = tensors.load(verified(path, reference_record, STATISTICS))
            network = features.load(protocol["features"], results, device)
            images, sample_record = samples.load(results, run.config["sample"])
            measured = measure(network, torch.from_numpy(images), protocol, device, batch, run.config["sample"])
            _, sample_config, _ = load_run(results, "samples", run.config["sample"])
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
            _, config, record = load_run(results, "models", part["run"])
            own = {"run": part["run"], "step": part["step"], "config": config}
            made.append({**own, "train_seconds": record["train_seconds"], "provenance": record["provenance"]})
    return made
