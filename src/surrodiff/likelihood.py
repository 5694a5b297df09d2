"""Bits per dimension of a DDPM's variational bound on held-out images (Nichol and Dhariwal, 2021, "Improved DDPM")."""

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.special import log_ndtr

from surrodiff import acceleration, data, devices, noise, provenance
from surrodiff.errors import UserError
from surrodiff.noise import Stream
from surrodiff.parts import PartFiles
from surrodiff.plan import Run
from surrodiff.runs import RunFolder, complete, opened, write_text
from surrodiff.samples import reverse_of
from surrodiff.sampling import Advance, ReverseProcess, no_progress

TERMS = "terms.csv"
HALF_BIN = 1 / 255  # half the distance of two 8-bit values in [-1, 1]


def gaussian_kl(mean_q, sigma_q, mean_p, sigma_p) -> torch.Tensor:
    """KL(N(mean_q, sigma_q^2) || N(mean_p, sigma_p^2)) in nats, elementwise."""
    ratio = (sigma_q / sigma_p) ** 2
    return (((mean_q - mean_p) / sigma_p) ** 2 + ratio - 1 - torch.log(ratio)) / 2


def decoder_nll(x_0: torch.Tensor, mean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """-log of the mass of N(mean, sigma^2) in the bins of 8-bit values x_0 in [-1, 1], in nats, elementwise, float64.

    The bins of -1 and 1 are open to their ends (Ho et al., 2020, equation 13).
    """
    lower = torch.where(x_0 - HALF_BIN < -1, -torch.inf, (x_0 - HALF_BIN - mean) / sigma)
    upper = torch.where(x_0 + HALF_BIN > 1, torch.inf, (x_0 + HALF_BIN - mean) / sigma)
    # Mirrored into the lower tail, where the logarithm of the distribution function keeps its digits.
    mirrored = lower + upper > 0
    lower, upper = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    log_upper = log_ndtr(upper)
    return -log_upper - torch.log(-torch.expm1(log_ndtr(lower) - log_upper))


@torch.inference_mode()
def variational_bound(
    reverse: ReverseProcess, x_0: torch.Tensor, index: torch.Tensor, advance: Advance = no_progress
) -> torch.Tensor:
    """Terms (B, T + 1) of the bound on -log p(x_0), float64, in bits per dimension; an image's bound is their sum.

    x_0: float32 (B, C, H, W) in [-1, 1], of 8-bit values. index: int64 (B,); image i's noise depends on
    (reverse.seed, index[i]) alone.
    Entry 0 is the prior's L_T = KL(q(x_T | x_0) || N(0, I)), entry 1 the decoder's L_0 = -log p(x_0 | x_1), entry
    t > 1 is L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), each of one x_t ~ q(x_t | x_0).
    """
    schedule, exact = reverse.schedule, x_0.double()
    nats = [gaussian_kl(schedule.signal[-1] * exact, schedule.noise[-1], 0, 1).flatten(1).mean(1)]
    for t in range(1, schedule.T + 1):
        x_t = schedule.q_sample(x_0, t, noise.normal(reverse.seed, Stream.BOUND, t, index, reverse.shape))
        eps, x_t = reverse.predict_eps(x_t, t).double(), x_t.double()
        predicted = schedule.predict_x0(x_t, t, eps)
        if reverse.clip_x0:
            predicted = predicted.clamp(-1, 1)
        mean, sigma = schedule.posterior_mean(predicted, x_t, t), schedule.sigma[t]
        if t == 1:
            term = decoder_nll(exact, mean, sigma)
        else:
            posterior_mean = schedule.posterior_mean(exact, x_t, t)
            term = gaussian_kl(posterior_mean, schedule.posterior_variance[t].sqrt(), mean, sigma)
        nats.append(term.flatten(1).mean(1))
        advance(len(index))
    return torch.stack(nats, 1) / math.log(2)


def likelihood(run: Run, results: Path, device: torch.device, batch: int | str) -> dict:
    """Bound the likelihood of held-out images, or go on where it was interrupted, or find it done; returns the record.

    Writes `terms.csv`, the mean of each term over the images. At most `batch` images at once (`auto`: see
    acceleration); it does not change them.
    """
    with opened(results, run) as folder:
        if folder.record is None:
            _evaluate(run, folder, results, device, batch)
        folder.mark_done()
        return folder.record


def _evaluate(run: Run, folder: RunFolder, results: Path, device: torch.device, batch: int | str):
    config, total = run.config, run.config["num_images"]
    _, model, _ = complete(results, "models", config["model"]["run"])
    if model["kind"] != "ddpm":
        raise UserError(f"likelihood: {config['model']['run']} is a {model['kind']}; only a ddpm has a bound")
    arrays, data_record = data.load(results, model["data"])
    held_out = arrays["held_out_images"]
    if not 2 <= total <= len(held_out):
        raise UserError(f"likelihood.num_images: must be from 2 to the {len(held_out)} held-out pictures, got {total}")
    # The order of the pictures may be that of their classes.
    order = noise.permutation(config["seed"], Stream.BOUND, 0, len(held_out))[:total]
    images = data.resize_uint8(held_out[order], model["image_size"])
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
            x_0 = data.to_float(images[rows].to(device))
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
