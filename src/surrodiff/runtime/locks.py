"""Locks by the operating system: whoever is killed holds none any longer, so none has to be removed by hand."""

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import TextIO

from surrodiff.errors import UserError

BEAT_SECONDS = 5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_held: list[TextIO] = []
_last_beat = -float("inf")


def try_lock(path: Path) -> TextIO | None:
    """The open file `path`, which this process has locked; None if another process has. Closing it unlocks it.

    Raises UserError where the file system has no locks.
    """
    # For reading and writing: NFS has exclusive locks only on files that are open for writing.
    file = open(path, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115 (the caller closes it)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        file.close()
        if error.errno in _NO_LOCKS:
            raise UserError(
                f"{path}: cannot be locked, and unlocked jobs could overwrite each other's work ({error.strerror}); "
                "mount this file system with locks (NFS: start its lock service, or mount with local_lock=flock if "
                "one machine alone uses it), or work in a folder on another one"
            ) from None
        raise
    _held[:] = [other for other in _held if not other.closed] + [file]
    return file


def beat():
    """Show whoever waits for this process's locks that it makes progress: their files get the present time."""
    global _last_beat
    if time.monotonic() - _last_beat >= BEAT_SECONDS:
        _last_beat = time.monotonic()
        for file in _held:
            if not file.closed:
                os.utime(file.fileno())
