"""A score run: the scores of samples against both splits of the real images."""

import time
from pathlib import Path

import torch

from surrodiff.data.sources import SPLITS
from surrodiff.planning.runs import Run, SampleConfig, ScoreConfig
from surrodiff.scoring import features
from surrodiff.scoring.measuring import Real, against, measure, uncertainty
from surrodiff.scoring.metrics import Statistics
from surrodiff.stages import sample
from surrodiff.stages.job import Job
from surrodiff.stages.reference import STATISTICS
from surrodiff.store import provenance, tensors
from surrodiff.store.runs import RunFolder, load_run, verified


def make(run: Run[ScoreConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]]:
    """Score a sample run against both splits, from one pass of the feature network; the record says what the scores
    rest on."""
    began = time.monotonic()
    results, sample_id = job.results, run.config.sample
    path, protocol, reference = load_run(results, "references", run.config.reference)
    arrays, _ = tensors.load(verified(path, reference, STATISTICS))
    network = features.load(protocol.features, results, job.device)
    images, sample_record = sample.load(results, sample_id)
    batch = features.images_at_once(job.execution.sampling_batch)
    measured = measure(network, torch.from_numpy(images), protocol, job.device, batch, sample_id)
    _, config, _ = load_run(results, "samples", sample_id)
    scores = {}
    for split in SPLITS:
        statistics = Statistics(arrays[f"{split}_mean"], arrays[f"{split}_covariance"], reference[f"{split}_images"])
        real = Real(statistics, arrays[f"{split}_kept"])
        scores[split] = against(measured, real, protocol)
        if split == "train":
            scores[split] |= uncertainty(measured, real)
    is_mean, is_std = measured.inception_score
    record = {
        **scores,
        "is_mean": is_mean,
        "is_std": is_std,
        "is_splits": protocol.is_splits,
        "num_samples": measured.moments.count,
        "data": reference["data"],
        "features": network.name,
        "features_sha256": network.checksum,
        "sample": config.json_value(),
        "models": _models(results, config),
        "evaluations_per_sample": sample_record["evaluations_per_sample"],
        "sample_seconds": sample_record["sample_seconds"],
        "score_seconds": time.monotonic() - began,
        "sampled_by": sample_record["provenance"],
        "provenance": provenance.describe(job.device, protocol.features.precision),
    }
    return record, []


def _models(results: Path, config: SampleConfig) -> list[dict]:
    """Every model that took part in a sample, first those of samples with which it begins: after which step, its whole
    configuration, and what trained it."""
    begun = config.begun and load_run(results, "samples", config.begun.samples)[1]
    models = _models(results, begun) if begun else []
    for part in (config.model, config.surrogate):
        if part:
            _, model, record = load_run(results, "models", part.run)
            entry = {"run": part.run, "step": part.step, "config": model.json_value()}
            models.append({**entry, "train_seconds": record["train_seconds"], "provenance": record["provenance"]})
    return models
