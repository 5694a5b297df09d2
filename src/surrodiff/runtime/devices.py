"""Devices and progress: where the work runs, and how far it is."""

import ctypes
import os
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

from surrodiff.errors import UserError
from surrodiff.runtime import distributed, locks

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def resolve(device: str) -> torch.device:
    """The torch device for `auto` (a GPU if there is one), `cpu` or `cuda`; raises UserError if a GPU is absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, and PyTorch finds no GPU here; set device: auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # float32 means float32: PyTorch's convolutions would round to TF32 on a GPU.
    torch.backends.cudnn.allow_tf32 = False
    if device == "cpu":
        _keep_freed_memory()
    return torch.device(device)


def _keep_freed_memory():
    """Let glibc keep what PyTorch frees, for this process's next tensors.

    By itself it asks the system anew for each tensor above 32 MB, and getting its pages can take half of a step's time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # no other C library has it
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def _candidates(device: torch.device) -> list[tuple[str, torch.device]]:
    """The devices to choose from and a name for each that all processes on this machine agree on."""
    if setting := os.environ.get("SURRODIFF_DEVICES"):
        try:
            return [(name.strip().replace(":", "-"), torch.device(name.strip())) for name in setting.split(",")]
        except RuntimeError as error:
            raise UserError(f"SURRODIFF_DEVICES={setting}: {error}; write for example cuda:0,cuda:1") from None
    if device.type != "cuda":
        return [("cpu", device)]
    count = torch.cuda.device_count()
    # By UUID: where CUDA_VISIBLE_DEVICES differs, so do the numbers.
    return [(str(torch.cuda.get_device_properties(i).uuid), torch.device("cuda", i)) for i in range(count)]


def _locked(path: Path, stack: ExitStack) -> bool:
    """Lock a file until `stack` closes; False if another process has the lock."""
    if (lock := locks.try_lock(path)) is None:
        return False
    stack.enter_context(lock)
    return True


def _lock(candidates: list[tuple[str, torch.device]], count: int, stack: ExitStack) -> list[torch.device]:
    """Lock `count` of the candidates until `stack` closes; waits while others have them."""
    folder = Path(tempfile.gettempdir()) / f"surrodiff-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    devices, reported = {}, False
    # One job at a time gathers devices, so that no two have half of theirs and wait for each other's.
    with ExitStack() as turn:
        has_turn = False
        while len(devices) < count:
            has_turn = has_turn or _locked(folder / "turn.lock", turn)
            for name, device in candidates:
                if (
                    has_turn
                    and len(devices) < count
                    and name not in devices
                    and _locked(folder / f"{name}.lock", stack)
                ):
                    devices[name] = device
            if len(devices) < count:
                if not reported:
                    needed = "one" if count == 1 else f"{count} of them"
                    print(f"all {len(candidates)} devices are taken; waiting for {needed}", file=sys.stderr, flush=True)
                    reported = True
                time.sleep(0.5)
    return list(devices.values())


@contextmanager
def claimed(device: torch.device):
    """Yield one of the machine's devices of this kind for this process alone; wait while others have them all.

    Snakemake counts GPUs but does not say which; jobs that run at once find theirs by a lock on each. A job of several
    processes gets all of its devices together. Where there is only one to choose (one GPU, the CPU, a cluster's job
    with one GPU), it is not locked. The environment variable SURRODIFF_DEVICES, such as `cuda:0,cuda:2`, says what to
    choose from instead. Raises UserError if there are fewer devices than processes.
    """
    candidates, count = _candidates(device), distributed.world()
    if len(candidates) == 1 and (count == 1 or device.type == "cpu"):
        yield candidates[0][1]
        return
    if len(candidates) < count:
        names = ", ".join(str(candidate) for _, candidate in candidates)
        raise UserError(f"{count} processes need as many devices; there are {len(candidates)}: {names}")
    with ExitStack() as stack:
        devices = distributed.broadcast(_lock(candidates, count, stack) if distributed.rank() == 0 else None)
        own_device = devices[distributed.rank()]
        print(f"device {own_device}", file=sys.stderr, flush=True)
        if own_device.type == "cuda":
            torch.cuda.set_device(own_device)
        yield own_device


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
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
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
        terminal = sys.stderr.isatty() and distributed.rank() == 0
        self.bar = tqdm(desc=what, total=total, initial=start, unit=f" {unit}", smoothing=0.05) if terminal else None

    def advance(self, count: float, note: str = ""):
        """Count `count` more units; `note` is shown beside them."""
        locks.beat()
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(count)
        elif time.monotonic() - self.printed >= self.every or self.done > self.total - 1e-6:
            self.printed = time.monotonic()
            rate = (self.done - self.start) / max(self.printed - self.began, 1e-9)
            left = max(0.0, self.total - self.done) / max(rate, 1e-9)
            distributed.print_rank0(
                f"{self.what}: {self.done:.0f}/{self.total} {self.unit}, {rate:.3g} {self.unit}/s, {left:.0f} s left"
                + (f", {note}" if note else "")
            )

    def close(self):
        if self.bar is not None:
            self.bar.close()
