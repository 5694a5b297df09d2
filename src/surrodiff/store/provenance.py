"""What made a result: the code's revision, the library versions, the device and its precision."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from surrodiff import __version__
from surrodiff.runtime import devices, distributed

# What a hook exports, and what makes git look elsewhere than where it is started.
GIT_ELSEWHERE = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
)


def revision() -> str:
    """The git commit of this code, with `-dirty` if the code was changed since; the package's version where no
    repository tracks it, such as in an environment below somebody else's repository."""
    package = Path(__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if name not in GIT_ELSEWHERE}

    def git(*arguments: str) -> subprocess.CompletedProcess:
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.run(["git", *arguments], cwd=package, env=environment, timeout=30, **quiet)

    try:
        if git("ls-files", "--error-unmatch", "--", "__init__.py").returncode:
            return __version__
        head = git("rev-parse", "--short=12", "HEAD")
        # Of the package alone: the tables that git holds, too, change whenever they are made.
        difference = git("diff", "--quiet", "HEAD", "--", ".")
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    if head.returncode:  # nothing is committed yet
        return __version__
    return head.stdout.decode("ascii").strip() + ("-dirty" if difference.returncode else "")


def _versions() -> dict[str, str]:
    versions = {"surrodiff": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "scikit-learn", "torch-fidelity", "timm"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


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
