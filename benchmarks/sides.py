"""Two processes, ours and the peers': each side has the memory and the settings that it has by itself."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import get_context

import torch

from surrodiff.runtime import devices


def _begin(ours: bool, threads: int, device: torch.device):
    torch.set_num_threads(threads)
    # What the product sets for its process is no peer's; but float32 means the same to all.
    torch.backends.cudnn.allow_tf32 = False
    if ours:
        devices.resolve(device.type)


class Sides(ExitStack):
    """The two processes, as a context; functions, arguments and results must be picklable."""

    def __init__(self, threads: int, device: torch.device):
        super().__init__()
        self._pools = {
            ours: self.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), _begin, (ours, threads, device))  # CUDA bears no fork
            )
            for ours in (True, False)
        }

    def call(self, ours: bool, function: Callable, *args):
        """What the function returns in a side's process, which keeps what it leaves in its modules' variables."""
        try:
            return self._pools[ours].submit(function, *args).result()
        except BrokenProcessPool:
            side = "our side" if ours else "the peers' side"
            sys.exit(f"the process of {side} was ended, perhaps for want of memory: take a smaller --batch or --images")
