"""A sample run: as many images as asked for, in one uint8 array, and a grid to look at."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from surrodiff import data, devices, provenance
from surrodiff.errors import UserError
from surrodiff.model_params import Diffusion
from surrodiff.noise import Stream
from surrodiff.pictures import save_grid
from surrodiff.plan import Run
from surrodiff.runs import RunFolder, complete, opened, replacing, verified
from surrodiff.sampling import Ancestral, ReverseProcess, Sampler, SurrogateDiffusion
from surrodiff.schedule import Schedule
from surrodiff.surrogates import GAN, LowResolutionDiffusion
from surrodiff.training import load_weights

SAMPLES, GRID = "samples.npy", "grid.png"


def _network(results: Path, made: dict, device: torch.device, precision: str):
    network, config = load_weights(results, made["run"], made["step"], device)
    if config["kind"] == "sngan":  # its one evaluation is the image itself, and costs little as it was trained
        precision = devices.resolve_precision(config["training"]["precision"], device)

    def call(*inputs: torch.Tensor) -> torch.Tensor:
        with devices.autocast(device, precision):
            return network(*inputs)

    return call, config


def _reverse(denoiser, model: dict, config: dict, device, stream: Stream = Stream.REVERSE) -> ReverseProcess:
    schedule = Schedule(Diffusion.model_validate(model["diffusion"]), config["variance"], device)
    shape = (model["channels"], model["image_size"], model["image_size"])
    return ReverseProcess(denoiser, schedule, shape, config["seed"], config["clip_x0"], stream)


def reverse_of(made: dict, config: dict, results: Path, device: torch.device) -> ReverseProcess:
    """The reverse process of a trained DDPM, `made` being its run and step; `config` says how its steps are taken.

    Raises UserError if the model is not trained or its weights are damaged.
    """
    precision = devices.resolve_precision(config["precision"], device)
    return _reverse(*_network(results, made, device, precision), config, device)


def sampler_of(config: dict, results: Path, device: torch.device) -> tuple[Sampler, tuple[int, int, int]]:
    """The sampler of a sample run's configuration, from trained models under `results`; and the images' shape.

    Raises UserError if a model is not trained or its weights are damaged.
    """
    precision = devices.resolve_precision(config["precision"], device)
    made, surrogate = config["model"], config["surrogate"]
    if made:
        reverse = reverse_of(made, config, results, device)
        if not surrogate:
            return Ancestral(reverse), reverse.shape
    network, model = _network(results, surrogate, device, precision)
    _, data_config, _ = complete(results, "data", model["data"])
    size, t_mid = data_config["image_size"], surrogate["t_mid"]
    if model["kind"] == "sngan":
        start = GAN(network, model["z_dim"], config["seed"])
    else:
        low = _reverse(network, model, config, device, Stream.LOW_RESOLUTION)
        start = LowResolutionDiffusion(low, t_mid, size, surrogate["handover"])
    shape = (model["channels"], size, size)
    return (SurrogateDiffusion(start, t_mid, reverse) if made else start), shape


def sample(run: Run, results: Path, device: torch.device, batch: int) -> dict:
    """Make the samples of a run, or go on where it was interrupted, or find them made; returns its record.

    Writes `samples.npy`, uint8 (N, C, S, S), and `grid.png`. `batch` images at once; it does not change them.
    """
    with opened(results, run) as folder:
        if folder.record is None:
            _make(run, folder, results, device, batch)
        folder.mark_done()
        return folder.record


def _make(run: Run, folder: RunFolder, results: Path, device: torch.device, batch: int):
    config = run.config
    sampler, shape = sampler_of(config, results, device)
    total, image_bytes = config["num_samples"], int(np.prod(shape))
    # Finished images are appended to one file: what was cut off in the middle of an image is made again.
    part = folder.path / "samples.part"
    with open(part, "ab") as file:
        start = file.tell() // image_bytes
        file.truncate(start * image_bytes)
        began = time.monotonic()
        progress = devices.Progress(f"sample {run.id}", total, "images", start)

        def advance(count: int):
            progress.advance(count / sampler.evaluations)

        for first in range(start, total, batch):
            index = torch.arange(first, min(first + batch, total), device=device)
            images = sampler(index, advance)
            if not images.isfinite().all():
                raise UserError(
                    f"{folder.path}: samples {first} to {first + len(images) - 1} are not finite; the model may have "
                    "diverged (see its losses.csv), or write sampling.precision: float32"
                )
            images = data.to_uint8(images)
            file.write(images.cpu().numpy().tobytes())
            file.flush()
        progress.close()
        os.fsync(file.fileno())
    images = np.fromfile(part, np.uint8).reshape(total, *shape)
    with replacing(folder.path / SAMPLES) as temporary, open(temporary, "wb") as file:
        np.save(file, images)
    save_grid(folder.path / GRID, images[:64])
    record = {
        "num_samples": total,
        "evaluations_per_sample": sampler.evaluations,
        "sampled_now": total - start,
        "sample_seconds": time.monotonic() - began,
        "batch": batch,
        "provenance": provenance.describe(device, devices.resolve_precision(config["precision"], device)),
    }
    folder.finish(record, [SAMPLES, GRID])
    part.unlink()


def load(results: Path, sample_id: str) -> tuple[np.ndarray, dict]:
    """The images uint8 (N, C, S, S) of a sample run and its record, checksum verified."""
    path, _, record = complete(results, "samples", sample_id)
    return np.load(verified(path, record, SAMPLES), allow_pickle=False), record
