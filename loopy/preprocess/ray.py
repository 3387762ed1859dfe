"""Ray calls the preparer, on one machine or on many that share a file system.

One actor a GPU, or a core, prepares whole videos; only names and ledgers travel.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from types import ModuleType
from typing import Any

import torch

from loopy.data.store.description import NAME
from loopy.data.store.storage import is_address
from loopy.errors import ConfigurationError, DependencyError
from loopy.preprocess.ledger import Ledger
from loopy.preprocess.prepare import MakePreparer
from loopy.preprocess.remote_videos import Source


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
        """Refuses what means nothing.

        Raises:
            ConfigurationError: Less than nothing.
        """
        if min(self.encoders, self.encoder_gpus) < 0:
            raise ConfigurationError(f"encoders and encoder_gpus are 0 or more, got {self}")


def prepare_by_ray(
    make: MakePreparer, videos: Sequence[Source], *, workers: int, options: RayOptions
) -> Iterator[Ledger]:
    """Prepares videos; arguments and errors as of `loopy.preprocess.engines.prepare_all`.

    Yields:
        The ledger of each video as it is finished, or could not be.
    """
    preparer, waiting = make(), list(videos)
    models = preparer.options.estimator_options.values()
    files = [path for path in map(str, models) if Path(path).is_file()]
    for path in (preparer.root, *videos, *files) if options.address else ():
        if not is_address(path) and not Path(path).is_absolute():
            raise ConfigurationError(f"{path}: other machines need its full path, /.../{path}")
    with _running_ray(options, workers=workers) as ray:
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
def _running_ray(options: RayOptions, *, workers: int) -> Generator[ModuleType]:
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
