"""What made a result: the code's revision, the library versions, the device and its precision."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from surrodiff import __version__, devices, distributed


def revision() -> str:
    """The git commit of this code, with `-dirty` if the code was changed since; the package's version outside git."""

    def git(*arguments: str) -> subprocess.CompletedProcess:
        folder = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        # Of this folder alone: the tables that git holds, too, change whenever they are made.
        unchanged = git("diff", "--quiet", "HEAD", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    if head.returncode:
        return __version__
    return head.stdout.strip() + ("-dirty" if unchanged.returncode else "")


def _versions() -> dict[str, str]:
    found = {"surrodiff": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "torch-fidelity", "timm"):
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
        "processes": distributed.world(),
        "precision": precision,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
