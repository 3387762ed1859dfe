"""What calls the preparer: this process, several processes, or Ray. The store carries the state."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from threading import Thread

import torch

from loopy.errors import ConfigurationError, LoopyError
from loopy.preprocess.ledger import Ledger
from loopy.preprocess.prepare import MakePreparer, Preparer
from loopy.preprocess.ray import RayOptions, prepare_by_ray
from loopy.preprocess.remote_videos import Source
from loopy.stopping import Stopped, raise_stopped


def part_of(videos: Sequence[Source], part: str) -> list[Source]:
    """Share ``i/n`` of a list, i from 0, for n jobs that know nothing of each other.

    Raises:
        ConfigurationError: Not of that form.
    """
    try:
        number, of = (int(word) for word in part.split("/"))
    except ValueError as error:
        raise ConfigurationError(f"a shard is i/n, for example 0/8, got {part!r}") from error
    if not 0 <= number < of:
        raise ConfigurationError(f"shard {part} does not exist; i goes from 0 to {of - 1}")
    return list(videos[number::of])


def prepare_all(
    make: MakePreparer,
    videos: Sequence[Source],
    *,
    workers: int = 0,
    max_errors: int = 10,
    ray: RayOptions | None = None,
) -> Iterator[Ledger]:
    """Prepares videos, in any order.

    Args:
        make: Builds the preparer, once in each process.
        videos: The files.
        workers: Processes, of one thread each; 0 works in this one. With Ray, cores to use.
        max_errors: Videos that may fail for an unforeseen reason; one more ends the run.
        ray: Where Ray works, and with what; None works without it.

    Yields:
        The ledger of each video as it is finished.

    Raises:
        LoopyError: What concerns the whole run, more errors than are allowed, and a process of
            ours that died.
    """
    if ray is not None:
        ledgers = prepare_by_ray(make, videos, workers=workers, options=ray)
    else:
        ledgers = _in_pool(make, videos, workers) if workers else map(make(), videos)
    failed = 0
    for ledger in ledgers:
        failed += not ledger.finished
        if failed > max_errors:
            raise LoopyError(
                f"more than {max_errors} videos failed, the last one with: {ledger.error}; what is "
                "finished is kept; see to it, or allow more by max_errors, and run the command "
                "again"
            )
        yield ledger


def _in_pool(make: MakePreparer, videos: Sequence[Source], workers: int) -> Iterator[Ledger]:
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_build, initargs=(make, os.getpid())
    ) as pool:
        try:
            for future in as_completed([pool.submit(_prepare, video) for video in videos]):
                yield future.result()
        except Stopped:
            for child in active_children():
                child.terminate()
            raise
        except BrokenProcessPool as error:
            raise LoopyError(
                "a process died: it could not build its networks, or memory ran out; use fewer "
                "workers and run the command again: what is finished is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_built: list[Preparer] = []
"""The one preparer of a process of the pool."""


def _build(make: MakePreparer, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal asks all at once; the parent ends us
    signal.signal(signal.SIGTERM, raise_stopped)
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _built.append(make())


def _end_with(parent: int) -> None:
    """Ends this process when its parent was killed: it would wait for work, and hold a GPU."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _prepare(video: Source) -> Ledger:
    return _built[0](video)
