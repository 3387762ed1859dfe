"""What calls the preparer: this process, several processes, or Ray. The store carries the state."""

import logging
import os
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from socket import gethostname
from threading import Thread
from types import ModuleType
from typing import Any

import torch

from loopy.data.store.description import NAME
from loopy.data.store.storage import is_address
from loopy.errors import ConfigurationError, DependencyError, LoopyError
from loopy.preprocess.ledger import Ledger
from loopy.preprocess.prepare import MakePreparer, Preparer
from loopy.preprocess.remote_videos import Source
from loopy.stopping import Stopped, raise_stopped


@dataclass(frozen=True)
class RayOptions:
    """Where Ray works, and with what.

    Args:
        address: Of a running cluster, or ``auto``; None starts Ray on this machine. All of its
            machines must see videos, models and store at the same full paths.
        encoders: Processes, each of which prepares one video at a time; 0: as many as there are
            GPUs for, or cores.
        encoder_gpus: GPUs of each of them, 0.25 for four on one; 0 computes on a core.
    """

    address: str | None = None
    encoders: int = 0
    encoder_gpus: float = 0.0

    def __post_init__(self) -> None:
        """Refuses, by a ConfigurationError, less than nothing."""
        if min(self.encoders, self.encoder_gpus) < 0:
            raise ConfigurationError(f"encoders and encoder_gpus are 0 or more, got {self}")


def part_of(videos: Sequence[Source], part: str) -> list[Source]:
    """Share ``i/n`` of a list, i from 0, for n jobs; another form is a ConfigurationError."""
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
    """Prepares videos, in any order; yields the ledger of each as it is finished.

    Args:
        make: Builds the preparer, once in each process.
        videos: The files.
        workers: Processes, of one thread each; 0 works in this one. With Ray, cores to use.
        max_errors: Videos that may fail for an unforeseen reason; one more ends the run.
        ray: Where Ray works, and with what; None works without it.

    Raises:
        LoopyError: What concerns the whole run, more errors than are allowed, and a process of
            ours that died.
    """
    if ray is not None:
        ledgers = _by_ray(make, videos, workers, ray)
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


def _by_ray(
    make: MakePreparer, videos: Sequence[Source], workers: int, options: RayOptions
) -> Iterator[Ledger]:
    """One actor a GPU, or a core, prepares whole videos; only names and ledgers travel."""
    preparer, waiting = make(), list(videos)
    models = preparer.options.estimator_options.values()
    files = [path for path in map(str, models) if Path(path).is_file()]
    for path in (preparer.root, *videos, *files) if options.address else ():
        if not is_address(path) and not Path(path).is_absolute():
            raise ConfigurationError(f"{path}: other machines need its full path, /.../{path}")
    with _running_ray(options, workers) as ray:
        gpus = options.encoder_gpus
        needs = {"num_gpus": gpus} if gpus else {"num_cpus": 1}
        actor_class = ray.remote(max_restarts=-1, max_task_retries=1, **needs)(_Actor)
        count = min(_number_of_actors(ray.cluster_resources(), options), len(videos))
        actors = [actor_class.remote(make) for _ in range(count)]
        idle, running = list(actors), dict[Any, Any]()
        try:
            while waiting or running:
                while waiting and idle:
                    actor, video = idle.pop(), waiting.pop(0)
                    running[actor.prepare.remote(video)] = actor, video
                (task,), _ = ray.wait(list(running))
                actor, video = running.pop(task)
                idle.append(actor)
                try:
                    yield ray.get(task)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError:
                    reason = "processes died over it, perhaps for want of memory"
                    yield preparer.record_failure(video, reason)
        finally:
            for actor in actors:
                ray.kill(actor)


class _Actor:
    """A process with its own networks."""

    def __init__(self, make: MakePreparer) -> None:
        self._make, self._preparer = make, None

    def prepare(self, video: Source) -> Ledger:
        if self._preparer is None:
            torch.set_num_threads(1)
            self._preparer = self._make()
            store = self._preparer.root / NAME
            if not store.is_file():
                raise ConfigurationError(
                    f"{store} is not seen on {gethostname()}; give the full path of a store that "
                    "all machines share"
                )
        return self._preparer(video)


@contextmanager
def _running_ray(options: RayOptions, workers: int) -> Generator[ModuleType]:
    """Ray: the one that runs in this process already, or one that is started or joined for now."""
    if options.address and workers:
        raise ConfigurationError(f"workers={workers} are of this machine; not with an address")
    try:
        import ray
    except ImportError as error:
        raise DependencyError("the engine needs Ray: pip install 'loopy-portrait[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    where: dict[str, Any] = {"address": options.address}
    if options.address is None:
        where = {"address": "local", "num_cpus": workers or None, "include_dashboard": False}
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"Ray does not start: {reason}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _number_of_actors(found: dict[str, float], options: RayOptions) -> int:
    """As asked for, or as many as fit; Ray would wait without end for more."""
    kind, each = ("GPU", options.encoder_gpus) if options.encoder_gpus else ("CPU", 1)
    most = int(found.get(kind, 0)) * int(1 / each) if each <= 1 else int(found.get(kind, 0) / each)
    if not 1 <= (count := options.encoders or most) <= most:
        raise ConfigurationError(
            f"{max(count, 1)} encoders take {max(count, 1) * each:g} {kind}s, and Ray has "
            f"{found.get(kind, 0):g}; ask for fewer"
        )
    return count
