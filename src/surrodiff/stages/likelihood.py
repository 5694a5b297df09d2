"""Bits per dimension of a DDPM's variational bound on held-out images (Nichol and Dhariwal, 2021, "Improved DDPM")."""

import math
import time

import numpy as np
import torch

from surrodiff.config.samplers import Ancestral
from surrodiff.data import pixels, sources
from surrodiff.diffusion.likelihood import variational_bound
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import load_evaluation
from surrodiff.networks import acceleration
from surrodiff.planning.runs import LikelihoodConfig, Run
from surrodiff.runtime import devices, noise
from surrodiff.runtime.noise import Stream
from surrodiff.stages.job import Job
from surrodiff.store import provenance
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import RunFolder, load_run, write_text

TERMS = "terms.csv"


def make(run: Run[LikelihoodConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Bound the likelihood of held-out images, or resume where it was interrupted.

    Writes `terms.csv`: by t, the mean of each term over the images (at t = 0 the prior's) and of a learned variance's
    v. At most `sampling_batch` images at once (`auto`: see acceleration); it does not change them.
    """
    config, total, device = run.config, run.config.num_images, job.device
    _, made, _ = load_run(job.results, "models", config.model.run)
    process = kind_of(made.model).process
    if process is None:
        raise UserError(f"likelihood: {config.model.run} is a {made.model.kind}; only a ddpm has a bound")
    arrays, data_record = sources.load(job.results, config.data)
    held_out = arrays["held_out_images"]
    if not 2 <= total <= len(held_out):
        raise UserError(f"likelihood.num_images: must be from 2 to the {len(held_out)} held-out images, got {total}")
    # The order of the images may be that of their classes.
    order = noise.permutation(config.seed, Stream.BOUND, 0, len(held_out))[:total]
    images = pixels.resize_uint8(held_out[order], made.model.image_size)
    network, _ = load_evaluation(job.results, config.model, config.precision, device)
    how = {"variance": config.variance, "clip_x0": config.clip_x0, "timesteps": config.timesteps}
    sampler = Ancestral(kind="ancestral", **how)
    reverse = process(network, made, sampler, config.seed, device)
    batch = acceleration.images_at_once(job.execution.sampling_batch, reverse.probe, device)
    timesteps = reverse.schedule.timesteps
    learns = config.variance == "learned"
    # Of each image the terms of the bound, then the mean v at each timestep where it is learned.
    parts = PartFiles(folder.path, "terms", total, np.float64, (len(timesteps) * (1 + learns) + 1,))
    start, (_, own) = total - len(parts.missing), parts.batches(batch)
    began = time.monotonic()
    progress = devices.Progress(f"likelihood {run.id}", total, "images", start)
    # Assumes equal progress on all ranks.
    scale = (total - start) / max(1, sum(map(len, own))) / len(timesteps)

    def advance(count: int):
        progress.advance(count * scale)

    with parts.counted("bounds"):
        for numbers in own:
            rows = torch.from_numpy(numbers)
            x_0 = pixels.to_float(images[rows].to(device))
            terms, learned = variational_bound(reverse, x_0, order[rows].to(device), advance)
            if not terms.isfinite().all():
                raise UserError(
                    f"{folder.path}: bounds of images {numbers[0]} to {numbers[-1]} are not finite; the model may have "
                    "diverged (see its losses.csv), or write likelihood.precision: float32"
                )
            folder.check()
            parts.add(numbers, (torch.cat([terms, learned], 1) if learns else terms).cpu().numpy())
    progress.close()
    collected = parts.collected()
    if collected is None:
        return None
    terms, learned = np.split(collected, [len(timesteps) + 1], 1)
    bounds, means = terms.sum(1), terms.mean(0).tolist()
    v = learned.mean(0).tolist() if learns else [""] * len(timesteps)
    lines = zip((0, *timesteps), means, ("", *v), strict=True)
    write_text(folder.path / TERMS, "t,bits_per_dim,v\n" + "".join(f"{t},{bits},{v_t}\n" for t, bits, v_t in lines))
    record = {
        "bits_per_dim": float(bounds.mean()),
        "bits_per_dim_error": float(bounds.std(ddof=1) / math.sqrt(total)),
        "prior": means[0],
        "kl": sum(means[2:]),
        "decoder": means[1],
        "num_images": total,
        "image_size": made.model.image_size,
        "T": reverse.schedule.T,
        "timesteps": len(timesteps),
        "data": data_record["source"],
        "evaluated_now": total - start,
        "seconds": time.monotonic() - began,
        "provenance": provenance.describe(device, reverse.denoiser.precision),
    }
    return record, [TERMS]
