"""Functions in processes of their own, which may hang, take all memory, or crash, and are ended then."""

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from surrodiff.errors import UserError

MEMORY = 2**30
PACKAGE = str(Path(sys.modules[UserError.__module__].__file__).parent)


@dataclass(frozen=True)
class Ended:
    """How a function ended: `returned` its value, `refused` with a UserError's text, `traceback`, `hang`, `memory` or
    `crash`; `where`: the last place in the package that the traceback has passed."""

    how: str
    value: object = None
    where: str = ""


def limited(function: Callable[[], object], seconds: float, memory: int = MEMORY) -> Ended:
    """Call a function in a forked process, for so many seconds at most and with so many bytes more than now.

    What it returns must be JSON.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.setsid()
        with contextlib.suppress(BaseException):
            _limit(memory)
            _write_all(write, json.dumps(vars(_called(function))).encode())
        os._exit(0)
    os.close(write)
    answer = _read_all(read, seconds)
    os.close(read)
    if answer is None:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if answer is None:
        return Ended("hang", f"ended after {seconds:.0f} s")
    if not answer:
        return Ended("crash", f"the process ended without an answer, status {status}")
    return Ended(**json.loads(answer))


def _limit(memory: int):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _called(function: Callable[[], object]) -> Ended:
    try:
        return Ended("returned", function())
    except UserError as error:
        return Ended("refused", str(error))
    except MemoryError as error:
        return Ended("memory", repr(error)[:300], _where(error))
    except BaseException as error:
        return Ended("traceback", f"{type(error).__name__}: {str(error)[:300]}", _where(error))


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    place = f"{os.path.relpath(frames[-1].filename, PACKAGE)}:{frames[-1].name}" if frames else "the libraries"
    return f"{place} ({type(error).__name__})"


def _write_all(descriptor: int, content: bytes):
    while content:
        content = content[os.write(descriptor, content) :]


def _read_all(descriptor: int, seconds: float) -> bytes | None:
    """All that comes until the other end is closed; None if that takes too long."""
    end, parts = time.monotonic() + seconds, []
    while select.select([descriptor], [], [], max(0, end - time.monotonic()))[0]:
        part = os.read(descriptor, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None
