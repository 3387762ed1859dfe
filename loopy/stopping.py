"""Signals that ask to stop: a command by an exception, a training at the end of its step."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any


def _named(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


ASKS = _named("SIGINT", "SIGTERM", "SIGHUP")
"""The terminal's Ctrl-C; `kill` and `docker stop`; a terminal that closes (not on Windows)."""
ASKS_TRAINING = _named("SIGTERM", "SIGHUP", "SIGUSR1")
"""SLURM and kubernetes send the first; a terminal that closes the second; `sbatch --signal=USR1`
the third."""
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

    They do again after ``CLEAN_UP_S``; and where a library has swallowed the exception, or made
    another one of it, it is raised once more at the end of the block.

    A signal that the process ignores (nohup) stays ignored. Outside of the main thread, where
    python takes no signals, nothing changes.
    """
    asked: list[int] = []
    until_s = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal until_s
        if time.monotonic() >= until_s:
            until_s = time.monotonic() + CLEAN_UP_S
            asked.append(number)
            raise_stopped(number, frame)

    with _answered(ASKS, stop):
        try:
            yield
        except Exception as error:
            if asked:  # torch, for one, calls what interrupts it a tensor without a shape
                raise Stopped(asked[0]) from error
            raise
        if asked:
            raise_stopped(asked[0], None)


class StopSignals:
    """Takes note of signals that ask to stop, in place of what they would do.

    lightning's own answers to them talk to other ranks, or save, from within the handler: in the
    middle of whatever the process was saying to them.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the latest signal; 0 = none yet."""
        self._answered = ExitStack()

    def watch(self) -> None:
        """Begins; a signal that the process ignores (nohup) stays ignored."""
        self._answered.enter_context(_answered(ASKS_TRAINING, self._note))

    def release(self) -> None:
        """Ends; signals do again what they did before."""
        self._answered.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number


@contextmanager
def _answered(
    asks: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Answers signals in the block, and then does at them what was done before."""
    before: dict[signal.Signals, Any] = {}
    # outside of the main thread python takes none
    here = asks if threading.current_thread() is threading.main_thread() else ()
    try:
        for each in here:
            # None: a handler that was not set from python, which cannot be put back
            if signal.getsignal(each) not in (signal.SIG_IGN, None):
                before[each] = signal.signal(each, handler)
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)
