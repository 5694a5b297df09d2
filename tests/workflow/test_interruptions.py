"""SIGKILL of anything under `dvc repro`, workflows side by side, devices by lock, folders that cannot be written."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import psutil
import pytest
from project import LEARNING_RATE, Project, Repository

MODELS = ("dvc", "repro", "models@test")


@pytest.fixture
def longer(clone) -> Repository:
    """A clone in which DeepRes1 is to be trained again, for long enough to be killed."""
    training = {"learning_rate": 0.004, "steps": 60, "snapshot_every": 60}
    clone.change(*LEARNING_RATE[:-1], value=training)
    return clone


def start(project, *command: str) -> subprocess.Popen:
    """A command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def training_process(process, project) -> psutil.Process:
    """The trainer below a process, once it has written a checkpoint of the new DeepRes1."""
    end = time.monotonic() + 120
    while True:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        under_way = [
            path
            for path in project.work.glob("models/DeepRes1-*/checkpoint.safetensors")
            if not (path.parent / "record.json").exists()
        ]
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if under_way and child.cmdline()[1:4] == ["-m", "surrodiff.cli", "make"]:
                    return child
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        time.sleep(0.01)


def snakemake_process(process) -> psutil.Process:
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if child.cmdline()[1:3] == ["-m", "snakemake"])


def new_folder(project):
    """The run folder of the new DeepRes1: the old one was complete before."""
    return max(project.results.glob("models/DeepRes1-*"), key=lambda path: path.stat().st_mtime)


@pytest.mark.long
@pytest.mark.parametrize("killed", ["trainer", "snakemake", "dvc", "all at once"])
def test_the_same_command_goes_on_whatever_was_killed(longer, killed):
    """And `all at once` is what a machine does that loses its power: whatever locks there were are left."""
    before = longer.made("models")
    process = start(longer, *MODELS)
    trainer = training_process(process, longer)
    everything = [process, *psutil.Process(process.pid).children(recursive=True)]
    match killed:
        case "trainer":
            trainer.kill()
        case "snakemake":
            snakemake_process(process).kill()
        case "dvc":
            process.kill()
        case "all at once":
            for victim in everything:
                victim.kill()
    process.communicate()
    # Whoever outlived the kill holds the run, and the same command waits for it; DVC refuses for as long as it is held.
    end = time.monotonic() + 120
    while (attempt := longer.run(*MODELS)).returncode:
        assert "Traceback" not in attempt.stdout
        assert "is being blocked by" in attempt.stdout, attempt.stdout
        assert time.monotonic() < end
    after = longer.made("models")
    assert after.items() >= before.items()
    (folder,) = after.keys() - before.keys()
    log = (longer.results / f"logs/models/{folder}.log").read_text()
    if killed in ("trainer", "all at once"):
        assert f"train {folder}: resuming from step" in log
        assert len(re.findall(r"(?m)^[\d-]+ [\d:]+ process \d+ on ", log)) == 2, "each attempt leaves its log"
    assert log.count("60/60 steps") == 1
    longer.succeed("dvc", "repro")
    longer.assert_clean()


def test_two_workflows_at_once_never_write_one_model_together(longer):
    before = longer.made("models")
    processes = [start(longer, "snakemake", "--cores", "1", "models") for _ in range(2)]
    output = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], output
    assert not any("Traceback" in printed for printed in output)
    after = longer.made("models")
    assert after.items() >= before.items()
    assert len(after) == len(before) + 1
    log = (longer.results / f"logs/models/{new_folder(longer).name}.log").read_text()
    assert log.count("60/60 steps") == 1
    longer.snakemake("models")
    assert longer.made("models") == after


def test_jobs_at_once_have_devices_of_their_own(clone):
    """On pretended devices: the CPU under two names."""
    before = clone.made("models")
    for number, model in enumerate(("DeepRes1", "IWDiff")):
        training = {"learning_rate": 0.003 + number / 1000, "steps": 30, "snapshot_every": 30}
        clone.change("presets", "test", "models", model, "training", value=training)
    pretended = {"SURRODIFF_DEVICES": "cpu:0,cpu:1", "TMPDIR": str(clone.path.parent)}
    process = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--resources", "gpu=2", "--", "models"],
        cwd=clone.path,
        env={**clone.environment(), **pretended},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    records = [json.loads((clone.results / f"models/{run}/record.json").read_text()) for run in clone.made("models")]
    new = [record["provenance"]["device_name"] for record in records if record["run"] not in before]
    assert sorted(new) == ["cpu:0", "cpu:1"]


def test_a_folder_that_cannot_be_written_is_told_and_left_as_it_is(clone):
    clone.change(*LEARNING_RATE, value=0.004)
    models = clone.results / "models"
    before = {path: path.stat().st_mtime_ns for path in clone.results.rglob("*") if "logs" not in path.parts}
    models.chmod(0o555)
    command = [sys.executable, "-m", "surrodiff.cli", "train", "DeepRes1"]
    if os.geteuid() == 0:  # who may write anywhere, unless that is taken away
        command = [shutil.which("setpriv"), "--bounding-set", "-dac_override", *command]
    process = subprocess.run(command, cwd=clone.path, env=clone.environment(), capture_output=True, text=True)
    models.chmod(0o755)
    assert process.returncode == 1
    assert "no permission" in process.stderr
    assert str(models.relative_to(clone.path)) in process.stderr
    assert "Traceback" not in process.stderr
    after = {path: path.stat().st_mtime_ns for path in clone.results.rglob("*") if "logs" not in path.parts}
    assert after == before


def test_a_job_that_outlived_snakemake_does_not_end_the_workflow(tmp_path):
    """Its marker counts as incomplete to Snakemake, which would run that job again, and no job after it."""
    project = Project(tmp_path)
    given = ("snakemake", "--cores", "1", "--config", "preset=test", "device=cpu")
    process = start(project, *given, "--", "data")
    work = project.work / "data"
    while not list(work.glob("*/.lock")):  # the job is at work
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    process.kill()
    process.communicate()  # until the job has ended, too
    assert list(project.results.glob("data/*/done.json"))
    planned = project.run(*given, "--dry-run").stdout
    assert "train Default-" in planned, planned
    assert "data digits-" not in planned
