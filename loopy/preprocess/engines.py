"""Who calls the preparer: one process, or several. Engines only schedule; files carry the state."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Thread

from loopy.errors import LoopyError
from loopy.preprocess.ledger import Ledger, write_ledger
from loopy.preprocess.prepare import OF_THE_RUN, Preparer
from loopy.preprocess.remote_videos import Source
from loopy.stopping import Stopped, raise_stopped

MakePreparer = Callable[[], Preparer]
"""Builds a preparer with its models; it pickles, the models need not."""


def part_of(videos: Sequence[Source], part: str) -> list[Source]:
    """Share ``i/n`` of a list, i from 0, for n jobs that know nothing of each other.

    Raises:
        LoopyError: Not of that form.
    """
    try:
        number, of = (int(word) for word in part.split("/"))
    except ValueError as error:
        raise LoopyError(f"a shard is i/n, for example 0/8, got {part!r}") from error
    if not 0 <= number < of:
        raise LoopyError(f"shard {part} does not exist; i goes from 0 to {of - 1}")
    return list(videos[number::of])


def prepare_all(
    make: MakePreparer, videos: Sequence[Source], *, workers: int = 0, max_errors: int = 10
) -> Iterator[Ledger]:
    """Prepares videos, in any order.

    Args:
        make: Builds the preparer, once in each process.
        videos: The files.
        workers: Processes, of one thread each; 0 works in this one.
        max_errors: Videos that may fail for a reason nobody foresaw; one more ends the run.

    Yields:
        The ledger of each video as it is finished.

    Raises:
        LoopyError: What concerns the whole run, more errors than are allowed, and a process that
            died.
    """
    failed = 0
    for ledger in _here(make, videos) if not workers else _in_pool(make, videos, workers):
        failed += unfinished(ledger)
        if failed > max_errors:
            raise too_many(max_errors, ledger.error)
        yield ledger


def unforeseen(error: Exception) -> LoopyError:
    """One of our errors as it is; another one as its words and its place."""
    if isinstance(error, LoopyError):
        return error
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return LoopyError(f"{type(error).__name__} in {where}: {error}")


def leave(root: Path, source: Source, reason: str) -> Ledger:
    """Writes that a video is not finished, for a reason that the next run may not meet.

    Raises:
        OutputError: The store cannot be written.
    """
    ledger = Ledger(str(source), "", error=f"{source} is not finished: {reason}; run again")
    write_ledger(root, ledger)
    return ledger


def unfinished(ledger: Ledger) -> bool:
    """Whether it is one of `leave`."""
    return not ledger.stamp


def too_many(max_errors: int, last: str) -> LoopyError:
    """What ends a run that fails again and again."""
    return LoopyError(
        f"more than {max_errors} videos failed, the last one with: {last}; what is finished is "
        "kept; see to it, or allow more by max_errors, and run the command again"
    )


def _here(make: MakePreparer, videos: Sequence[Source]) -> Iterator[Ledger]:
    preparer = make()
    yield from (_attempt(preparer, video) for video in videos)


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


def _attempt(preparer: Preparer, video: Source) -> Ledger:
    try:
        return preparer(video)
    except OF_THE_RUN:
        raise
    except Exception as error:
        return leave(preparer.root, video, str(unforeseen(error)))


_built: list[Preparer] = []
"""The one preparer of a process of the pool."""


def _build(make: MakePreparer, parent: int) -> None:
    import torch

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
    return _attempt(_built[0], video)
