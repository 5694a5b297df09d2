"""The one training loop: steps, log, snapshots, checkpoints, exact resume."""

import csv
import math
import time
from pathlib import Path

import torch

from surrodiff import data, devices, distributed, networks, provenance, tensors
from surrodiff.errors import UserError
from surrodiff.plan import Run
from surrodiff.runs import RunFolder, complete, opened, verified, write_text
from surrodiff.trainers import KINDS

CHECKPOINT = "checkpoint.safetensors"
LOSSES = "losses.csv"


def snapshot_name(step: int) -> str:
    """File of the weights to sample with after `step` training steps."""
    return f"weights-{step}.safetensors"


class LossLog:
    """`losses.csv`: one row every few steps, written through so that a killed training leaves what it saw."""

    def __init__(self, path: Path, resumed_step: int):
        self.path = path
        if path.exists():  # rows after the checkpoint will come again
            header, *lines = path.read_text().splitlines() or [""]
            if not (
                header.startswith("step,") and header.endswith(",seconds")
            ):  # cut by a full disk or a power failure
                path.unlink()
                return
            whole = [line for line in lines if line.count(",") == header.count(",")]
            kept = [line for line in whole if int(line.split(",")[0]) <= resumed_step]
            write_text(path, "\n".join([header, *kept]) + "\n")

    def add(self, row: dict):
        first = not self.path.exists()
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, row)
            if first:
                writer.writeheader()
            writer.writerow(row)


def train(run: Run, results: Path, device: torch.device, execution: dict) -> dict:
    """Train the model of a run, or go on from its checkpoint, or find it trained; returns its record.

    execution: the preset's block; beyond rounding it does not change the weights.
    Raises UserError if the loss is not finite (the last checkpoint stays), if the checkpoint is damaged or of another
    configuration, if a batch has fewer images than the job has processes, or if another job trains this run.
    """
    # What SNGAN's and the classifier's steps do depends on the batch as a whole: the first process trains them alone.
    with opened(results, run, together=run.config["kind"] == "ddpm") as folder:
        if folder.record is None:
            _fit(run, folder, results, device, execution)
        folder.mark_done()
        return folder.record


def _fit(run: Run, folder: RunFolder, results: Path, device: torch.device, execution: dict):
    config, first = run.config, distributed.rank() == 0
    arrays, _ = data.load(results, config["data"])
    trainer = KINDS[config["kind"]](config, arrays["train_images"], arrays["train_labels"], device, execution)
    if config["kind"] == "ddpm" and trainer.training.batch_size < distributed.world():
        raise UserError(
            f"training.batch_size: {trainer.training.batch_size} images are too few for {distributed.world()} processes"
        )
    steps = trainer.training.steps
    snapshot_every = getattr(trainer.training, "snapshot_every", steps)
    start, elapsed = _resume(trainer, folder.path, run)
    log = LossLog(folder.path / LOSSES, start) if first else None
    progress = devices.Progress(f"train {run.id}", steps, "steps", start)
    began = time.monotonic() - elapsed
    saved, watched = start, torch.zeros((), device=device)
    for step in range(start + 1, steps + 1):
        metrics = trainer.step(step)
        # A sum keeps any NaN or infinity until it is looked at, so that no step has to wait for the device.
        watched += sum(metrics.values())
        snapshot_due = step % snapshot_every == 0
        checkpoint_due = snapshot_due or step == steps or step % execution["checkpoint_every"] == 0
        log_due = step == steps or step % execution["log_every"] == 0
        note = ""
        if checkpoint_due or log_due:
            _check_finite(watched, step, saved, folder.path)
        if log_due:
            row = {name: float(value) for name, value in {**metrics, **trainer.log(step)}.items()}
            if log:
                log.add({"step": step, **row, "seconds": round(time.monotonic() - began, 3)})
            note = f"loss {row['loss']:.4g}"
        if first and snapshot_due:
            tensors.save(folder.path / snapshot_name(step), trainer.result.state_dict(), run=run.id, step=str(step))
        if checkpoint_due:
            if first:
                _save_checkpoint(trainer, folder.path, run, step, time.monotonic() - began)
            saved = step
        progress.advance(1, note)
    progress.close()
    record = {
        "step": steps,
        "train_seconds": time.monotonic() - began,
        "parameters": networks.trainable_parameters(trainer.result),
        "provenance": provenance.describe(device, trainer.precision),
    }
    if config["kind"] == "ddpm":
        record["parameters_by_paper"] = networks.parameters_by_paper(record["parameters"], config)
    if config["kind"] == "classifier":
        record["classes"] = trainer.classes
        record["held_out_accuracy"] = trainer.accuracy(arrays["held_out_images"], arrays["held_out_labels"])
    folder.finish(record, [snapshot_name(s) for s in range(snapshot_every, steps + 1, snapshot_every)])


def _check_finite(watched: torch.Tensor, step: int, saved: int, path: Path):
    if not math.isfinite(watched.item()):
        kept = f"the checkpoint of step {saved} stays" if saved else "there is no checkpoint yet"
        raise UserError(
            f"{path}: the loss or its gradient stopped being finite between steps {saved} and {step}; {kept}. "
            "Lower training.learning_rate, or write precision: float32"
        )


def _save_checkpoint(trainer, path: Path, run: Run, step: int, elapsed: float):
    metadata = {"run": run.id, "step": str(step), "elapsed": repr(elapsed), "precision": trainer.precision}
    tensors.save(path / CHECKPOINT, trainer.state(), **metadata)


def _resume(trainer, path: Path, run: Run) -> tuple[int, float]:
    """Put the checkpoint's state into the trainer; returns its step and the seconds trained so far, or zeros."""
    checkpoint = path / CHECKPOINT
    if not checkpoint.exists():
        return 0, 0.0
    state, metadata = tensors.load(checkpoint)
    if metadata.get("run") != run.id:
        raise UserError(f"{checkpoint}: is of {metadata.get('run')}, not of {run.id}; move it away to start anew")
    trainer.load_state(state)
    # On another machine `auto` may mean another one, and a training should not be half and half.
    trainer.precision = metadata.get("precision", trainer.precision)
    distributed.say(f"train {run.id}: going on from step {metadata['step']}")
    return int(metadata["step"]), float(metadata["elapsed"])


def load_weights(results: Path, model_id: str, step: int, device: torch.device):
    """The network of a trained model after `step` steps, in eval mode on `device`, and the model's configuration.

    Raises UserError if the model is not trained or its weights are missing, truncated or altered.
    """
    path, config, record = complete(results, "models", model_id)
    weights, _ = tensors.load(verified(path, record, snapshot_name(step)))
    network = networks.build({**record, **config})
    network.load_state_dict(weights)
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False), config
