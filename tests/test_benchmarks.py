"""The benchmark of scoring, run small: whatever its speeds, ours must give the distance of the library beside it."""

import subprocess
import sys

import pandas as pd


def test_scoring_is_compared_at_equal_distances(root, tmp_path):
    script = [sys.executable, "benchmarks/scoring.py", "--images", "2", "--batch", "2", "--rounds", "1"]
    out = tmp_path / "scoring.csv"
    done = subprocess.run(
        [*script, "--device", "cpu", "--threads", "1", "--out", str(out)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(out).set_index("what")
    assert {"torch-fidelity", "clean-fid", "resizing, PIL"} <= set(found.index)
    assert (found["images_per_second"] > 0).all()
    assert abs(found.loc["surrodiff inception float32", "relative_shift"]) < 1e-3
