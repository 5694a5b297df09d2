"""Where the time of a training step of Default goes, by operator (torch.profiler).

python benchmarks/profile_step.py [--device cuda] [--width 128] [--batch 128] --out profile.csv
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch
from ours import Setting, eights, models, trainer
from torch.profiler import ProfilerActivity, profile

from surrodiff.cli import count
from surrodiff.errors import shown
from surrodiff.runtime import devices
from surrodiff.store.runs import write_text

STEPS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--width", type=eights, default=128)
    parser.add_argument("--batch", type=count, default=128)
    parser.add_argument("--threads", type=count, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = devices.resolve(args.device)
    our_trainer = trainer(models(args.width)["Default"], args.batch, Setting(args.precision, args.compile), device)
    for step in range(1, 4):
        our_trainer.step(step)
    devices.synchronise(device)
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiler:
        for step in range(4, 4 + STEPS):
            our_trainer.step(step)
        devices.synchronise(device)
    rows = []
    for event in profiler.key_averages():
        microseconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        calls, ms = event.count / STEPS, microseconds / 1000 / STEPS
        rows.append({"operator": event.key, "calls_per_step": calls, "ms_per_step": ms})
    frame = pd.DataFrame(rows).sort_values("ms_per_step", ascending=False)
    frame["share"] = frame["ms_per_step"] / frame["ms_per_step"].sum()
    frame = frame[frame["share"] >= 0.001].assign(device=devices.description(device), batch=args.batch)
    write_text(args.out, frame.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    print(frame.head(25).to_string(index=False, float_format="%.3g"))


if __name__ == "__main__":
    with shown():
        sys.exit(main())
