"""How a job ends when it is asked to, by SIGTERM (a cluster's time limit, `kill`) or SIGINT (Ctrl-C): it loses nothing.

The first signal raises Stopped, at once or, within `after_the_step`, where the work is at a point to save. A second
one raises it at once in any case.
"""

import signal
from contextlib import contextmanager

_asked: int | None = None
_deferred = False


class Stopped(BaseException):
    """A signal ended the work; `kept` says what of it is on the disk."""

    def __init__(self, number: int, kept: str = ""):
        self.number, self.kept = number, kept
        super().__init__(f"stopped by {signal.Signals(number).name}" + (f": {kept}" if kept else ""))


def _handle(number: int, frame):
    global _asked
    is_first, _asked = _asked is None, number
    if not (_deferred and is_first):
        raise Stopped(number)


@contextmanager
def watched():
    """Listen to both signals, for as long as a command runs."""
    global _asked
    previous = {number: signal.signal(number, _handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        _asked = None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def after_the_step():
    """Within it the first signal waits until the work asks for it (see asked), at the latest until the end."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    if _asked is not None:
        raise Stopped(_asked)


def asked() -> int | None:
    """The signal that asked this process to stop; None so far."""
    return _asked
