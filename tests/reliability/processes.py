"""The processes of one command and of all that it started, found by a mark in their environment."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil

MARK = "SURRODIFF_SOAK"


class Tree:
    """Commands that run in a project, and whatever they start, even when it outlives them."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.environment = {**environment, MARK: self.mark}

    def start(self, command: list[str], output: Path) -> subprocess.Popen:
        """Start a Python module's command line; its output goes to a file, which survivors may hold open."""
        with open(output, "w") as file:
            words = [sys.executable, "-m", *command]
            streams = {"stdout": file, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
            return subprocess.Popen(words, cwd=self.folder, env=self.environment, start_new_session=True, **streams)

    def alive(self) -> list[psutil.Process]:
        """Every living process that carries the mark, the oldest first."""
        processes = [process for process in psutil.process_iter() if self._is_ours(process)]
        return sorted(processes, key=lambda process: process.create_time())

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False

    def kill_all(self):
        """End whatever is left."""
        while survivors := self.alive():
            for process in survivors:
                send(process, signal.SIGKILL)
            time.sleep(0.05)

    def wait_until_gone(self, seconds: float) -> list[str]:
        """Wait until nothing is left; returns what still lives after so long, as text."""
        end = time.monotonic() + seconds
        while (survivors := self.alive()) and time.monotonic() < end:
            time.sleep(0.2)
        return [f"process {process.pid}, {role(process)}" for process in survivors]


def send(process: psutil.Process, number: int) -> bool:
    """Send a signal; False if the process has ended."""
    try:
        process.send_signal(number)
        return True
    except psutil.Error:
        return False


def role(process: psutil.Process) -> str:
    """What a process is, for the report."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return "ended"
    roles = {"snakemake": "snakemake", "torch.distributed.run": "torchrun", "surrodiff.cli": "job"}
    program = os.path.basename(words[0]) if words else "unknown"
    return next((roles[word] for word in words if word in roles), program) if "python" in program else program
