"""Devices, precision and progress: where the work runs, how exactly, and how far it is."""

import fcntl
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from surrodiff.errors import UserError


def resolve(device: str) -> torch.device:
    """The torch device for `auto` (a GPU if there is one), `cpu` or `cuda`; raises UserError if a GPU is absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, and PyTorch finds no GPU here; set device: auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # float32 means float32: PyTorch's convolutions would round to TF32 on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(device)


def _candidates(device: torch.device) -> list[tuple[str, torch.device]]:
    """The devices to choose from and a name for each that all processes on this machine agree on."""
    if named := os.environ.get("SURRODIFF_DEVICES"):
        try:
            return [(name.strip().replace(":", "-"), torch.device(name.strip())) for name in named.split(",")]
        except RuntimeError as error:
            raise UserError(f"SURRODIFF_DEVICES={named}: {error}; write for example cuda:0,cuda:1") from None
    if device.type != "cuda":
        return [("cpu", device)]
    count = torch.cuda.device_count()
    # By UUID: where CUDA_VISIBLE_DEVICES differs, so do the numbers.
    return [(str(torch.cuda.get_device_properties(i).uuid), torch.device("cuda", i)) for i in range(count)]


@contextmanager
def claimed(device: torch.device):
    """Yield one of the machine's devices of this kind for the caller alone; wait while others have them all.

    Snakemake counts GPUs but does not say which; jobs that run at once find theirs by a lock on each. Where there is
    only one to choose (one GPU, the CPU, a cluster's job with one GPU), it is not locked. The environment variable
    SURRODIFF_DEVICES, such as `cuda:0,cuda:2`, says what to choose from instead.
    """
    candidates = _candidates(device)
    if len(candidates) == 1:
        yield candidates[0][1]
        return
    folder = Path(tempfile.gettempdir()) / f"surrodiff-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    told = False
    while True:
        for name, found in candidates:
            with open(folder / f"{name}.lock", "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                print(f"device {found}", file=sys.stderr, flush=True)
                if found.type == "cuda":
                    torch.cuda.set_device(found)
                yield found
                return
        if not told:
            print(f"all {len(candidates)} devices are taken; waiting for one", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.5)


def resolve_precision(precision: str, device: torch.device) -> str:
    """`float32` or `bfloat16`; `auto` is bfloat16 on GPUs with bfloat16 tensor cores (from Ampere), else float32."""
    if precision != "auto":
        return precision
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return "bfloat16" if fast else "float32"


def autocast(device: torch.device, precision: str):
    """The context in which a network runs at a resolved precision; weights and inputs stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def synchronise(device: torch.device):
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def description(device: torch.device) -> str:
    """The device's name, for records."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "CPU"
    return f"{name}, {torch.get_num_threads()} threads"


class Progress:
    """How far a long job is: a bar in a terminal, a plain line every few seconds in a log file."""

    def __init__(self, what: str, total: int, unit: str, start: int = 0, every_seconds: float = 10):
        self.what, self.total, self.unit, self.done = what, total, unit, start
        self.start, self.every, self.began = start, every_seconds, time.monotonic()
        self.printed = self.began
        terminal = sys.stderr.isatty()
        self.bar = tqdm(desc=what, total=total, initial=start, unit=f" {unit}", smoothing=0.05) if terminal else None

    def advance(self, count: float, note: str = ""):
        """Count `count` more units; `note` is shown beside them."""
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(count)
        elif time.monotonic() - self.printed >= self.every or self.done > self.total - 1e-6:
            self.printed = time.monotonic()
            rate = (self.done - self.start) / max(self.printed - self.began, 1e-9)
            left = max(0.0, self.total - self.done) / max(rate, 1e-9)
            print(
                f"{self.what}: {self.done:.0f}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s, {left:.0f} s left"
                + (f", {note}" if note else ""),
                file=sys.stderr,
                flush=True,
            )

    def close(self):
        if self.bar is not None:
            self.bar.close()
