"""The likelihood of held-out images: the variational bound of a DDPM in bits per dimension (Nichol and Dhariwal, 2021,
"Improved DDPM"), or what a model with a likelihood of its own gives (Burda et al., 2016, of an autoencoder)."""

import math
import time
from abc import ABC, abstractmethod

import numpy as np
import torch

from surrodiff.config.samplers import Ancestral
from surrodiff.data import pixels, sources
from surrodiff.diffusion.likelihood import variational_bound
from surrodiff.diffusion.reverse import Advance
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import load_evaluation, load_weights
from surrodiff.networks import acceleration
from surrodiff.planning.measures import LikelihoodConfig
from surrodiff.planning.runs import ModelConfig, Run
from surrodiff.runtime import devices, noise
from surrodiff.runtime.noise import Draws, Stream
from surrodiff.sampling.generator import GeneratorSampler
from surrodiff.stages.job import Job
from surrodiff.store import provenance
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import RunFolder, load_run, write_text

TERMS, IMAGES = "terms.csv", "images.csv"
AT_ONCE = 100  # samples of an image that are taken at once, so that a batch has fewer images


class _Bounds(ABC):
    """What is computed of each image, and what a record says of all of them.

    name: of the part files; width: how many numbers an image has; steps: how many evaluations that is, for the
    progress.
    """

    name: str
    width: int
    steps: int

    @property
    @abstractmethod
    def precision(self) -> str:
        """That of the network."""

    @abstractmethod
    def images_at_once(self, setting: int | str) -> int:
        """How many, for `execution.sampling_batch`."""

    @abstractmethod
    def of_images(self, x_0: torch.Tensor, index: torch.Tensor, advance: Advance) -> torch.Tensor:
        """The numbers of images x_0 (B, C, S, S), whose numbers are index (B,): float64 (B, width)."""

    @abstractmethod
    def summary(self, rows: np.ndarray, order: np.ndarray, folder: RunFolder) -> tuple[dict, list[str]]:
        """Of the numbers of all images (N, width), which are those of `order`, what the record says, and the files that
        are written."""


class _OfDiffusion(_Bounds):
    """Writes `terms.csv`: by t, the mean of each term over the images (at t = 0 the prior's) and of a learned
    variance's v."""

    name = "terms"

    def __init__(self, config: LikelihoodConfig, trained: ModelConfig, job: Job):
        network, _ = load_evaluation(job.results, config.model, config.precision, job.device)
        how = {"variance": config.variance, "clip_x0": config.clip_x0, "timesteps": config.timesteps}
        sampler = Ancestral(kind="ancestral", **how)
        self.reverse = kind_of(trained.model).process(network, trained, sampler, config.seed, job.device)
        self.timesteps, self.device = self.reverse.schedule.timesteps, job.device
        self.learns = config.variance == "learned"
        # The terms of the bound, then the mean v at each timestep where it is learned.
        self.steps, self.width = len(self.timesteps), len(self.timesteps) * (1 + self.learns) + 1

    @property
    def precision(self) -> str:
        return self.reverse.denoiser.precision

    def images_at_once(self, setting: int | str) -> int:
        return acceleration.images_at_once(setting, self.reverse.probe, self.device)

    def of_images(self, x_0: torch.Tensor, index: torch.Tensor, advance: Advance) -> torch.Tensor:
        terms, learned = variational_bound(self.reverse, x_0, index, advance)
        return torch.cat([terms, learned], 1) if self.learns else terms

    def summary(self, rows: np.ndarray, order: np.ndarray, folder: RunFolder) -> tuple[dict, list[str]]:
        terms, learned = np.split(rows, [self.steps + 1], 1)
        bounds, means = terms.sum(1), terms.mean(0).tolist()
        v = learned.mean(0).tolist() if self.learns else [""] * self.steps
        lines = zip((0, *self.timesteps), means, ("", *v), strict=True)
        text = "".join(f"{t},{bits},{v_t}\n" for t, bits, v_t in lines)
        write_text(folder.path / TERMS, f"t,bits_per_dim,v\n{text}")
        bits, error = _mean(bounds)
        record = {
            "bits_per_dim": bits,
            "bits_per_dim_error": error,
            "prior": means[0],
            "kl": sum(means[2:]),
            "decoder": means[1],
            "T": self.reverse.schedule.T,
            "timesteps": self.steps,
        }
        return record, [TERMS]


class _OfItsOwn(_Bounds):
    """Writes `images.csv`: by the number of a held-out image, what each bound says of -log p in nats, the last the
    tightest."""

    name, precision = "bounds", "float32"

    def __init__(self, config: LikelihoodConfig, trained: ModelConfig, job: Job):
        self.network, _ = load_weights(job.results, config.model.run, config.model.step, job.device)
        self.seed, self.device, self.bounds = config.seed, job.device, kind_of(trained.model).bounds
        self.sizes = trained.model.bound_sizes(config.samples)
        self.steps, self.width = 1, len(self.sizes)
        self.values = trained.channels * trained.model.image_size**2

    def images_at_once(self, setting: int | str) -> int:
        probe = GeneratorSampler(self.network, self.network.z_dim, self.seed)
        samples = acceleration.images_at_once(setting, probe, self.device)
        return max(1, samples // min(self.sizes[-1], AT_ONCE))

    def of_images(self, x_0: torch.Tensor, index: torch.Tensor, advance: Advance) -> torch.Tensor:
        draws = Draws(self.seed, Stream.GENERATOR_LIKELIHOOD, 0, index)
        with torch.inference_mode():
            found = self.bounds(self.network, x_0, draws, self.sizes)
        advance(len(index))
        return found

    def summary(self, rows: np.ndarray, order: np.ndarray, folder: RunFolder) -> tuple[dict, list[str]]:
        names = ",".join(f"nats_{samples}" for samples in self.sizes)
        lines = (",".join(map(str, [number, *(-row).tolist()])) for number, row in zip(order, rows, strict=True))
        write_text(folder.path / IMAGES, f"image,{names}\n" + "".join(f"{line}\n" for line in lines))
        bounds = []
        for number, samples in enumerate(self.sizes):
            nats, error = _mean(-rows[:, number])
            rise, rise_error = _mean(rows[:, number] - rows[:, number - 1]) if number else (None, None)
            more = {"rise": rise, "rise_error": rise_error}
            bounds.append({"samples": samples, "nats": nats, "nats_error": error, **more})
        to_bits = 1 / (self.values * math.log(2))
        record = {
            "bits_per_dim": nats * to_bits,
            "bits_per_dim_error": error * to_bits,
            "nats": nats,
            "nats_error": error,
            "bounds": bounds,
        }
        return record, [IMAGES]


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Of numbers of images (N,) the mean, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def make(run: Run[LikelihoodConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Bound the likelihood of held-out images, or resume where it was interrupted.

    At most `sampling_batch` images at once (`auto`: see acceleration); it does not change them.
    """
    config, total, device = run.config, run.config.num_images, job.device
    _, made, _ = load_run(job.results, "models", config.model.run)
    kind = kind_of(made.model)
    if (kind.process if config.samples is None else kind.bounds) is None:
        raise UserError(f"likelihood: {config.model.run} is a {made.model.kind}, which has no such likelihood")
    arrays, data_record = sources.load(job.results, config.data)
    held_out = arrays["held_out_images"]
    if not 2 <= total <= len(held_out):
        raise UserError(f"likelihood.num_images: must be from 2 to the {len(held_out)} held-out images, got {total}")
    # The order of the images may be that of their classes.
    order = noise.permutation(config.seed, Stream.BOUND, 0, len(held_out))[:total]
    images = pixels.resize_uint8(held_out[order], made.model.image_size)
    bounds = (_OfDiffusion if config.samples is None else _OfItsOwn)(config, made, job)
    parts = PartFiles(folder.path, bounds.name, total, np.float64, (bounds.width,))
    batch = bounds.images_at_once(job.execution.sampling_batch)
    start, (_, own) = total - len(parts.missing), parts.batches(batch)
    began = time.monotonic()
    progress = devices.Progress(f"likelihood {run.id}", total, "images", start)
    # Assumes equal progress on all ranks.
    scale = (total - start) / max(1, sum(map(len, own))) / bounds.steps

    def advance(count: int):
        progress.advance(count * scale)

    with parts.counted("bounds"):
        for numbers in own:
            rows = torch.from_numpy(numbers)
            x_0 = pixels.to_float(images[rows].to(device))
            found = bounds.of_images(x_0, order[rows].to(device), advance)
            if not found.isfinite().all():
                raise UserError(
                    f"{folder.path}: bounds of images {numbers[0]} to {numbers[-1]} are not finite; the model may have "
                    "diverged (see its losses.csv), or write likelihood.precision: float32"
                )
            folder.check()
            parts.add(numbers, found.cpu().numpy())
    progress.close()
    collected = parts.collected()
    if collected is None:
        return None
    record, files = bounds.summary(collected, order.numpy(), folder)
    record |= {
        "num_images": total,
        "image_size": made.model.image_size,
        "data": data_record["source"],
        "evaluated_now": total - start,
        "seconds": time.monotonic() - began,
        "provenance": provenance.describe(device, bounds.precision),
    }
    return record, files
