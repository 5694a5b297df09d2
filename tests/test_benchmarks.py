"""The benchmarks, run small: whatever their speeds, all contestants run and agree, and steps that are done are kept."""

import os
import subprocess
import sys

import pandas as pd
import pytest

pytestmark = pytest.mark.long
FAST = ("ddim", "dpm_solver", "heun")


def test_scoring_is_compared_at_equal_distances(root, tmp_path):
    script = [sys.executable, "benchmarks/scoring.py", "--images", "2", "--batch", "2", "--rounds", "1"]
    out = tmp_path / "scoring.csv"
    process = subprocess.run(
        [*script, "--device", "cpu", "--threads", "1", "--out", str(out)], cwd=root, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    frame = pd.read_csv(out).set_index("what")
    assert {"torch-fidelity", "clean-fid", "resizing, PIL"} <= set(frame.index)
    assert (frame["images_per_second"] > 0).all()
    assert abs(frame.loc["surrodiff inception float32", "relative_shift"]) < 1e-3


@pytest.mark.parametrize(
    ("script", "options", "says"),
    [
        ("train.py", ["--networks", "Defalt"], "--networks: invalid choice: 'Defalt'"),
        ("correctness.py", ["--networks", "Defalt"], "--networks: invalid choice: 'Defalt'"),
        ("sample.py", ["--evaluations", "0"], "--evaluations: must be a whole number from 1, got '0'"),
        ("sample.py", ["--width", "12"], "--width: must be a multiple of 8, got '12'"),
        ("profile_step.py", ["--width", "0"], "--width: must be a whole number from 1, got '0'"),
        ("scoring.py", ["--batch", "-1"], "--batch: must be a whole number from 1, got '-1'"),
        ("evidence.py", ["--samples", "many"], "--samples: must be a whole number from 1, got 'many'"),
    ],
)
def test_a_wrong_option_is_told(script, options, says, root, tmp_path):
    command = [sys.executable, f"benchmarks/{script}", *options, "--out", str(tmp_path / "out.csv")]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert process.returncode == 2
    assert says in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(tmp_path.iterdir())


def test_training_and_sampling_are_compared_in_steps_that_are_done_once(root, tmp_path):
    out = tmp_path / "with space"
    command = ["bash", "benchmarks/gpu.sh", "--out", str(out), "--device", "cpu", "--width", "8"]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}

    def run():
        return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)

    process = run()
    assert process.returncode == 0, process.stdout + process.stderr
    correct = pd.read_csv(out / "correctness.csv")
    assert {"gradient", "eps", "reverse step"} == set(correct["what"])
    assert correct["passed"].all()
    for name, models in (("train", 11), ("sample", 6)):
        frame = pd.read_csv(out / f"{name}.csv")
        assert frame["reason"].isna().all()
        assert (frame["images_per_second"] > 0).all()
        assert frame["model"].nunique() == models
        assert {"surrodiff", "diffusers", "denoising-diffusion-pytorch"} <= set(frame["contestant"])
        default = frame[frame["model"] == "Default"].set_index(["contestant", "setting"])["gmacs_per_image"]
        # diffusers' published network is Default's, counted by another tool; time steps and norms are not counted.
        assert default["diffusers", "float32"] / default["surrodiff", "float32"] == pytest.approx(1, rel=0.01)
    fast = pd.read_csv(out / "fast.csv")
    assert fast["reason"].isna().all()
    assert (fast["task"] == "sampling").all()
    assert (fast["images_per_second"] > 0).all()
    samplers = [
        f"{name} {count}" for counts in ((2, 2, 1), (5, 5, 5)) for name, count in zip(FAST, counts, strict=True)
    ]
    for contestant in ("surrodiff", "diffusers"):
        found = fast[(fast["contestant"] == contestant) & (fast["setting"] == "float32")]
        assert found["sampler"].tolist() == samplers
        each = found["gmacs_per_image"] / found["sampler"].str.split().str[1].astype(int)
        assert each.max() == pytest.approx(each.min(), rel=1e-3)
    assert pd.read_csv(out / "profile.csv")["share"].sum() > 0.9
    written = {file: file.stat().st_mtime_ns for file in out.glob("*.csv")}
    assert run().stdout == ""
    assert {file: file.stat().st_mtime_ns for file in out.glob("*.csv")} == written


def test_a_missing_gpu_is_one_line(root, tmp_path):
    script = [sys.executable, "benchmarks/profile_step.py", "--device", "cuda", "--out", str(tmp_path / "profile.csv")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(script, cwd=root, capture_output=True, text=True, env=environment)
    assert process.returncode == 1
    assert (
        process.stderr
        == "surrodiff: device: cuda was asked for, and PyTorch finds no GPU here; set device: auto or cpu\n"
    )
