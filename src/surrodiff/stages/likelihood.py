"""Bits per dimension of a DDPM's variational bound on held-out images (Nichol and Dhariwal, 2021, "Improved DDPM")."""

import math
import time
from pathlib import Path

import numpy as np
import torch

from surrodiff.data import pixels, sources
from surrodiff.diffusion.bound import variational_bound
from surrodiff.errors import UserError
from surrodiff.networks import acceleration
from surrodiff.planning.plan import Run
from surrodiff.runtime import devices, noise
from surrodiff.runtime.noise import Stream
from surrodiff.stages.samples import reverse_of
from surrodiff.store import provenance
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import RunFolder, load_run, open_run, write_text

TERMS = "terms.csv"


def likelihood(run: Run, results: Path, device: torch.device, batch: int | str) -> dict:
    """Bound the likelihood of held-out images, or go on where it was interrupted, or find it done; returns the record.

    Writes `terms.csv`, the mean of each term over the images. At most `batch` images at once (`auto`: see
    acceleration); it does not change them.
    """
    with open_run(results, run) as folder:
        if folder.record is None:
            _evaluate(run, folder, results, device, batch)
        folder.mark_done()
        return folder.record


def _evaluate(run: Run, folder: RunFolder, results: Path, device: torch.device, batch: int | str):
    config, total = run.config, run.config["num_images"]
    _, model, _ = load_run(results, "models", config["model"]["run"])
    if model["kind"] != "ddpm":
        raise UserError(f"likelihood: {config['model']['run']} is a {model['kind']}; only a ddpm has a bound")
    arrays, data_record = sources.load(results, model["data"])
    held_out = arrays["held_out_images"]
    if not 2 <= total <= len(held_out):
        raise UserError(f"likelihood.num_images: must be from 2 to the {len(held_out)} held-out images, got {total}")
    # The order of the images may be that of their classes.
    order = noise.permutation(config["seed"], Stream.BOUND, 0, len(held_out))[:total]
    images = pixels.resize_uint8(held_out[order], model["image_size"])
    reverse = reverse_of(config["model"], config, results, device)
    batch = acceleration.images_at_once(batch, reverse.probe, device)
    T = reverse.schedule.T
    parts = PartFiles(folder.path, "terms", total, np.float64, (T + 1,))
    start, (_, own) = total - len(parts.missing), parts.batches(batch)
    began = time.monotonic()
    progress = devices.Progress(f"likelihood {run.id}", total, "images", start)
    # The other processes are as far as this one.
    scale = (total - start) / max(1, sum(map(len, own))) / T

    def advance(count: int):
        progress.advance(count * scale)

    with parts.counted("bounds"):
        for numbers in own:
            rows = torch.from_numpy(numbers)
            x_0 = pixels.to_float(images[rows].to(device))
            terms = variational_bound(reverse, x_0, order[rows].to(device), advance)
            if not terms.isfinite().all():
                raise UserError(
                    f"{folder.path}: bounds of images {numbers[0]} to {numbers[-1]} are not finite; the model may have "
                    "diverged (see its losses.csv), or write likelihood.precision: float32"
                )
            folder.check()
            parts.add(numbers, terms.cpu().numpy())
    progress.close()
    terms = parts.collected()
    if terms is None:
        return
    bounds, means = terms.sum(1), terms.mean(0).tolist()
    write_text(folder.path / TERMS, "t,bits_per_dim\n" + "".join(f"{t},{bits}\n" for t, bits in enumerate(means)))
    record = {
        "bits_per_dim": float(bounds.mean()),
        "bits_per_dim_error": float(bounds.std(ddof=1) / math.sqrt(total)),
        "prior": means[0],
        "kl": sum(means[2:]),
        "decoder": means[1],
        "num_images": total,
        "image_size": model["image_size"],
        "T": T,
        "data": data_record["source"],
        "evaluated_now": total - start,
        "seconds": time.monotonic() - began,
        "provenance": provenance.describe(device, reverse.denoiser.precision),
    }
    folder.finish(record, [TERMS])
