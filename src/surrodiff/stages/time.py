"""How long a model's training step and a network evaluation of its sampling take, beside Default's, in one job.

The model and Default take turns within the job, so their ratio does not depend on how busy the machine was; the
workflow gives the job the whole machine.
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch

from surrodiff import networks
from surrodiff.config.memory import is_large
from surrodiff.config.models import Model
from surrodiff.config.presets import Execution
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.networks import acceleration
from surrodiff.planning.measures import TimingConfig
from surrodiff.planning.runs import ModelConfig, Run
from surrodiff.planning.units import Evaluation, ImageScore, TrainStep, Unit
from surrodiff.runtime import devices, distributed, locks
from surrodiff.scoring import features
from surrodiff.stages.costs import Costs, Rate
from surrodiff.stages.job import Job
from surrodiff.store import provenance
from surrodiff.store.runs import RunFolder

WARM_UP = 3  # a captured graph is replayed from the third call on
FEW = 2
LONG = 0.2  # seconds of FEW images: on a CPU, a whole batch of such is extrapolated from them
GPU_BATCH = 512  # where `sampling_batch` is auto


def _untrained(model: Model, channels: int) -> ModelConfig:
    return ModelConfig(model=model, channels=channels, data="random", seed=0)


def _trainer(unit: TrainStep, device: torch.device, execution: Execution):
    """A trainer of a model on random images of ten classes."""
    model, channels = unit.model, unit.channels
    shape = (4 * model.training.batch_size, channels, model.image_size, model.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels = torch.arange(len(images)) % 10
    return kind_of(model).trainer(_untrained(model, channels), images, labels, device, execution)


def _training_step(trainer) -> Callable[[], None]:
    number = iter(range(1, 10**9))
    return lambda: trainer.step(next(number))


def _sampling_step(
    network: torch.nn.Module, unit: Evaluation, batch: int, device: torch.device, compile: bool | str
) -> Callable[[], None]:
    kind, config = kind_of(unit.model), _untrained(unit.model, unit.channels)
    precision = acceleration.resolve_precision(unit.precision, device, is_large(unit.model))
    evaluate = acceleration.Evaluation(network, precision)
    return kind.sampling_step(evaluate, config, batch, device, compile)


def seconds_of(step: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds of one call of `step`, the mean over so many, with all that they began on the device."""
    devices.synchronise(device)
    began = time.perf_counter()
    for _ in range(times):
        step()
        locks.beat()  # a round may take longer than a job that waits for this one would believe it
    devices.synchronise(device)
    return (time.perf_counter() - began) / times


def measure(config: TimingConfig, device: torch.device, execution: Execution) -> dict:
    """Median seconds of a training step and of an evaluation per image, and their spread, for `model` and `baseline`,
    and their ratios `to_baseline`. `to_baseline_interval` is the largest distance of a round's ratio from that median:
    the range of n rounds encloses the true median with a probability of 1 - 2^(1 - n).

    Each round times both in turn after one round of warm-up; the spread is (largest - smallest) / median.
    """
    contestants = {"model": config.model, "baseline": config.baseline}
    if config.model == config.baseline:
        del contestants["baseline"]
    jobs: dict[tuple[str, str], tuple[Callable[[], None], int, int]] = {}
    parameters = {}
    for name, model in contestants.items():
        train_step, evaluation = config.units(model)
        trainer = _trainer(train_step, device, execution)
        parameters[name] = networks.trainable_parameters(trainer.result)
        network = copy.deepcopy(trainer.result).eval()
        train = _training_step(trainer)
        evaluate = _sampling_step(network, evaluation, config.batch_size, device, execution.compile)
        jobs[name, "train_step_seconds"] = (train, config.train_steps, 1)
        jobs[name, "evaluation_seconds_per_image"] = (evaluate, config.sampling_steps, config.batch_size)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    progress = devices.Progress("time", config.rounds, "rounds")
    for number in range(config.rounds + 1):
        for key, (step, count, units) in jobs.items():
            seconds = seconds_of(step, count if number else WARM_UP, device) / units
            if number:
                times[key].append(seconds)
        if number:
            progress.advance(1)
    progress.close()
    measured: dict = {name: {"parameters": parameters[name]} for name in contestants}
    for (name, what), values in times.items():
        median = statistics.median(values)
        measured[name] |= {what: median, f"{what}_spread": (max(values) - min(values)) / median}
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


def _unit_step(unit: Unit, batch: int, device: torch.device, execution: Execution) -> Callable[[], None]:
    """What does a unit of work for a batch of images."""
    match unit:
        case TrainStep():
            training = unit.model.training.model_copy(update={"batch_size": batch})
            model = unit.model.model_copy(update={"training": training})
            return _training_step(_trainer(unit.model_copy(update={"model": model}), device, execution))
        case Evaluation():
            network = kind_of(unit.model).build(unit.model, unit.channels)
            network = network.to(device, memory_format=torch.channels_last).eval()
            return _sampling_step(network, unit, batch, device, execution.compile)
        case ImageScore():
            network = features.untrained(unit, device)
            shape = (batch, unit.channels, unit.image_size, unit.image_size)
            images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
            return lambda: network.extract(images)


def unit_seconds(unit: Unit, device: torch.device, execution: Execution) -> Rate:
    """Seconds of a unit of work, by a few steps of a whole batch or, see LONG, one of a few images."""
    if isinstance(unit, TrainStep):
        full_batch = unit.model.training.batch_size
    elif execution.sampling_batch == "auto":
        full_batch = acceleration.CPU_BATCH if device.type == "cpu" else GPU_BATCH
    else:
        full_batch = execution.sampling_batch

    def seconds(batch: int, times: int) -> float:
        step = _unit_step(unit, batch, device, execution)
        # The least: the first step warms up, and other work on the machine can only add.
        return min(seconds_of(step, 1, device) for _ in range(times))

    few, basis = min(FEW, full_batch), "measured"
    # Not on a GPU: few images do not keep it busy, and say nothing of a whole batch.
    if device.type == "cpu" and (batch_seconds := seconds(few, 2)) > LONG:
        batch_seconds, basis = batch_seconds * full_batch / few, f"measured on {few} of {full_batch} images"
    else:
        batch_seconds = seconds(full_batch, WARM_UP + 1)
    return Rate(batch_seconds if isinstance(unit, TrainStep) else batch_seconds / full_batch, basis)


def measure_unknown(costs: Costs, device: torch.device, execution: Execution):
    """Measure every unit of a plan's unfinished runs that no record tells, and keep what was found."""
    unknown = costs.unknown()
    progress = devices.Progress("measure", len(unknown), "kinds of steps")
    for unit in unknown:
        costs.keep(unit, unit_seconds(unit, device, execution))
        progress.advance(1)
    progress.close()


def make(run: Run[TimingConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]]:
    """Do the timing of a run. Raises UserError in a job of several processes."""
    if distributed.world() > 1:
        raise UserError("time: speeds are those of one process; run this without torchrun")
    config, device = run.config, job.device
    measured = measure(config, device, job.execution)
    large = is_large(config.model)
    step, evaluation = config.units(config.model)
    settings = {"train": step.model.training.precision, "sampling": evaluation.precision}
    precision = {what: acceleration.resolve_precision(value, device, large) for what, value in settings.items()}
    return {**measured, "precision": precision, "provenance": provenance.describe(device, str(precision))}, []
