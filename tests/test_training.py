"""The training loop: its log, what a resumption believes, and how it ends when it is asked to."""

import csv
import json
import math
import os
import shutil
import signal

import pytest
import torch

from surrodiff.errors import UserError
from surrodiff.kinds.ddpm import DiffusionTrainer
from surrodiff.runtime import stopping
from surrodiff.runtime.stopping import Stopped
from surrodiff.store import runs, tensors
from surrodiff.store.losses import LossLog, parse, training_losses
from surrodiff.store.runs import read_record, work_folder


def read(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(path) -> list[str]:
    return [line.rpartition(",")[0] for line in path.read_text().splitlines()]


@pytest.fixture
def begun(own_results, run_named, make):
    """Train Default anew until it is stopped after a step, with a checkpoint there; returns its work folder. `train`
    goes on with it, and `uninterrupted` is the folder of the uninterrupted training."""
    run = run_named("models", "Default")
    uninterrupted = shutil.move(own_results / "models" / run.id, own_results / "whole")
    shutil.rmtree(work_folder(own_results, "models", run.id))

    class Begun:
        def __init__(self):
            self.uninterrupted, self.run = uninterrupted, run
            self.work, self.final = work_folder(own_results, "models", run.id), own_results / "models" / run.id

        def train(self, **execution_):
            return make(run, own_results, **execution_)

        def until(self, last: int):
            step = DiffusionTrainer.step

            def asked_after(trainer, number):
                if number == last:
                    os.kill(os.getpid(), signal.SIGTERM)
                return step(trainer, number)

            with pytest.MonkeyPatch.context() as patch, stopping.watched():
                patch.setattr(DiffusionTrainer, "step", asked_after)
                with pytest.raises(Stopped) as stopped:
                    self.train(checkpoint_every=1000)
            return str(stopped.value)

    return Begun()


def test_the_last_step_is_logged_however_rarely_the_others_are(own_results, run_named, execution, make):
    """A figure needs the log, and no later number of `execution` would bring it back."""
    run = run_named("models", "Default")
    for folder in (own_results / "models" / run.id, work_folder(own_results, "models", run.id)):
        shutil.rmtree(folder)
    make(run, own_results, log_every=1000)
    rows = read(own_results / "models" / run.id / "losses.csv")
    assert [row["step"] for row in rows] == ["6"]
    assert float(rows[0]["loss_uniform_t"]) > 0


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_signal_ends_a_training_after_its_step_with_a_checkpoint_and_it_resumes_to_the_same_bits(begun, step):
    message = begun.until(step)
    assert message.startswith(f"stopped by SIGTERM: the checkpoint of step {step} of 6 of {begun.run.id} is written")
    _, metadata = tensors.load(begun.work / "checkpoint.safetensors")
    assert metadata["step"] == str(step)
    assert not begun.final.exists()
    begun.train()
    for name in ("weights-2", "weights-4", "weights-6"):
        assert (begun.final / f"{name}.safetensors").read_bytes() == (
            begun.uninterrupted / f"{name}.safetensors"
        ).read_bytes()
    assert without_seconds(begun.final / "losses.csv") == without_seconds(begun.uninterrupted / "losses.csv")


def test_the_log_and_the_last_checkpoint_are_in_the_record(begun):
    begun.train()
    files = read_record(begun.final)["files"]
    assert {"losses.csv", "checkpoint.safetensors", "weights-2.safetensors"} <= files.keys()


@pytest.mark.parametrize("content", [None, "", "step,loss\n", "step,loss,seconds\n2,nan,0.1\n", "rubbish \x00"])
def test_whatever_happens_to_the_log_of_an_unfinished_training_reaches_no_table(begun, content):
    begun.until(5)
    (begun.work / "losses.csv").unlink()
    if content is not None:
        (begun.work / "losses.csv").write_text(content)
    begun.train()
    assert without_seconds(begun.final / "losses.csv") == without_seconds(begun.uninterrupted / "losses.csv")


@pytest.mark.parametrize("damage", ["missing", "truncated", "of another step", "of another run"])
def test_a_snapshot_that_was_damaged_before_a_resumption_is_not_certified(begun, damage):
    begun.until(5)
    file = begun.work / "weights-2.safetensors"
    values, metadata = tensors.load(file)
    match damage:
        case "missing":
            file.unlink()
        case "truncated":
            file.write_bytes(file.read_bytes()[:-1])
        case "of another step":
            shutil.copy(begun.work / "weights-4.safetensors", file)
        case "of another run":
            tensors.save(file, values, **{**metadata, "run": "Default-01234567"})
    with pytest.raises(UserError, match=r"weights-2\.safetensors: ") as caught:
        begun.train()
    assert "\n" not in str(caught.value)
    assert not begun.final.exists()


@pytest.mark.parametrize("missing", ["step", "elapsed"])
def test_a_checkpoint_without_its_step_is_told(begun, missing):
    begun.until(3)
    file = begun.work / "checkpoint.safetensors"
    values, metadata = tensors.load(file)
    tensors.save(file, values, **{key: value for key, value in metadata.items() if key != missing})
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: does not fit"):
        begun.train()


def test_a_checkpoint_of_another_network_is_told(begun):
    begun.until(3)
    file = begun.work / "checkpoint.safetensors"
    values, metadata = tensors.load(file)
    name = next(name for name in values if name.startswith("model."))
    tensors.save(file, {**values, name: torch.zeros(1, 2, 3)}, **metadata)
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: does not fit") as caught:
        begun.train()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_an_earlier_version_takes_the_log_from_its_file(begun):
    begun.until(5)
    file = begun.work / "checkpoint.safetensors"
    values, metadata = tensors.load(file)
    del values["log.rows"], metadata["log_columns"]
    tensors.save(file, values, **metadata)
    (begun.work / "losses.csv").open("a").write("6,0.5,0.5,0.5,0.5\n")  # after the checkpoint
    begun.train()
    assert without_seconds(begun.final / "losses.csv") == without_seconds(begun.uninterrupted / "losses.csv")


def test_a_run_folder_that_is_deleted_under_a_training_ends_it(begun, monkeypatch):
    step = DiffusionTrainer.step

    def deleted_meanwhile(trainer, number):
        if number == 4:
            shutil.rmtree(begun.work)
        return step(trainer, number)

    monkeypatch.setattr(DiffusionTrainer, "step", deleted_meanwhile)
    with pytest.raises(UserError, match="deleted or replaced while this job was writing"):
        begun.train()
    assert not begun.final.exists()
    monkeypatch.undo()
    assert begun.train()["step"] == 6


def test_a_log_is_begun_anew_from_what_a_checkpoint_keeps(tmp_path):
    path = tmp_path / "losses.csv"
    path.write_text("anything")
    log = LossLog(path, ["step", "loss", "seconds"], [[1.0, 0.5, 0.125], [2.0, 1 / 3, 0.25]])
    log.add({"step": 3, "loss": 0.25, "seconds": 0.5})
    assert path.read_text() == f"step,loss,seconds\n1,0.5,0.125\n2,{1 / 3!r},0.25\n3,0.25,0.5\n"
    assert parse(path) == (log.columns, log.rows)
    LossLog(path, [], [])
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"step,lo",
        b"1,0.5,0.1\n",
        b"step,loss,seconds\n1,0.5,0.1\n2,0.4\n",
        b"step,loss,seconds\n1,0.5,0.1\n2,nan,0.2\n",
        b"step,loss,seconds\n1,0.5,0.1\n2,inf,0.2\n",
        b"step,loss,seconds\n1,0.5,0.1\n1,0.5,0.1\n",
        b"step,loss,seconds\n2,0.5,0.1\n1,0.5,0.1\n",
        b"step,loss,seconds\n1,0.5,0.1\n2,x,0.1\n",
        b"step,loss,seconds\n1,0.5,0.1\n2,0.\xff,0.1\n",
        b"step,loss,seconds\n1,0.5,0.1\n\n2,0.4,0.1\n",
    ],
)
def test_a_log_with_anything_but_finite_numbers_at_growing_steps_is_refused(tmp_path, content):
    path = tmp_path / "losses.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"losses\.csv: damaged") as caught:
        parse(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["a digit", "truncated", "a row twice", "missing"])
def test_a_changed_log_of_a_finished_training_is_refused(own_results, run_named, change):
    run = run_named("models", "Default")
    assert len(training_losses(own_results, run.id)) == 3
    file = own_results / "models" / run.id / "losses.csv"
    lines = file.read_text().splitlines(keepends=True)
    changed = {
        "a digit": [*lines[:-1], lines[-1].replace("6,0.", "6,1.")],
        "truncated": [*lines[:-1], lines[-1][:-3]],
        "a row twice": [*lines, lines[-1]],
    }
    file.unlink()
    if change in changed:
        assert changed[change] != lines
        file.write_text("".join(changed[change]))
    with pytest.raises(UserError, match=r"losses\.csv: (truncated or altered|missing)"):
        training_losses(own_results, run.id)


def test_a_log_that_an_earlier_version_recorded_nowhere_is_read_if_it_is_whole(own_results, run_named):
    folder = own_results / "models" / run_named("models", "Default").id
    record = read_record(folder)
    del record["files"]["losses.csv"]
    (folder / "record.json").write_text(json.dumps(record))
    assert training_losses(own_results, folder.name)["loss"].map(math.isfinite).all()
    log = folder / "losses.csv"
    log.unlink()
    with pytest.raises(UserError, match=r"losses\.csv: missing"):
        training_losses(own_results, folder.name)


def test_a_record_says_where_a_run_was_made_nowhere(own_results, run_named):
    """The folder of the work is no part of what is kept: another machine has another one."""
    folder = own_results / "models" / run_named("models", "Default").id
    assert str(runs.shared(own_results)) not in (folder / "record.json").read_text()
