"""The one training loop: steps, log, snapshots, checkpoints, exact resume."""

import math
import time
from pathlib import Path

import torch

from surrodiff import networks
from surrodiff.data import sources
from surrodiff.errors import UserError
from surrodiff.kinds.registry import kind_of
from surrodiff.kinds.weights import snapshot_name
from surrodiff.planning.runs import ModelConfig, Run
from surrodiff.runtime import devices, distributed, stopping
from surrodiff.runtime.stopping import Stopped
from surrodiff.stages.job import Job
from surrodiff.store import provenance, tensors
from surrodiff.store.losses import LOSSES, LossLog, parse
from surrodiff.store.runs import RunFolder

CHECKPOINT = "checkpoint.safetensors"
LOG_ROWS = "log.rows"  # the log's rows among a checkpoint's tensors


def make(run: Run[ModelConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]] | None:
    """Train the model of a run, or resume from its checkpoint; the first process does it alone where the model asks for
    that (see config.models).

    Raises UserError if the loss is not finite (the last checkpoint stays), if the checkpoint is damaged or of another
    configuration, or if a batch has fewer images than the job has processes.
    """
    if distributed.rank() > 0 and not run.config.model.by_all:
        return None
    with stopping.after_the_step():
        return _fit(run, folder, job)


def _fit(run: Run[ModelConfig], folder: RunFolder, job: Job) -> tuple[dict, list[str]]:
    config, is_first, execution, device = run.config, distributed.rank() == 0, job.execution, job.device
    by_all = config.model.by_all
    arrays, _ = sources.load(job.results, config.data)
    make_trainer = kind_of(config.model).trainer
    trainer = make_trainer(config, arrays["train_images"], arrays["train_labels"], device, execution)
    if by_all and trainer.training.batch_size < distributed.world():
        raise UserError(
            f"training.batch_size: {trainer.training.batch_size} images are too few for {distributed.world()} processes"
        )
    steps = trainer.training.steps
    snapshot_every = trainer.training.snapshot_every
    snapshots = range(snapshot_every, steps + 1, snapshot_every)
    start, elapsed, log = _resume(trainer, folder.path, run, is_first)
    if is_first:
        _check_snapshots(folder.path, run, [step for step in snapshots if step <= start])
    progress = devices.Progress(f"train {run.id}", steps, "steps", start)
    began = time.monotonic() - elapsed
    checkpoint_step, metric_sum = start, torch.zeros((), device=device)
    for step in range(start + 1, steps + 1):
        metrics = trainer.step(step)
        # A sum keeps any NaN or infinity until it is looked at, so that no step has to wait for the device.
        metric_sum += sum(metrics.values())
        # All processes stop after the same step.
        stop = distributed.any_of(stopping.asked()) if by_all else stopping.asked()
        snapshot_due = step in snapshots
        checkpoint_due = stop or snapshot_due or step == steps or step % execution.checkpoint_every == 0
        log_due = step == steps or step % execution.log_every == 0
        note = ""
        if checkpoint_due or log_due:
            _check_finite(metric_sum, step, checkpoint_step, folder.path)
            folder.check()
        if log_due:
            row = {name: float(value) for name, value in {**metrics, **trainer.log(step)}.items()}
            if is_first:
                log.add({"step": step, **row, "seconds": round(time.monotonic() - began, 3)})
            note = f"loss {row['loss']:.4g}"
        if is_first and snapshot_due:
            tensors.save(folder.path / snapshot_name(step), trainer.result.state_dict(), run=run.id, step=str(step))
        if checkpoint_due:
            if is_first:
                _save_checkpoint(trainer, folder.path, run, step, time.monotonic() - began, log)
            checkpoint_step = step
        progress.advance(1, note)
        if stop and step < steps:
            message = f"the checkpoint of step {step} of {steps} of {run.id} is written; the same command resumes there"
            raise Stopped(stop, message)
    progress.close()
    record = {
        "step": steps,
        "train_seconds": time.monotonic() - began,
        "parameters": networks.trainable_parameters(trainer.result),
        "provenance": provenance.describe(device, trainer.precision),
        **trainer.record(arrays),
    }
    if is_first:
        _check_snapshots(folder.path, run, snapshots)
    return record, [*map(snapshot_name, snapshots), CHECKPOINT, LOSSES]


def _check_snapshots(path: Path, run: Run, steps):
    """Raise UserError if the weights of a step that is done are not whole: no later step would bring them back."""
    for step in steps:
        file = path / snapshot_name(step)
        _, metadata = tensors.load(file)
        if metadata != {"run": run.id, "step": str(step)}:
            raise UserError(f"{file}: is not of step {step} of {run.id}; restore it, or delete {path} to train anew")


def _check_finite(metric_sum: torch.Tensor, step: int, checkpoint_step: int, path: Path):
    if not math.isfinite(metric_sum.item()):
        kept = f"the checkpoint of step {checkpoint_step} stays" if checkpoint_step else "there is no checkpoint yet"
        raise UserError(
            f"{path}: the loss or its gradient stopped being finite between steps {checkpoint_step} and {step}; "
            f"{kept}. Lower training.learning_rate, or write precision: float32"
        )


def _save_checkpoint(trainer, path: Path, run: Run, step: int, elapsed: float, log: LossLog):
    metadata = {"run": run.id, "step": str(step), "elapsed": repr(elapsed), "precision": trainer.precision}
    if log.rows:
        metadata["log_columns"] = ",".join(log.columns)
    rows = torch.tensor(log.rows, dtype=torch.float64)
    tensors.save(path / CHECKPOINT, {**trainer.state(), LOG_ROWS: rows}, **metadata)


def _resume(trainer, path: Path, run: Run, is_first: bool) -> tuple[int, float, LossLog | None]:
    """Put the checkpoint's state into the trainer; returns its step and the seconds trained so far, or zeros, and the
    log as it was then, which only the first process has."""
    checkpoint, losses = path / CHECKPOINT, path / LOSSES
    if not checkpoint.exists():
        return 0, 0.0, LossLog(losses, [], []) if is_first else None
    state, metadata = tensors.load(checkpoint)
    if metadata.get("run") != run.id:
        raise UserError(f"{checkpoint}: is of {metadata.get('run')}, not of {run.id}; move it away to start anew")
    try:
        step, elapsed = int(metadata["step"]), float(metadata["elapsed"])
        rows = state.pop(LOG_ROWS, None)
        trainer.load_state(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{checkpoint}: does not fit this version's network and training ({' '.join(str(error).split())[:200]}); "
            f"go back to the version that wrote it, or move it away to start anew"
        ) from None
    # On another machine `auto` may mean another one, and a training should not be half and half.
    trainer.precision = metadata.get("precision", trainer.precision)
    distributed.print_rank0(f"train {run.id}: resuming from step {step}")
    log = None
    if is_first and rows is None:  # an earlier version's, whose log is in the file alone
        log = LossLog(losses, *parse(losses, until=step))
    elif is_first:
        log = LossLog(losses, metadata.get("log_columns", "").split(","), rows.tolist())
    return step, elapsed, log
