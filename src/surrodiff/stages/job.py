"""What a job is given besides the runs that it makes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surrodiff.config.presets import Execution

if TYPE_CHECKING:
    import torch  # what finds runs made does without


@dataclass(frozen=True)
class Job:
    """Where results lie, the device that this process has, and how the work is done: nothing of it changes a result
    beyond rounding."""

    results: Path
    device: "torch.device"
    execution: Execution
