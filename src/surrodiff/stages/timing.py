"""How long a model's training step and a network evaluation of its sampling take, beside Default's, in one job.

The model and Default take turns within the job, so their ratio does not depend on how busy the machine was; the
workflow gives the job the whole machine.
"""

import copy
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from surrodiff import networks
from surrodiff.config.models import MOST_STEPS, Diffusion
from surrodiff.diffusion.reverse import ReverseProcess
from surrodiff.diffusion.schedule import Schedule
from surrodiff.errors import UserError
from surrodiff.kinds import KINDS
from surrodiff.networks import acceleration
from surrodiff.networks.acceleration import Evaluation
from surrodiff.planning.plan import Run, sampling_precision
from surrodiff.runtime import devices, distributed, locks, noise
from surrodiff.runtime.noise import Stream
from surrodiff.scoring import features
from surrodiff.stages.costs import Costs, Rate, Unit
from surrodiff.store import provenance
from surrodiff.store.runs import open_run

# What a model's configuration needs beyond what its speed depends on (see plan): values that cost nothing.
_DIFFUSION = {"T": 1000, "beta_1": 1e-4, "beta_T": 0.02}
_TRAINING = {
    "steps": MOST_STEPS,
    "snapshot_every": 1,
    "learning_rate": 1e-4,
    "horizontal_flip": True,
    "revision": 1,
}
WARM_UP = 3  # a captured graph is replayed from the third call on
_ADAM = {"warmup_steps": 0, "grad_clip": 1.0, "ema_decay": 0.999}


def _trainer(timed: dict, device: torch.device, execution: dict):
    own = {key: timed[key] for key in ("batch_size", "precision", "discriminator_steps") if key in timed}
    more = {"diffusion": _DIFFUSION} if timed["kind"] == "ddpm" else {}
    training = {**_TRAINING, **(_ADAM if timed["kind"] == "ddpm" else {}), **own}
    config = {**timed, **more, "training": training, "seed": 0}
    shape = (4 * timed["batch_size"], timed["channels"], timed["image_size"], timed["image_size"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    return KINDS[timed["kind"]](config, images, torch.zeros(len(images), dtype=torch.int64), device, execution)


def _training_step(trainer) -> Callable[[], None]:
    number = iter(range(1, 10**9))
    return lambda: trainer.step(next(number))


def _sampling_step(network, timed: dict, config: dict, device: torch.device, compile) -> Callable[[], None]:
    """One evaluation for a batch: a reverse step of a DDPM, or a whole sample of a generator."""
    asked = sampling_precision(timed, config["sampling_precision"])
    index = torch.arange(config["batch_size"], device=device)
    evaluate = Evaluation(network, acceleration.resolve_precision(asked, device, timed))
    if timed["kind"] == "sngan":
        z = noise.normal(0, Stream.Z, 0, index, (timed["z_dim"],))

        @torch.inference_mode()
        def step():
            evaluate(z)
    else:
        shape = (timed["channels"], timed["image_size"], timed["image_size"])
        compiled = partial(acceleration.compiled, setting=compile, device=device, config=timed, cuda_graph=True)
        schedule = Schedule(Diffusion(**_DIFFUSION), device=device)
        reverse = ReverseProcess(evaluate, schedule, shape, seed=0, compiled=compiled)
        x_t = reverse.prior(index)

        @torch.inference_mode()
        def step():
            reverse.step(x_t, 500, index)

    return step


def seconds_of(step: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds of one call of `step`, the mean over so many, with all that they began on the device."""
    devices.synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        step()
        locks.beat()  # a round may take longer than a job that waits for this one would believe it
    devices.synchronise(device)
    return (time.perf_counter() - began) / times


def measure(config: dict, device: torch.device, execution: dict) -> dict:
    """Median seconds of a training step and of an evaluation per image, and their spread, for `model` and `baseline`,
    and their ratios `to_baseline`. `to_baseline_interval` is the largest distance of a round's ratio from that median:
    the range of n rounds encloses the true median with a probability of 1 - 2^(1 - n).

    Each round times both in turn after one round of warm-up; the spread is (largest - smallest) / median.
    """
    contestants = {name: {**config[name], "channels": config["channels"]} for name in ("model", "baseline")}
    if config["model"] == config["baseline"]:
        del contestants["baseline"]
    jobs: dict[tuple[str, str], tuple[Callable[[], None], int, int]] = {}
    parameters = {}
    for name, timed in contestants.items():
        trainer = _trainer(timed, device, execution)
        parameters[name] = networks.trainable_parameters(trainer.result)
        network = copy.deepcopy(trainer.result).eval()
        train = _training_step(trainer)
        evaluate = _sampling_step(network, timed, config, device, execution["compile"])
        jobs[name, "train_step_seconds"] = (train, config["train_steps"], 1)
        jobs[name, "evaluation_seconds_per_image"] = (evaluate, config["sampling_steps"], config["batch_size"])
    times: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    progress = devices.Progress("time", config["rounds"], "rounds")
    for number in range(config["rounds"] + 1):
        for key, (step, count, units) in jobs.items():
            seconds = seconds_of(step, count if number else WARM_UP, device) / units
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
    measured["to_baseline_interval"] = {
        what: max(abs(value - measured["to_baseline"][what]) for value in values) for what, values in ratios.items()
    }
    return measured


FEW = 2
LONG = 0.2  # seconds of FEW images: on a CPU, a whole batch of such is extrapolated from them
GPU_BATCH = 512  # where `sampling_batch` is auto


def _unit_step(unit: Unit, batch: int, device: torch.device, execution: dict) -> Callable[[], None]:
    config = json.loads(unit.config)
    if unit.kind == "score":
        network = features.untrained(config, device)
        shape = (batch, config["channels"], config["image_size"], config["image_size"])
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        return lambda: network.extract(images)
    if unit.kind == "evaluation":
        network = networks.build(config).to(device, memory_format=torch.channels_last).eval()
        sampling = {**config, "batch_size": batch, "sampling_precision": config["precision"]}
        return _sampling_step(network, config, sampling, device, execution["compile"])
    config["batch_size"] = batch
    if config["kind"] != "classifier":
        return _training_step(_trainer(config, device, execution))
    config |= {"steps": 1, "learning_rate": 1e-4, "seed": 0, "revision": 1}
    shape = (4 * batch, config["channels_in"], config["image_size"], config["image_size"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    return _training_step(KINDS["classifier"](config, images, torch.arange(len(images)) % 10, device, execution))


def unit_seconds(unit: Unit, device: torch.device, execution: dict) -> Rate:
    """Seconds of a unit of work, by a few steps of a whole batch or, see LONG, one of a few images."""
    if unit.kind == "train_step":
        whole = json.loads(unit.config)["batch_size"]
    elif execution["sampling_batch"] == "auto":
        whole = acceleration.CPU_BATCH if device.type == "cpu" else GPU_BATCH
    else:
        whole = execution["sampling_batch"]

    def seconds(batch: int, times: int) -> float:
        step = _unit_step(unit, batch, device, execution)
        # The least: the first step warms up, and other work on the machine can only add.
        return min(seconds_of(step, 1, device) for _ in range(times))

    few, basis = min(FEW, whole), "measured"
    # Not on a GPU: few images do not keep it busy, and say nothing of a whole batch.
    if device.type == "cpu" and (found := seconds(few, 2)) > LONG:
        found, basis = found * whole / few, f"measured on {few} of {whole} images"
    else:
        found = seconds(whole, WARM_UP + 1)
    return Rate(found if unit.kind == "train_step" else found / whole, basis)


def measure_unknown(costs: Costs, device: torch.device, execution: dict):
    """Measure every unit of a plan's unfinished runs that no record tells, and keep what was found."""
    unknown = costs.unknown()
    progress = devices.Progress("measure", len(unknown), "kinds of steps")
    for unit in unknown:
        costs.keep(unit, unit_seconds(unit, device, execution))
        progress.advance(1)
    progress.close()


def time_model(run: Run, results: Path, device: torch.device, execution: dict) -> dict:
    """Do the timing of a run, or find it done; returns its record. Raises UserError in a job of several processes."""
    if distributed.world() > 1:
        raise UserError("time: speeds are those of one process; run this without torchrun")
    with open_run(results, run) as folder:
        if folder.record is None:
            measured = measure(run.config, device, execution)
            timed = {**run.config["model"], "channels": run.config["channels"]}
            asked = {"train": timed["precision"], "sampling": run.config["sampling_precision"]}
            precision = {what: acceleration.resolve_precision(value, device, timed) for what, value in asked.items()}
            folder.finish(
                {**measured, "precision": precision, "provenance": provenance.describe(device, str(precision))}, []
            )
        folder.mark_done()
        return folder.record
