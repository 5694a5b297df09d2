"""Reference statistics with their calibration, and the scores of samples against them."""

import time
from pathlib import Path

import torch

from surrodiff import data, features, provenance, samples, tensors
from surrodiff.errors import UserError
from surrodiff.metrics import InceptionScore, Moments, Statistics, frechet_distance
from surrodiff.plan import Run
from surrodiff.runs import complete, opened, verified

STATISTICS = "statistics.safetensors"


def _measure(network, images: torch.Tensor, splits: int, device, batch: int, what: str):
    moments, inception_score = Moments(len(images), groups=1), InceptionScore(len(images), splits)
    for vectors, logits in features.extract_all(network, images, device, batch, what):
        moments.add(vectors)
        inception_score.add(logits)
    return moments.statistics(), inception_score.result()


def reference(run: Run, results: Path, device: torch.device, batch: int) -> dict:
    """Feature statistics of the training split, shared by all scores, and the calibration: how far the held-out split
    is from it and the Inception Scores of both; returns the record."""
    with opened(results, run) as folder:
        if folder.record is None:
            config = run.config
            began = time.monotonic()
            arrays, data_record = data.load(results, config["data"])
            splits = config["is_splits"]
            if splits > len(arrays["held_out_images"]):
                raise UserError(
                    f"scoring.is_splits: {splits} is more than the {len(arrays['held_out_images'])} held-out pictures"
                )
            network = features.load(config["features"], results, device)
            train, train_is = _measure(network, arrays["train_images"], splits, device, batch, "train")
            held_out, held_out_is = _measure(network, arrays["held_out_images"], splits, device, batch, "held_out")
            tensors.save(folder.path / STATISTICS, {"mean": train.mean, "covariance": train.covariance})
            record = {
                "features": network.name,
                "features_sha256": network.checksum,
                "feature_dimensions": len(train.mean),
                "data": data_record["source"],
                "train_images": train.count,
                "held_out_images": held_out.count,
                "is_splits": splits,
                "calibration": {
                    "frechet_distance_held_out": frechet_distance(train, held_out),
                    "is_train_mean": train_is[0],
                    "is_train_std": train_is[1],
                    "is_held_out_mean": held_out_is[0],
                    "is_held_out_std": held_out_is[1],
                },
                "seconds": time.monotonic() - began,
                "provenance": provenance.describe(device, "float32"),
            }
            folder.finish(record, [STATISTICS])
        folder.mark_done()
        return folder.record


def score(run: Run, results: Path, device: torch.device, batch: int) -> dict:
    """Frechet distance to the training split and Inception Score of a sample run; returns the record, which says what
    it rests on."""
    with opened(results, run) as folder:
        if folder.record is None:
            began = time.monotonic()
            path, reference_config, reference_record = complete(results, "references", run.config["reference"])
            saved, _ = tensors.load(verified(path, reference_record, STATISTICS))
            train = Statistics(saved["mean"], saved["covariance"], reference_record["train_images"])
            network = features.load(reference_config["features"], results, device)
            images, sample_record = samples.load(results, run.config["sample"])
            splits = reference_config["is_splits"]
            generated, (is_mean, is_std) = _measure(
                network, torch.from_numpy(images), splits, device, batch, run.config["sample"]
            )
            _, sample_config, _ = complete(results, "samples", run.config["sample"])
            record = {
                "frechet_distance": frechet_distance(train, generated),
                "is_mean": is_mean,
                "is_std": is_std,
                "is_splits": splits,
                "num_samples": generated.count,
                "reference_images": train.count,
                "data": reference_record["data"],
                "features": network.name,
                "features_sha256": network.checksum,
                "sample": sample_config,
                "models": _models(results, sample_config),
                "evaluations_per_sample": sample_record["evaluations_per_sample"],
                "sample_seconds": sample_record["sample_seconds"],
                "score_seconds": time.monotonic() - began,
                "sampled_by": sample_record["provenance"],
                "provenance": provenance.describe(device, "float32"),
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
