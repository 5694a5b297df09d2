"""A sample run: as many images as asked for, in one uint8 array, and a grid to look at."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from surrodiff.config.models import Diffusion
from surrodiff.data import pixels
from surrodiff.data.grids import save_grid
from surrodiff.diffusion.reverse import ReverseProcess, Sampler
from surrodiff.diffusion.schedule import Schedule
from surrodiff.errors import UserError
from surrodiff.kinds.weights import load_weights
from surrodiff.networks import acceleration
from surrodiff.networks.acceleration import Evaluation
from surrodiff.planning.plan import Run, sampling_precision, timed
from surrodiff.runtime import devices
from surrodiff.runtime.noise import Stream
from surrodiff.sampling.ancestral import Ancestral
from surrodiff.sampling.generator import GAN
from surrodiff.sampling.low_resolution import LowResolutionDiffusion
from surrodiff.sampling.surrogate import SurrogateDiffusion
from surrodiff.store import provenance
from surrodiff.store.parts import PartFiles
from surrodiff.store.runs import RunFolder, load_run, open_run, replacing, verified

SAMPLES, GRID = "samples.npy", "grid.png"


def _network(made: dict, config: dict, results: Path, device: torch.device) -> tuple[Evaluation, dict]:
    network, model = load_weights(results, made["run"], made["step"], device)
    asked = sampling_precision(timed(model), config["precision"])
    return Evaluation(network, acceleration.resolve_precision(asked, device, model)), model


def _reverse(
    denoiser: Evaluation, model: dict, config: dict, device, compile: bool | str, stream: Stream = Stream.REVERSE
) -> ReverseProcess:
    schedule = Schedule(Diffusion.model_validate(model["diffusion"]), config["variance"], device)
    shape = (model["channels"], model["image_size"], model["image_size"])
    compiled = partial(acceleration.compiled, setting=compile, device=device, config=model, cuda_graph=True)
    return ReverseProcess(denoiser, schedule, shape, config["seed"], config["clip_x0"], stream, compiled)


def reverse_of(
    made: dict, config: dict, results: Path, device: torch.device, compile: bool | str = False
) -> ReverseProcess:
    """The reverse process of a trained DDPM, `made` being its run and step; `config` says how its steps are taken.

    Raises UserError if the model is not trained or its weights are damaged.
    """
    return _reverse(*_network(made, config, results, device), config, device, compile)


def sampler_of(
    config: dict, results: Path, device: torch.device, compile: bool | str = False
) -> tuple[Sampler, tuple[int, int, int]]:
    """The sampler of a sample run's configuration, from trained models under `results`; and the images' shape.

    compile: as in `execution`. Raises UserError if a model is not trained or its weights are damaged.
    """
    made, surrogate = config["model"], config["surrogate"]
    if made:
        reverse = reverse_of(made, config, results, device, compile)
        if not surrogate:
            return Ancestral(reverse), reverse.shape
    network, model = _network(surrogate, config, results, device)
    _, data_config, _ = load_run(results, "data", model["data"])
    size, t_mid = data_config["image_size"], surrogate["t_mid"]
    if model["kind"] == "sngan":
        start = GAN(network, model["z_dim"], config["seed"])
    else:
        low = _reverse(network, model, config, device, compile, Stream.LOW_RESOLUTION)
        start = LowResolutionDiffusion(low, t_mid, size, surrogate["handover"])
    shape = (model["channels"], size, size)
    return (SurrogateDiffusion(start, t_mid, reverse) if made else start), shape


def sample(run: Run, results: Path, device: torch.device, batch: int | str, compile: bool | str = False) -> dict:
    """Make the samples of a run, or go on where it was interrupted, or find them made; returns its record.

    Writes `samples.npy`, uint8 (N, C, S, S), and `grid.png`. At most `batch` images at once (`auto`: see acceleration),
    by compiled code if asked for; beyond rounding, neither changes them.
    """
    with open_run(results, run) as folder:
        if folder.record is None:
            _make(run, folder, results, device, batch, compile)
        folder.mark_done()
        return folder.record


def _make(run: Run, folder: RunFolder, results: Path, device: torch.device, batch: int | str, compile: bool | str):
    config = run.config
    sampler, shape = sampler_of(config, results, device, compile)
    # What ends the sampler also takes the most memory.
    last, probe = (sampler.reverse.denoiser, sampler.reverse.probe) if sampler.reverse else (sampler.generator, sampler)
    batch = acceleration.images_at_once(batch, probe, device)
    total = config["num_samples"]
    parts = PartFiles(folder.path, "samples", total, np.uint8, shape)
    start, (size, own) = total - len(parts.missing), parts.batches(batch)
    began = time.monotonic()
    progress = devices.Progress(f"sample {run.id}", total, "images", start)
    # The other processes are as far as this one.
    scale = (total - start) / max(1, len(own) * size) / sampler.evaluations

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
        return
    with replacing(folder.path / SAMPLES) as temporary, open(temporary, "wb") as file:
        np.save(file, images)
    save_grid(folder.path / GRID, images[:64])
    record = {
        "num_samples": total,
        "evaluations_per_sample": sampler.evaluations,
        "sampled_now": total - start,
        "sample_seconds": time.monotonic() - began,
        "batch": size,
        "provenance": provenance.describe(device, last.precision),
    }
    folder.finish(record, [SAMPLES, GRID])


def load(results: Path, sample_id: str) -> tuple[np.ndarray, dict]:
    """The images uint8 (N, C, S, S) of a sample run and its record, checksum verified."""
    path, _, record = load_run(results, "samples", sample_id)
    return np.load(verified(path, record, SAMPLES), allow_pickle=False), record
