"""Run the paper's own networks once from end to end, at full T, with the steps and samples cut to a handful.

    python benchmarks/trial.py PICTURES [--steps 3] [--samples 4] [--batch 4] [--precision bfloat16] [-- OPTIONS]

Writes the preset `trial`, which is `paper` with these cuts, the given picture folder as data and `classifier` features,
and runs the workflow with it: every architecture, objective and surrogate. Its scores mean nothing; that it ends means
that nothing of `paper` is untried on this machine.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import yaml


def trial(pictures: str, steps: int, samples: int, batch: int, precision: str) -> dict:
    """How the preset differs from `paper`: fewer steps, samples and images a batch."""
    cut = {"steps": steps, "snapshot_every": steps, "batch_size": batch}
    return {
        "data": {"source": "image_folder", "path": pictures},
        "models": {
            "Default": {"training": {**cut, "warmup_steps": 1, "precision": precision}},
            "SNGAN": {"training": cut},
        },
        "sampling": {"num_samples": samples, "precision": precision},
        "scoring": {
            "features": "classifier",
            "is_splits": 1,
            "kid_subset_size": samples,
            "neighbours": 1,
            "classifier": {"steps": 100},
        },
        "likelihood": {"num_images": 2, "precision": precision},
        "timing": {"rounds": 1, "train_steps": 1, "sampling_steps": 1, "batch_size": batch},
        "execution": {"threads": 1, "checkpoint_every": 1, "log_every": 1, "sampling_batch": max(samples, 100)},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", help="a folder of class folders of pictures, such as CIFAR-10 as PNG or JPEG")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("snakemake", nargs="*", help="more options for Snakemake, after --")
    args = parser.parse_args()
    cut = trial(args.pictures, args.steps, args.samples, args.batch, args.precision)
    file = Path("results/trial/params.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({"preset": "trial", "presets": {"trial": cut}}, sort_keys=False))
    began = time.monotonic()
    command = [sys.executable, "-m", "snakemake", "--cores", "all", *args.snakemake, "--configfile", str(file)]
    code = subprocess.run(command).returncode
    print(f"exit code {code} after {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
