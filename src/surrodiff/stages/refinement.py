"""A refinement run: the samples of a surrogate beside what the diffusion makes of them, image by image."""

import math
import time

import torch

from surrodiff.data import sources
from surrodiff.planning.measures import RefinementConfig
from surrodiff.planning.runs import Run
from surrodiff.runtime import distributed
from surrodiff.scoring import features, refinement
from surrodiff.stages import sample
from surrodiff.stages.job import Job
from surrodiff.store import provenance
from surrodiff.store.runs import RunFolder, load_run


def make(run: Run[RefinementConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Compare both sets of samples in pixels, where a distance is the root mean square difference in [-1, 1], and in
    features (see scoring.refinement). Of several processes the first does all but the features."""
    began, config, results = time.monotonic(), run.config, job.results
    _, protocol, _ = load_run(results, "references", config.reference)
    network = features.load(protocol.features, results, job.device)
    batch = features.images_at_once(job.execution.sampling_batch)
    arrays, data_record = sources.load(results, config.data)
    images = {
        config.surrogate: torch.from_numpy(sample.load(results, config.surrogate)[0]),
        config.refined: torch.from_numpy(sample.load(results, config.refined)[0]),
        f"train of {config.data}": arrays["train_images"],
    }
    vectors = [
        torch.cat([part for part, _ in features.extract_all(network, pixels, job.device, batch, what)])
        for what, pixels in images.items()
    ]
    if distributed.rank() > 0:
        return None
    rows = [pixels.flatten(1).to(job.device) for pixels in images.values()]
    in_pixels = refinement.compare(*rows)
    scale = 127.5 * math.sqrt(rows[0].shape[1])  # of the distance of 8-bit values to the root mean square in [-1, 1]
    in_pixels |= {key: in_pixels[key] / scale for key in ("distance", "distance_error")}
    record = {
        "pixels": in_pixels,
        "features": refinement.compare(*(part.to(job.device) for part in vectors)),
        "num_samples": len(rows[0]),
        "train_images": len(rows[2]),
        "neighbours": refinement.NEIGHBOURS,
        "data": data_record["source"],
        "feature_network": network.name,
        "features_sha256": network.checksum,
        "seconds": time.monotonic() - began,
        "provenance": provenance.describe(job.device, protocol.features.precision),
    }
    return record, []
