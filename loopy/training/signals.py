"""A process that is asked to stop finishes what it is doing first."""

import os
import signal
import threading
from types import FrameType
from typing import Any

ASKS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""SLURM and kubernetes send the first; a terminal that closes the second; `sbatch --signal=USR1`
the third."""


def leave_group(number: int) -> None:
    """Lets a worker of a loader work on where its training is asked to stop.

    torchrun and terminals send signals to a whole group of processes, and a loader whose worker
    died ends the training. A worker whose training died ends by itself, within seconds.

    Args:
        number: Of the worker; `torch.utils.data.DataLoader` gives it.
    """
    os.setpgrp()


class StopSignals:
    """Takes note of signals that ask to stop, in place of what they would do.

    lightning's own answers to them talk to other ranks, or save, from within the handler: in the
    middle of whatever the process was saying to them.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the latest signal; 0 = none yet."""
        self._before: dict[signal.Signals, Any] = {}

    def watch(self) -> None:
        """Begins; a signal that the process ignores (nohup) stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return  # only there python takes signals
        for each in ASKS:
            if signal.getsignal(each) is not signal.SIG_IGN:
                self._before[each] = signal.signal(each, self._note)

    def release(self) -> None:
        """Ends; signals do again what they did before."""
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
