"""Who calls the preparer: one process, or several. Engines only schedule; files carry the state."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from loopy.errors import LoopyError
from loopy.preprocess.ledger import Ledger
from loopy.preprocess.prepare import Preparer
from loopy.preprocess.remote_videos import Source

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
    make: MakePreparer, videos: Sequence[Source], *, workers: int = 0
) -> Iterator[Ledger]:
    """Prepares videos, in any order.

    Args:
        make: Builds the preparer, once in each process.
        videos: The files.
        workers: Processes, of one thread each; 0 works in this one.

    Yields:
        The ledger of each video as it is finished.

    Raises:
        LoopyError: What concerns the whole run, and a process that died.
    """
    if not workers:
        preparer = make()
        yield from map(preparer, videos)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_build, initargs=(make,)
    ) as pool:
        try:
            for future in as_completed([pool.submit(_prepare, video) for video in videos]):
                yield future.result()
        except BrokenProcessPool as error:
            raise LoopyError(
                "a process died: it could not build its networks, or memory ran out; use fewer "
                "workers and run the command again: what is finished is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_built: list[Preparer] = []
"""The one preparer of a process of the pool."""


def _build(make: MakePreparer) -> None:
    import torch

    torch.set_num_threads(1)
    _built.append(make())


def _prepare(video: Source) -> Ledger:
    return _built[0](video)
