"""SIGKILL at any moment of a job loses nothing: the same command goes on, to the same bits."""

import os
import random
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
    project.change("presets", "test", "evaluated_steps", value=[16, 32, 48])
    done = project.surrodiff("data", "digits")
    assert done.returncode == 0, done.stdout
    return project


def start(project, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "surrodiff.cli", *arguments, "--preset", "test"],
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


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
    whole = folder.rename(folder.with_name(f"whole-{name}"))

    chance = random.Random(name)
    for number in range(3):
        process = start(longer, "train", name)
        target = rows(folder / "losses.csv") + chance.randrange(2, 5)
        wait_for(lambda target=target: rows(folder / "losses.csv") >= target, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "record.json").exists(), f"kill {number} came too late"
    resumed = longer.surrodiff("train", name)
    assert resumed.returncode == 0, resumed.stdout
    assert "going on from step" in resumed.stdout

    for file in ("checkpoint.safetensors", *(f"weights-{step}.safetensors" for step in (16, 32, 48))):
        expected, found = load_file(whole / file), load_file(folder / file)
        assert expected.keys() == found.keys()
        for key in expected:
            assert expected[key].equal(found[key]), f"{file}: {key}"
    # The log too, but for the last column, the seconds.
    strip = [[line.rpartition(",")[0] for line in (f / "losses.csv").read_text().splitlines()] for f in (whole, folder)]
    assert strip[0] == strip[1]


def test_killed_sampling_goes_on_to_the_same_images(longer):
    if not list((longer.results / "models").glob("Default-*")):
        longer.surrodiff("train", "Default")
    longer.change("presets", "test", "sampling", "num_samples", value=2000)
    longer.change("presets", "test", "execution", "sampling_batch", value=20)
    process = start(longer, "sample", "Default_48")
    samples = longer.results / "samples"
    wait_for(lambda: any(f.stat().st_size > 7200 for f in samples.glob("*/samples-0.part")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (part,) = samples.glob("*/samples-0.part")
    finished = np.fromfile(part, [("index", np.int64), ("image", np.uint8, (1, 8, 8))])
    with open(part, "ab") as file:  # as if the kill had come in the middle of an image
        file.write(b"\x00" * 13)
    assert longer.surrodiff("sample", "Default_48").returncode == 0
    assert len(finished) > 100
    assert np.array_equal(np.load(part.parent / "samples.npy")[finished["index"]], finished["image"])
    assert not part.exists()


def test_two_trainings_of_one_run_exclude_each_other(longer):
    longer.change("presets", "test", "models", "Default", "training", "grad_clip", value=2.0)
    first = start(longer, "train", "Default")
    wait_for(
        lambda: any(
            rows(f)
            for f in longer.results.glob("models/Default-*/losses.csv")
            if not (f.parent / "record.json").exists()
        ),
        first,
    )
    second = longer.surrodiff("train", "Default")
    assert first.wait(timeout=120) == 0
    if second.returncode:
        assert f"being written by process {first.pid}" in second.stdout
        assert "Traceback" not in second.stdout
    assert longer.surrodiff("train", "Default").returncode == 0


def test_a_diverging_training_stops_and_keeps_its_checkpoint(longer):
    longer.change("presets", "test", "models", "Default", "training", "learning_rate", value=1.0e30)
    longer.change("presets", "test", "models", "Default", "training", "warmup_steps", value=0)
    done = longer.surrodiff("train", "Default")
    assert done.returncode == 1
    assert "stopped being finite" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(longer):
    longer.change("presets", "test", "models", "Default", "training", "learning_rate", value=0.001)
    done = longer.surrodiff("train", "Default")
    assert done.returncode == 0, done.stdout
    folder = longer.path / done.stdout.splitlines()[-1]
    for file in ("record.json", "done.json"):
        (folder / file).unlink()
    checkpoint = folder / "checkpoint.safetensors"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-100])
    truncated = longer.surrodiff("train", "Default")
    checkpoint.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    altered = longer.surrodiff("train", "Default")
    (other,) = (longer.results / "models").glob("whole-Default")
    checkpoint.write_bytes((other / "checkpoint.safetensors").read_bytes())
    foreign = longer.surrodiff("train", "Default")
    for refused, word in ((truncated, "truncated"), (altered, "altered"), (foreign, "is of Default-")):
        assert refused.returncode == 1
        assert word in refused.stdout
        assert str(checkpoint.relative_to(longer.path)) in refused.stdout
        assert "Traceback" not in refused.stdout
