"""A sample run: as many images as asked for, in one uint8 array, and a grid to look at."""

import time
from pathlib import Path

import numpy as np
import torch

from surrodiff.config.surrogates import Upsampled
from surrodiff.data import given, pixels, sources
from surrodiff.data.grids import save_grid
from surrodiff.diffusion.reverse import Sampler
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import load_evaluation
from surrodiff.networks import acceleration
from surrodiff.planning.runs import Run, SampleConfig
from surrodiff.runtime import devices
from surrodiff.runtime.noise import Stream
from surrodiff.sampling.given import GivenImages
from surrodiff.sampling.surrogate import SurrogateDiffusion
from surrodiff.sampling.whole import WholeProcess
from surrodiff.stages.job import Job
from surrodiff.store import provenance
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import RunFolder, load_run, replacing, verified

SAMPLES, GRID = "samples.npy", "grid.png"


def sampler_of(
    config: SampleConfig, results: Path, device: torch.device, compile: bool | str = False
) -> tuple[Sampler, tuple[int, int, int]]:
    """The sampler of a sample run's configuration, from trained models under `results`; and the images' shape.

    compile: as in `execution`. Raises UserError if a model is not trained or its weights are damaged.
    """
    refined = None
    if config.given:
        images = _given(config, results)
        return GivenImages(images, device), tuple(images.shape[1:])
    if config.model:
        network, made = load_evaluation(results, config.model, config.precision, device)
        # Noise of its own after samples that may have drawn noise for the same timesteps.
        stream = Stream.REFINEMENT if config.begun else Stream.REVERSE
        refined = kind_of(made.model).process(network, made, config.sampler, config.seed, device, compile, stream)
        if config.begun:
            start = GivenImages(torch.from_numpy(load(results, config.begun.samples)[0]), device)
            return SurrogateDiffusion(start, config.begun.t_mid, refined), refined.shape
        if not config.surrogate:
            return WholeProcess(refined), refined.shape
    network, made = load_evaluation(results, config.surrogate, config.precision, device)
    _, data, _ = load_run(results, "data", made.data)
    start = kind_of(made.model).surrogate(network, made, config, data.image_size, device, compile)
    sampler = SurrogateDiffusion(start, config.surrogate.t_mid, refined) if refined else start
    return sampler, (made.channels, data.image_size, data.image_size)


def _given(config: SampleConfig, results: Path) -> torch.Tensor:
    """The images, uint8 (N, C, S, S), of samples that no network makes."""
    source, count, seed = config.given.source, config.num_samples, config.seed
    if isinstance(source, Upsampled):
        arrays, _ = sources.load(results, config.given.data)
        return given.upsampled(source, arrays["train_images"], count, seed)
    _, data, _ = load_run(results, "data", config.given.data)
    return given.of_folder(source, count, data.image_size, data.channels, seed)


def sampler_named(results: Path, name: str, device: torch.device | str = "cpu") -> Sampler:
    """The sampler of samples that are made, by their name, such as `Default_400`, or their whole id: a function of
    sample numbers, int64 (B,), that gives float images (B, C, S, S) in about [-1, 1].

    Raises UserError if there are none of that name under `results`/samples, or several, as of old values.
    """
    folder = results / "samples"
    found = sorted(path.name for path in folder.glob("*-????????") if name in (path.name, path.name[:-9]))
    if len(found) != 1:
        there = f"there are {', '.join(found)}; give one of these" if found else f"`surrodiff sample {name}` makes them"
        raise UserError(f"{folder}: no samples, or several, are called {name}: {there}")
    return sampler_of(load_run(results, "samples", found[0])[1], results, torch.device(device))[0]


def _evaluations(config: SampleConfig, results: Path) -> int:
    """How many evaluations of networks an image takes, besides those of samples with which it begins."""
    needs = [(stage, run) for stage, run in config.needs() if stage == "models"]
    runs = {run: Run(run.rpartition("-")[0], load_run(results, stage, run)[1]) for stage, run in needs}
    return sum(count for _, count in config.evaluations(runs))


def make(run: Run[SampleConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Make the samples of a run, or resume where it was interrupted: `samples.npy`, uint8 (N, C, S, S), and `grid.png`.

    At most `sampling_batch` images at once (`auto`: see acceleration), by compiled code if asked for; beyond rounding,
    neither changes them.
    """
    config, device = run.config, job.device
    sampler, shape = sampler_of(config, job.results, device, job.execution.compile)
    evaluations = _evaluations(config, job.results)
    # What ends the sampler also takes the most memory; images that are there take next to none.
    probe = sampler.reverse.probe if sampler.reverse else sampler
    probed_on = torch.device("cpu") if config.given else device
    batch = acceleration.images_at_once(job.execution.sampling_batch, probe, probed_on)
    total = config.num_samples
    parts = PartFiles(folder.path, "samples", total, np.uint8, shape)
    start, (size, own) = total - len(parts.missing), parts.batches(batch)
    began = time.monotonic()
    progress = devices.Progress(f"sample {run.id}", total, "images", start)
    # Assumes equal progress on all ranks.
    scale = (total - start) / max(1, len(own) * size) / max(1, evaluations)

    def advance(count: int):
        progress.advance(count * scale)

    with parts.counted("images"):
        for numbers in own:
            # Filled up to the size of the others, so that one compiled step serves all.
            index = torch.from_numpy(np.pad(numbers, (0, size - len(numbers)), "edge")).to(device)
            images = sampler(index, advance)[: len(numbers)]
            if not images.isfinite().all():
                raise UserError(
                    f"{folder.path}: samples {numbers[0]} to {numbers[-1]} are not finite; the model may have diverged "
                    "(see its losses.csv), or write sampling.precision: float32"
                )
            folder.check()
            parts.add(numbers, pixels.to_uint8(images).cpu().numpy())
    progress.close()
    images = parts.collected()
    if images is None:
        return None
    with replacing(folder.path / SAMPLES) as temporary, open(temporary, "wb") as file:
        np.save(file, images)
    last = sampler.reverse.denoiser if sampler.reverse else getattr(sampler, "generator", None)
    precision = last.precision if last else "uint8"
    save_grid(folder.path / GRID, images[:64])
    record = {
        "num_samples": total,
        "evaluations_per_sample": evaluations,
        "sampled_now": total - start,
        "sample_seconds": time.monotonic() - began,
        "batch": size,
        "provenance": provenance.describe(device, precision),
    }
    return record, [SAMPLES, GRID]


def load(results: Path, sample_id: str) -> tuple[np.ndarray, dict]:
    """The images uint8 (N, C, S, S) of a sample run and its record, checksum verified."""
    path, _, record = load_run(results, "samples", sample_id)
    return np.load(verified(path, record, SAMPLES), allow_pickle=False), record
