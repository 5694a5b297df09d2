"""One function that makes any run, by its stage."""

from pathlib import Path

import torch

from surrodiff.data import sources
from surrodiff.planning.plan import Run
from surrodiff.stages import likelihood, samples, scoring, timing, training

FEATURE_BATCH = 128  # where `sampling_batch` is auto: images of 299 x 299 pixels fill a processor sooner than samples


def make(run: Run, results: Path, device: torch.device, execution: dict) -> dict:
    """Make a run, go on with it, or find it made; returns its record.

    execution: the preset's `execution` block. Raises UserError if a run that this one reads is not complete, or for
    anything else that the user can mend.
    """
    batch = execution["sampling_batch"]
    feature_batch = FEATURE_BATCH if batch == "auto" else batch
    match run.stage:
        case "data":
            return sources.prepare(run, results)
        case "models":
            return training.train(run, results, device, execution)
        case "references":
            return scoring.reference(run, results, device, feature_batch)
        case "samples":
            return samples.sample(run, results, device, batch, execution["compile"])
        case "scores":
            return scoring.score(run, results, device, feature_batch)
        case "likelihoods":
            return likelihood.likelihood(run, results, device, batch)
        case "timings":
            return timing.time_model(run, results, device, execution)
        case stage:
            raise ValueError(f"no stage {stage!r}")
