"""One contest: contestants that take turns round by round, the machine's own peaks, and one CSV of what was found."""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from ours import COMPILED, EAGER, Setting, add_networks, eights, models, precisions, printed_numbers
from ours import precision as resolved
from sides import Sides

from surrodiff.cli import count
from surrodiff.runtime import devices
from surrodiff.stages.time import seconds_of
from surrodiff.store import provenance
from surrodiff.store.runs import write_text

WARM_UP = 3  # compiling, and the steps before a graph is replayed


@dataclass
class Contestant:
    """Who does what how; `make` (picklable) gives one step for a batch, of `macs` multiply-accumulates an image.

    sampler: where a step is whole images, by what; contestants of one sampler are compared with each other.
    """

    name: str
    network: str
    objective: str
    setting: Setting
    macs: float
    make: Callable[[], Callable[[], None]]
    sampler: str = ""
    seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    reason: str = ""  # why it does not run

    @property
    def ours(self) -> bool:
        return self.name == "surrodiff"

    def like(self, other: "Contestant") -> bool:
        return (self.name, self.sampler) == (other.name, other.sampler)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    text = "CPU threads (default: PyTorch's, which heeds OMP_NUM_THREADS)"
    parser.add_argument("--threads", type=count, default=torch.get_num_threads(), help=text)
    parser.add_argument("--rounds", type=count, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--steps", type=count, default=1, help="steps of a turn (default: 1)")
    parser.add_argument("--batch", type=count, default=128, help="images of a step (default: 128)")
    parser.add_argument(
        "--width", type=eights, default=128, help="base channels of Default, in eights (default: the paper's)"
    )
    add_networks(parser, None, "models of the preset `paper` (default: all)")
    text = "compiled contestants too (default: on a GPU; a CPU compiles each for minutes)"
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help=text)
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    return parser


def start(args) -> tuple[torch.device, list[Setting]]:
    """The device, and the settings in which everyone is compared."""
    torch.set_num_threads(args.threads)
    device = devices.resolve(args.device)
    compiled = device.type == "cuda" if args.compile is None else args.compile
    known = precisions(device)
    return device, [setting for setting in EAGER + COMPILED * compiled if setting.precision in known]


def peaks(device: torch.device) -> dict[tuple[str, str], float]:
    """Operations a second of a large matrix product and of a 3x3 convolution of the network's widest kind, by (what,
    precision): the best of thirty."""
    big, images = (8192, 256) if device.type == "cuda" else (1024, 8)
    speeds = {}
    for precision in precisions(device):
        dtype = getattr(torch, precision)
        a, b = (torch.randn(big, big, device=device, dtype=dtype) for _ in range(2))
        x = torch.randn(images, 256, 16, 16, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        w = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        kinds = {
            "matmul": (lambda a=a, b=b: a @ b, 2 * big**3),
            "conv": (lambda x=x, w=w: F.conv2d(x, w, padding=1), 2 * images * 16 * 16 * 256 * 256 * 9),
        }
        for what, (work, operations) in kinds.items():
            work()
            speeds[what, precision] = operations / min(seconds_of(work, 1, device) for _ in range(30))
    return speeds


_steps: dict[int, Callable[[], None]] = {}  # in a side's process: its contestants' steps


def _prepare(number: int, make: Callable[[], Callable[[], None]], device: torch.device) -> float | None:
    """Make and warm a contestant's step; returns its memory: what it keeps, and what a step takes at its peak."""
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    step = make()
    for _ in range(WARM_UP):
        step()
    _steps[number] = step
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return (torch.cuda.max_memory_allocated(device) - held) / 2**20


def _turn(number: int, steps: int, device: torch.device) -> float:
    return seconds_of(_steps[number], steps, device)


def run(contestants: list[Contestant], args, device: torch.device):
    """Fill in everyone's seconds of a step, in turns; the first round, which still gathers memory, does not count."""
    with Sides(args.threads, device) as sides:
        progress = devices.Progress("prepare", len(contestants), "contestants")
        for number, c in enumerate(contestants):
            try:
                c.memory = sides.call(c.ours, _prepare, number, c.make, device)
            except Exception as error:  # a peer that fails is a row of the table, and no end of the contest
                c.reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                print(f"{c.name} {c.setting}: {c.reason}", file=sys.stderr, flush=True)
            progress.advance(1)
        progress.close()
        progress = devices.Progress("contest", args.rounds + 1, "rounds")
        for round_number in range(args.rounds + 1):
            for number, c in enumerate(contestants):
                if not c.reason:
                    seconds = sides.call(c.ours, _turn, number, args.steps, device)
                    if round_number:
                        c.seconds.append(seconds)
            progress.advance(1)
        progress.close()


def ratio(a: Contestant, b: Contestant) -> tuple[float, float]:
    """How many times as long a step of `a` takes as one of `b`: the median of the rounds', and half their range."""
    ratios = [x / y for x, y in zip(a.seconds, b.seconds, strict=True)]
    return statistics.median(ratios), (max(ratios) - min(ratios)) / 2


def paper_ratio(network: str, training: bool) -> float | None:
    """The paper's time of a model over that of its Default, in training or in sampling."""
    if training and (ratio := printed_numbers("table_4_4", "train_time_ratio").get(network)):
        return ratio
    time = printed_numbers("table_4_3", "train_hours" if training else "samples_per_second")
    if network not in time:
        return None
    return time[network] / time["Default"] if training else time["Default"] / time[network]


def _versions() -> str:
    versions = [f"python {platform.python_version()}"]
    for package in ("torch", "diffusers", "denoising-diffusion-pytorch"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)


def write(contestants: list[Contestant], args, device: torch.device, evaluations: int):
    """Write the CSV and print its core. An image takes `evaluations` steps: 1 in training, T in sampling."""
    training, peak_speeds, known = evaluations == 1 and not contestants[0].sampler, peaks(device), models(args.width)
    finishers = [contestant for contestant in contestants if contestant.seconds]
    best = {
        (c.name, c.sampler): min((d for d in finishers if d.like(c) and d.network == "Default"), key=lambda d: d.median)
        for c in finishers
    }
    rows = []
    for c in contestants:
        row = {"task": "training" if training else "sampling", "contestant": c.name, "model": c.network}
        row |= {
            "objective": c.objective,
            "sampler": c.sampler,
            "setting": str(c.setting),
            "batch": args.batch,
            "width": args.width,
        }
        row["gmacs_per_image"] = c.macs * evaluations / 1e9
        if c.seconds:
            rate = args.batch / c.median
            row["images_per_second"] = rate / evaluations
            row["spread"] = (max(c.seconds) - min(c.seconds)) / c.median
            precision = resolved(known[c.network], c.setting, device)
            for what in ("matmul", "conv"):
                row[f"of_{what}_peak"] = 2 * c.macs * rate / peak_speeds[what, precision]
            row["memory_mib"] = c.memory
            our_default = [d for d in finishers if d.ours and d.network == "Default" and d.setting == c.setting]
            our_default = [d for d in our_default if d.sampler == c.sampler]
            if our_default and c is not our_default[0]:
                row["time_to_our_default"], row["time_to_our_default_half_range"] = ratio(c, our_default[0])
                row["operations_to_our_default"] = c.macs / our_default[0].macs
                row["paper_time_to_default"] = paper_ratio(c.network, training) if c.ours else None
            our_best = best.get(("surrodiff", c.sampler))
            if c is best[c.name, c.sampler] and not c.ours and our_best:
                row["best_time_to_our_best"], row["best_time_to_our_best_half_range"] = ratio(c, our_best)
        rows.append(row | {"reason": c.reason})
    machine = {f"{what}_{precision}_tflops": speed / 1e12 for (what, precision), speed in peak_speeds.items()}
    machine |= {"device": devices.description(device), "load": os.getloadavg()[0], "rounds": args.rounds}
    machine |= {"versions": _versions(), "revision": provenance.revision()}
    machine["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    frame = pd.DataFrame(rows).assign(**machine)
    write_text(args.out, frame.to_csv(index=False, float_format="%.4g", lineterminator="\n"))
    print(frame[[c for c in SHOWN if c in frame]].to_string(index=False, float_format="%.3g", na_rep=""))
    print(f"{args.out}: {machine}")


SHOWN = [
    *("contestant", "model", "sampler", "setting", "images_per_second", "spread", "of_matmul_peak", "of_conv_peak"),
    *("memory_mib", "time_to_our_default", "operations_to_our_default", "paper_time_to_default"),
    *("best_time_to_our_best", "reason"),
]
