"""What made a result: the code's revision, the library versions, the device and its precision."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from surrodiff import __version__, devices


def revision() -> str:
    """The git commit of this source tree, with `-dirty` if it was changed since; the package's version outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    return done.stdout.strip() if done.returncode == 0 else __version__


def _versions() -> dict[str, str]:
    found = {"surrodiff": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "clean-fid"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe(device: torch.device, precision: str) -> dict:
    """The provenance block of a record."""
    return {
        "revision": revision(),
        "versions": _versions(),
        "device": devices.description(device),
        "device_name": str(device),
        "precision": precision,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
