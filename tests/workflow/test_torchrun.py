"""torchrun as users meet it: what was killed goes on with fewer processes, and a refusal is one message."""

import re
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from safetensors.torch import load_file
from test_kill import rows, wait_for

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "surrodiff.cli")


@pytest.fixture(scope="module")
def longer(project):
    """A training of 48 steps, and its data."""
    for key, value in {"steps": 48, "snapshot_every": 48}.items():
        project.change("presets", "test", "models", "Default", "training", key, value=value)
    project.change("device", value="cpu")
    process = project.surrodiff("data", "digits")
    assert process.returncode == 0, process.stdout
    return project


def start_training(project) -> subprocess.Popen:
    """Two processes that train Default."""
    return subprocess.Popen(
        [sys.executable, "-m", *TORCHRUN, "train", "Default", "--preset", "test"],
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(printed: str) -> list[str]:
    """What surrodiff says, without torchrun's own report."""
    return [line for line in printed.splitlines() if line.startswith("surrodiff: ")]


def test_a_killed_process_ends_the_job_and_the_same_command_goes_on_without_torchrun(longer):
    assert longer.surrodiff("train", "Default").returncode == 0
    (folder,) = (longer.results / "models").glob("Default-*")
    uninterrupted = folder.rename(longer.results / "whole")
    work = longer.work / "models" / folder.name
    shutil.rmtree(work)
    job = start_training(longer)
    wait_for(lambda: rows(work / "losses.csv") >= 3, job)
    processes = psutil.Process(job.pid).children()
    assert len(processes) == 2
    next(process for process in processes if process.environ()["RANK"] == "1").kill()
    printed, _ = job.communicate(timeout=120)
    assert job.returncode == 1, printed
    assert not any(process.is_running() for process in processes)
    assert "Signal 9 (SIGKILL)" in printed  # torchrun's report; it may end the first process before that tells anything
    assert all("cannot reach the others, or one of them has ended" in line for line in lines(printed))
    assert printed.count("Traceback") == 1
    assert not folder.exists()
    resumed = longer.surrodiff("train", "Default")
    assert resumed.returncode == 0, resumed.stdout
    assert "resuming from step" in resumed.stdout
    expected, found = (load_file(path / "weights-48.safetensors") for path in (uninterrupted, folder))
    assert all(found[key].allclose(value, atol=2e-3) for key, value in expected.items())


def test_a_refusal_is_told_once(longer):
    process = longer.run(*TORCHRUN, "sample", "Default_48", "--preset", "test")
    assert process.returncode == 0, process.stdout
    (folder,) = (longer.results / "samples").glob("Default_48-*")
    assert str(folder.relative_to(longer.path)) in process.stdout.splitlines()
    (folder / "record.json").write_text("{}")
    process = longer.run(*TORCHRUN, "sample", "Default_48", "--preset", "test")
    assert process.returncode == 1
    (line,) = lines(process.stdout)
    assert "record.json: altered" in line
    assert process.stdout.count("Traceback") == 1  # torchrun's


def test_a_stopped_job_writes_one_checkpoint_and_resumes_there(longer):
    """All processes end after the same step, though the signal reaches each at another moment."""
    longer.change("presets", "test", "models", "Default", "training", "learning_rate", value=0.0015)
    longer.change("presets", "test", "execution", "checkpoint_every", value=1000)
    work = longer.work / "models"
    before = set(work.iterdir())
    job = start_training(longer)
    wait_for(lambda: any(rows(path / "losses.csv") >= 3 for path in set(work.iterdir()) - before), job)
    job.send_signal(signal.SIGTERM)  # torchrun passes it on
    printed, _ = job.communicate(timeout=120)
    assert job.returncode != 0
    (line,) = lines(printed)
    step = re.search(r"stopped by SIGTERM: the checkpoint of step (\d+) of 48 of Default-\w+ is written", line)[1]
    resumed = longer.surrodiff("train", "Default")
    assert resumed.returncode == 0, resumed.stdout
    assert f"resuming from step {step}" in resumed.stdout
