"""Run the paper's own networks once from end to end, at full T, with the steps and samples cut to a handful.

    python benchmarks/trial.py PICTURES [--steps 3] [--samples 4] [--batch 4] [--precision bfloat16] [-- OPTIONS]

Writes the preset `trial`, which is `paper` with these cuts, the given picture folder as data and `classifier` features,
and runs the workflow with it: every architecture, objective and surrogate. Its scores mean nothing; that it ends means
that nothing of `paper` is untried on this machine.
"""

import argparse
import copy
import subprocess
import sys
import time
from pathlib import Path

import yaml

from surrodiff.config import documents


def trial(paper: dict, pictures: str, steps: int, samples: int, batch: int, precision: str) -> dict:
    """The preset `paper` with fewer steps, samples and images a batch."""
    preset = copy.deepcopy(paper)
    preset["data"].update(source="image_folder", path=pictures)
    cut = {"steps": steps, "snapshot_every": steps, "batch_size": batch}
    preset["models"]["Default"]["training"].update(cut, warmup_steps=1, precision=precision)
    preset["models"]["SNGAN"]["training"].update(cut)
    preset["evaluated_steps"] = [steps]
    preset["sampling"].update(num_samples=samples, precision=precision)
    preset["scoring"].update(features="classifier", is_splits=1, kid_subset_size=samples, neighbours=1)
    preset["likelihood"].update(num_images=2, precision=precision)
    preset["scoring"]["classifier"]["steps"] = 100
    preset["timing"].update(rounds=1, train_steps=1, sampling_steps=1, batch_size=batch)
    preset["execution"].update(threads=1, checkpoint_every=1, log_every=1, sampling_batch=max(samples, 100))
    return preset


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", help="a folder of class folders of pictures, such as CIFAR-10 as PNG or JPEG")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("snakemake", nargs="*", help="more options for Snakemake, after --")
    args = parser.parse_args()
    params = documents.read(Path("params.yaml"))
    cut = trial(params["presets"]["paper"], args.pictures, args.steps, args.samples, args.batch, args.precision)
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
