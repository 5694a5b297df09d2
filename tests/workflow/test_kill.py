"""SIGKILL at any moment of a job loses nothing: the same command resumes, bit for bit."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.torch import load_file

STEPS = {"training": {"steps": 48, "snapshot_every": 16}}


@pytest.fixture(scope="module")
def longer(project):
    """Trainings of 48 steps, a checkpoint every 3."""
    for name, block in (("Default", "Default"), ("SNGAN", "SNGAN")):
        for key, value in STEPS["training"].items():
            project.change("presets", "test", "models", block, "training", key, value=value)
        del name
    project.change("presets", "test", "models", "Default", "objective", "timesteps", value="importance")
    process = project.surrodiff("data", "digits")
    assert process.returncode == 0, process.stdout
    return project


def start(project, *arguments, stderr=subprocess.DEVNULL):
    return subprocess.Popen(
        [sys.executable, "-m", "surrodiff.cli", *arguments, "--preset", "test"],
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    )


def unfinished(project, pattern):
    """Files of runs that are being made."""
    return [file for file in project.work.glob(pattern) if not (file.parent / "record.json").exists()]


def wait_for(condition, process, seconds=120):
    """Poll until the condition holds; fails if the process ends first."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.005)


def rows(file):
    return max(0, len(file.read_text().splitlines()) - 1) if file.exists() else 0


@pytest.mark.parametrize("name", ["Default", "SNGAN"])
def test_a_killed_training_goes_on_to_the_same_bits(longer, name):
    assert longer.surrodiff("train", name).returncode == 0
    (folder,) = (longer.results / "models").glob(f"{name}-*")
    uninterrupted = folder.rename(longer.results / f"whole-{name}")
    work = longer.work / "models" / folder.name
    shutil.rmtree(work)

    chance = random.Random(name)
    for number in range(3):
        process = start(longer, "train", name)
        target = rows(work / "losses.csv") + chance.randrange(2, 5)
        wait_for(lambda target=target: rows(work / "losses.csv") >= target, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (work / "record.json").exists(), f"kill {number} came too late"
        assert not folder.exists(), "where DVC and readers look, there is nothing unfinished"
    resumed = longer.surrodiff("train", name)
    assert resumed.returncode == 0, resumed.stdout
    assert "resuming from step" in resumed.stdout

    for file in ("checkpoint.safetensors", *(f"weights-{step}.safetensors" for step in (16, 32, 48))):
        expected, found = load_file(uninterrupted / file), load_file(folder / file)
        assert expected.keys() == found.keys()
        for state in (expected, found):
            if "log.rows" in state:
                state["log.rows"][:, -1] = 0  # the seconds
        for key in expected:
            assert expected[key].equal(found[key]), f"{file}: {key}"
    # The log too, but for the last column, the seconds.
    strip = [
        [line.rpartition(",")[0] for line in (f / "losses.csv").read_text().splitlines()]
        for f in (uninterrupted, folder)
    ]
    assert strip[0] == strip[1]


def test_killed_sampling_goes_on_to_the_same_images(longer):
    if not list((longer.results / "models").glob("Default-*")):
        longer.surrodiff("train", "Default")
    longer.change("presets", "test", "sampling", "num_samples", value=2000)
    longer.change("presets", "test", "execution", "sampling_batch", value=20)
    process = start(longer, "sample", "Default_48")
    samples = longer.work / "samples"
    wait_for(lambda: any(f.stat().st_size > 8000 for f in samples.glob("*/samples-0.part")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (part,) = samples.glob("*/samples-0.part")
    finished = np.fromfile(part, [("checksum", "V8"), ("index", np.int64), ("image", np.uint8, (1, 8, 8))])
    with open(part, "ab") as file:  # as if the kill had come in the middle of an image
        file.write(b"\x00" * 13)
    assert longer.surrodiff("sample", "Default_48").returncode == 0
    assert len(finished) > 100
    images = np.load(longer.results / "samples" / part.parent.name / "samples.npy")
    assert np.array_equal(images[finished["index"]], finished["image"])
    assert not part.exists()


def test_two_trainings_of_one_run_exclude_each_other(longer):
    longer.change("presets", "test", "models", "Default", "training", "grad_clip", value=2.0)
    first = start(longer, "train", "Default")
    wait_for(
        lambda: any(
            rows(f) for f in longer.work.glob("models/Default-*/losses.csv") if not (f.parent / "record.json").exists()
        ),
        first,
    )
    second = longer.surrodiff("train", "Default")
    assert first.wait(timeout=120) == 0
    assert second.returncode == 0, second.stdout
    assert f"waiting for process {first.pid} on " in second.stdout
    assert "steps/s" not in second.stdout, "it found what the first had made"


def test_a_diverging_training_stops_and_keeps_its_checkpoint(longer):
    longer.change("presets", "test", "models", "Default", "training", "learning_rate", value=1.0e30)
    longer.change("presets", "test", "models", "Default", "training", "warmup_steps", value=0)
    process = longer.surrodiff("train", "Default")
    assert process.returncode == 1
    assert "stopped being finite" in process.stdout
    assert "Traceback" not in process.stdout


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(longer):
    longer.change("presets", "test", "models", "Default", "training", "learning_rate", value=0.001)
    process = longer.surrodiff("train", "Default")
    assert process.returncode == 0, process.stdout
    folder = longer.path / process.stdout.splitlines()[-1]
    work = longer.work / "models" / folder.name
    shutil.rmtree(folder)
    (work / "record.json").unlink()
    checkpoint = work / "checkpoint.safetensors"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-100])
    truncated = longer.surrodiff("train", "Default")
    checkpoint.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    altered = longer.surrodiff("train", "Default")
    other = longer.results / "whole-Default"
    checkpoint.write_bytes((other / "checkpoint.safetensors").read_bytes())
    foreign = longer.surrodiff("train", "Default")
    for refused, word in ((truncated, "truncated"), (altered, "altered"), (foreign, "is of Default-")):
        assert refused.returncode == 1
        assert word in refused.stdout
        assert str(checkpoint.relative_to(longer.path)) in refused.stdout
        assert "Traceback" not in refused.stdout


def stopped(process, number) -> str:
    """Send a process a signal; returns what it prints of its end."""
    process.send_signal(number)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 128 + number, printed
    assert "Traceback" not in printed
    return printed.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stopped_training_resumes_at_the_very_step(longer, number):
    longer.change("presets", "test", "execution", "checkpoint_every", value=1000)
    longer.change("presets", "test", "models", "Default", "training", "learning_rate", value=0.001 + number / 1e5)
    unfinished_logs = unfinished(longer, "models/Default-*/losses.csv")  # by a training that diverged
    process = start(longer, "train", "Default", stderr=subprocess.PIPE)
    wait_for(
        lambda: any(rows(f) for f in unfinished(longer, "models/Default-*/losses.csv") if f not in unfinished_logs),
        process,
    )
    line = stopped(process, number)
    message = re.fullmatch(
        rf"surrodiff: stopped by {number.name}: the checkpoint of step (\d+) of 48 of (Default-\w+) is written; "
        "the same command resumes there",
        line,
    )
    assert message, line
    resumed = longer.surrodiff("train", "Default")
    assert resumed.returncode == 0, resumed.stdout
    assert f"train {message[2]}: resuming from step {message[1]}" in resumed.stdout
    log = (longer.results / "models" / message[2] / "losses.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in log] == ["step", *map(str, range(2, 49, 2))]


@pytest.mark.parametrize(
    ("command", "run", "unit"), [("sample", "Default_48", "images"), ("likelihood", "Default", "bounds")]
)
def test_a_stopped_sampling_or_likelihood_keeps_its_rows_and_says_how_many(longer, command, run, unit):
    assert longer.surrodiff("train", "Default").returncode == 0
    longer.change("presets", "test", "sampling", "num_samples", value=3000)
    longer.change("presets", "test", "likelihood", "num_images", value=300)
    longer.change("presets", "test", "execution", "sampling_batch", value=5)
    process = start(longer, command, run, stderr=subprocess.PIPE)
    wait_for(lambda: any(f.stat().st_size for f in unfinished(longer, f"{command}s/*/*.part")), process)
    line = stopped(process, signal.SIGTERM)
    message = re.fullmatch(
        rf"surrodiff: stopped by SIGTERM: (\d+) of \d+ {unit} are kept; the same command resumes", line
    )
    assert message, line
    resumed = longer.surrodiff(command, run)
    assert resumed.returncode == 0, resumed.stdout
    record = json.loads((longer.path / resumed.stdout.splitlines()[-1] / "record.json").read_text())
    if command == "sample":
        assert record["sampled_now"] == 3000 - int(message[1])
    else:
        assert record["evaluated_now"] == 300 - int(message[1])


def test_a_signal_before_the_work_begins_ends_it_too(longer):
    longer.change("presets", "test", "models", "Default", "training", "revision", value=7)
    process = start(longer, "train", "Default", stderr=subprocess.PIPE)
    time.sleep(1)  # in the middle of its imports
    assert stopped(process, signal.SIGTERM).startswith("surrodiff: stopped by SIGTERM")
