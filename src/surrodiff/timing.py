"""How long a model's training step and a network evaluation of its sampling take, beside Default's, in one job.

The model and Default take turns within the job, so their ratio does not depend on how busy the machine was; the
workflow gives the job the whole machine.
"""

import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from surrodiff import devices, networks, noise, provenance
from surrodiff.model_params import Diffusion
from surrodiff.noise import Stream
from surrodiff.plan import Run
from surrodiff.runs import opened
from surrodiff.sampling import ReverseProcess
from surrodiff.schedule import Schedule
from surrodiff.trainers import KINDS

# What a model's configuration needs beyond what its speed depends on (see plan): values that cost nothing.
_DIFFUSION = {"T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
_TRAINING = {
    "steps": 10**9,
    "snapshot_every": 1,
    "learning_rate": 1e-4,
    "horizontal_flip": True,
    "revision": 1,
}
_ADAM = {"warmup_steps": 0, "grad_clip": 1.0, "ema_decay": 0.999}


def _trainer(timed: dict, channels: int, device: torch.device, micro_batch: int | None):
    own = {key: timed[key] for key in ("batch_size", "precision", "discriminator_steps") if key in timed}
    more = {"diffusion": _DIFFUSION} if timed["kind"] == "ddpm" else {}
    training = {**_TRAINING, **(_ADAM if timed["kind"] == "ddpm" else {}), **own}
    config = {**timed, **more, "training": training, "channels": channels, "seed": 0}
    shape = (4 * timed["batch_size"], channels, timed["image_size"], timed["image_size"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    return KINDS[timed["kind"]](config, images, torch.zeros(len(images), dtype=torch.int64), device, micro_batch)


def _training_step(trainer) -> Callable[[], None]:
    number = iter(range(1, 10**9))
    return lambda: trainer.step(next(number))


def _sampling_step(trainer, timed: dict, config: dict, device: torch.device) -> Callable[[], None]:
    """One evaluation for a batch: a reverse step of a DDPM, or a whole sample of a generator."""
    # A generator samples as it was trained (see samples).
    asked = timed["precision"] if timed["kind"] == "sngan" else config["sampling_precision"]
    batch, precision = config["batch_size"], devices.resolve_precision(asked, device)
    index = torch.arange(batch, device=device)
    network = copy.deepcopy(trainer.result).eval()

    def evaluate(*inputs: torch.Tensor) -> torch.Tensor:
        with devices.autocast(device, precision):
            return network(*inputs)

    if timed["kind"] == "sngan":
        z = noise.normal(0, Stream.Z, 0, index, (timed["z_dim"],))

        @torch.inference_mode()
        def step():
            evaluate(z)
    else:
        shape = (config["channels"], timed["image_size"], timed["image_size"])
        reverse = ReverseProcess(evaluate, Schedule(Diffusion(**_DIFFUSION), device=device), shape, seed=0)
        x_t = reverse.prior(index)

        @torch.inference_mode()
        def step():
            reverse.step(x_t, 500, index)

    return step


def _seconds(step: Callable[[], None], times: int, device: torch.device) -> float:
    devices.synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        step()
    devices.synchronise(device)
    return (time.perf_counter() - began) / times


def measure(config: dict, device: torch.device, micro_batch: int | None) -> dict:
    """Median seconds of a training step and of an evaluation per image, and their spread, for `model` and `baseline`,
    and their ratios `to_baseline`, with half of the range of the rounds' ratios as `to_baseline_interval`.

    Each round times both in turn after one round of warm-up; the spread is (largest - smallest) / median.
    """
    contestants = {"model": config["model"], "baseline": config["baseline"]}
    if config["model"] == config["baseline"]:
        del contestants["baseline"]
    jobs: dict[tuple[str, str], tuple[Callable[[], None], int, int]] = {}
    parameters = {}
    for name, timed in contestants.items():
        trainer = _trainer(timed, config["channels"], device, micro_batch)
        parameters[name] = networks.trainable_parameters(trainer.result)
        train, evaluate = _training_step(trainer), _sampling_step(trainer, timed, config, device)
        jobs[name, "train_step_seconds"] = (train, config["train_steps"], 1)
        jobs[name, "evaluation_seconds_per_image"] = (evaluate, config["sampling_steps"], config["batch_size"])
    times: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    progress = devices.Progress("time", config["rounds"], "rounds")
    for number in range(config["rounds"] + 1):
        for key, (step, count, units) in jobs.items():
            seconds = _seconds(step, count if number else 1, device) / units
            if number:
                times[key].append(seconds)
        if number:
            progress.advance(1)
    progress.close()
    measured: dict = {name: {"parameters": parameters[name]} for name in contestants}
    for (name, what), values in times.items():
        middle = statistics.median(values)
        measured[name] |= {what: middle, f"{what}_spread": (max(values) - min(values)) / middle}
    measured.setdefault("baseline", measured["model"])
    # Of each round's ratio: what slows a whole round down does not touch it.
    ratios = {
        what: [
            a / b
            for a, b in zip(times["model", what], times.get(("baseline", what), times["model", what]), strict=True)
        ]
        for what in ("train_step_seconds", "evaluation_seconds_per_image")
    }
    measured["to_baseline"] = {what: statistics.median(values) for what, values in ratios.items()}
    measured["to_baseline_interval"] = {what: (max(values) - min(values)) / 2 for what, values in ratios.items()}
    return measured


def time_model(run: Run, results: Path, device: torch.device, micro_batch: int | None) -> dict:
    """Do the timing of a run, or find it done; returns its record."""
    with opened(results, run) as folder:
        if folder.record is None:
            measured = measure(run.config, device, micro_batch)
            precision = {
                "train": devices.resolve_precision(run.config["model"]["precision"], device),
                "sampling": devices.resolve_precision(run.config["sampling_precision"], device),
            }
            folder.finish(
                {**measured, "precision": precision, "provenance": provenance.describe(device, str(precision))}, []
            )
        folder.mark_done()
        return folder.record
