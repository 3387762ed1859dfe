"""Signals that ask a command to stop become an exception, so that all it began is cleaned up."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The terminal's Ctrl-C; `kill` and `docker stop`; a terminal that closes (not on Windows)."""
CLEAN_UP_S = 10.0
"""So long after a signal others are passed over."""


class Stopped(SystemExit):
    """The process was asked to stop; its exit code is 128 + the signal, as shells tell it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    def __str__(self) -> str:
        """One line."""
        return f"stopped by {signal.Signals(self.number).name}"


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """Answers a signal, in the form of `signal.signal`.

    Raises:
        Stopped: Always.
    """
    raise Stopped(number)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raises `Stopped` in the block at the first signal; later ones do not disturb the clean-up.

    They do again after ``CLEAN_UP_S``; and where a library has swallowed the exception, it is
    raised once more at the end of the block.

    A signal that the process ignores (nohup) stays ignored. Outside of the main thread, where
    python takes no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = dict[signal.Signals, Any]()
    asked: list[int] = []
    until_s = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal until_s
        if time.monotonic() >= until_s:
            until_s = time.monotonic() + CLEAN_UP_S
            asked.append(number)
            raise_stopped(number, frame)

    for each in ASKS:
        # None: a handler that was not set from python, which cannot be put back
        if signal.getsignal(each) not in (signal.SIG_IGN, None):
            before[each] = signal.signal(each, stop)
    try:
        yield
        if asked:
            raise_stopped(asked[0], None)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
