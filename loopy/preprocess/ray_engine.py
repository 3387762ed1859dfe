"""Ray Data calls the preparer, on one machine or on many that share a file system.

    a video --decode--> pieces --encode--> files in work/ --finish--> its ledger
            a CPU task         actors with                a small task
            each               the networks

A piece weighs 50 MB at most, and Ray holds decoders back while encoders are busy. What fails comes
back as a value in its row, so that the run goes on and says why; a process that dies takes its row
with it, and the video is looked at again: files carry the state.
"""

import pickle
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from socket import gethostname
from types import ModuleType
from typing import TypedDict

import torch

from loopy.data.store.description import NAME
from loopy.data.store.storage import is_address
from loopy.errors import ConfigurationError, LoopyError
from loopy.preprocess.engines import MakePreparer, leave, too_many, unforeseen
from loopy.preprocess.ledger import Ledger
from loopy.preprocess.prepare import OF_THE_RUN, Preparer
from loopy.preprocess.ray_cluster import RayOptions, running_ray
from loopy.preprocess.remote_videos import Source, source_of

BLOCK_BYTES = 64 * 2**20
"""Ray gathers pieces to blocks of about this size."""
ROUNDS = 2
"""Times that a video is looked at, if processes die over it."""


class Row(TypedDict):
    """What travels. `said` is pickled: a ledger, an error, or empty where work goes on."""

    video: str
    piece: bytes
    said: bytes


def prepare_with_ray(
    make: MakePreparer,
    videos: Sequence[Source],
    *,
    workers: int = 0,
    max_errors: int = 10,
    options: RayOptions = RayOptions(),  # noqa: B008 (frozen)
) -> Iterator[Ledger]:
    """Prepares videos, in any order.

    Args:
        make: Builds the preparer, once in each process.
        videos: The files.
        workers: Cores of this machine to use; 0 uses all. Not with an address.
        max_errors: Videos that may fail for a reason nobody foresaw; one more ends the run.
        options: Where Ray works, and with what.

    Yields:
        The ledger of each video as it is finished; last, those of videos that could not be, with
        the reason as their error.

    Raises:
        DependencyError: Ray is not installed.
        ConfigurationError: Ray has less than is asked for, or does not see a path.
        LoopyError: What concerns the whole run, and more errors than are allowed.
    """
    preparer = make()
    models = preparer.options.estimator_options.values()
    files = [path for path in map(str, models) if Path(path).is_file()]
    for path in (preparer.root, *videos, *files) if options.address else ():
        if not is_address(path) and not Path(path).is_absolute():
            raise ConfigurationError(f"{path}: other machines need its full path, /.../{path}")
    waiting, failed = {str(video): None for video in videos}, dict[str, str]()
    with running_ray(options, workers=workers) as ray:
        for _ in range(ROUNDS):
            todo = [video for video in waiting if video not in failed]
            for video, said in _pass(ray, make, todo, options, max_errors) if todo else ():
                if isinstance(said, OF_THE_RUN):
                    raise said
                if isinstance(said, Ledger):
                    if video in waiting:  # two may finish it at once
                        del waiting[video]
                        yield said
                    continue
                failed[video] = str(said)
                if len(failed) > max_errors:
                    raise too_many(max_errors, f"{video}: {said}") from said
    for video in waiting:
        reason = failed.get(video, "processes died over it, perhaps for want of memory")
        yield leave(preparer.root, source_of(video), reason)


def _pass(
    ray: ModuleType, make: MakePreparer, videos: Sequence[str], options: RayOptions, max_errors: int
) -> Iterator[tuple[str, Ledger | LoopyError]]:
    """What became of videos; nothing of those over which a process has died."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    context.max_errored_blocks = max_errors
    context.execution_no_progress_timeout_s = -1  # landmarks of a long video take hours
    made = {"make": pickle.dumps(make)}
    pool = ray.data.ActorPoolStrategy(size=min(options.encoders, len(videos)))
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # retries have no other place up to Ray 2.63
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        rows = ray.data.from_items([{"video": v} for v in videos], override_num_blocks=len(videos))
        # no retries: the second time it would not give the pieces that are encoded by then
        device = _device(options.decoder_gpus)
        rows = rows.flat_map(_decode, fn_kwargs=made, max_retries=0, max_calls=0, **device)
        device = _device(options.encoder_gpus)
        rows = rows.map(
            _Encoder, fn_constructor_kwargs=made, compute=pool, max_task_retries=1, **device
        )
        rows = rows.map(_finish, fn_kwargs=made, max_retries=1, num_cpus=1)
    try:
        for row in rows.iter_rows():
            if row["said"]:
                yield row["video"], pickle.loads(row["said"])
    except ray.exceptions.RayError as error:
        raise too_many(max_errors, "a process died, perhaps for want of memory") from error


def _device(gpus: float) -> dict[str, float]:
    return {"num_gpus": gpus} if gpus else {"num_cpus": 1}


def _decode(row: Row, *, make: bytes) -> Iterator[Row]:
    """Pieces of a video, and a row behind them, so that one without any is finished too."""
    video = row["video"]
    try:
        for piece in _preparer(make).pieces(source_of(video)):
            yield Row(video=video, piece=pickle.dumps(piece, 5), said=b"")
        yield Row(video=video, piece=b"", said=b"")
    except Exception as error:
        yield _fault(video, error)


class _Encoder:
    """Holds the networks."""

    def __init__(self, *, make: bytes) -> None:
        self.make = make

    def __call__(self, row: Row) -> Row:
        try:
            if row["piece"]:
                _preparer(self.make).encode(pickle.loads(row["piece"]))
        except Exception as error:
            return _given_up(self.make, row["video"], error)
        return Row(video=row["video"], piece=b"", said=row["said"])


def _finish(row: Row, *, make: bytes) -> Row:
    """The ledger, if this was the last piece of the video."""
    video = row["video"]
    try:
        ledger = None if row["said"] else _preparer(make).finish(source_of(video))
    except Exception as error:
        return _given_up(make, video, error)
    return row if ledger is None else Row(video=video, piece=b"", said=pickle.dumps(ledger))


@cache
def _preparer(make: bytes) -> Preparer:
    """The one preparer of a process."""
    torch.set_num_threads(1)
    preparer = pickle.loads(make)()
    if not (preparer.root / NAME).is_file():
        raise ConfigurationError(
            f"{preparer.root / NAME} is not seen on {gethostname()}; give the full path of a store "
            "that all machines share"
        )
    return preparer


def _fault(video: str, error: Exception) -> Row:
    return Row(video=video, piece=b"", said=pickle.dumps(unforeseen(error)))


def _given_up(make: bytes, video: str, error: Exception) -> Row:
    """What networks or store do not take is a fault of the video; all else was unforeseen."""
    if not isinstance(error, ValueError) or isinstance(error, OF_THE_RUN):
        return _fault(video, error)
    ledger = _preparer(make).give_up(source_of(video), error)
    return Row(video=video, piece=b"", said=pickle.dumps(ledger))
