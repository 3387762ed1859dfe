"""Ray Data calls the preparer, on one machine or on many that share a file system.

    a video --decode--> pieces --encode--> files in work/ --finish--> its ledger
            a CPU task         actors with                a small task
            each               the networks

A piece weighs 50 MB at most, and Ray holds decoders back while encoders are busy. What fails comes
back as a value in its row, so that the run goes on and says why; a process that dies takes its row
with it, and the video is looked at again: files carry the state.
"""

import logging
import pickle
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from socket import gethostname
from types import ModuleType
from typing import TypedDict

import torch

from loopy.errors import ConfigurationError, DependencyError, LoopyError
from loopy.preprocess.engines import MakePreparer
from loopy.preprocess.ledger import Ledger, write_ledger
from loopy.preprocess.prepare import OF_THE_RUN, Preparer

BLOCK_BYTES = 64 * 2**20
"""Ray gathers pieces to blocks of about this size."""
ROUNDS = 3
"""Times that a video is looked at, if processes die over it."""


@dataclass(frozen=True)
class RayOptions:
    """Where Ray works, and with what.

    Args:
        address: Of a running cluster, or ``auto``; None starts Ray on this machine. All of its
            machines must see videos, models and store at the same full paths.
        encoders: Processes that hold the networks.
        gpus_each: GPUs of each of them, 0.5 for two on one; 0 computes on a CPU.
        max_errors: Videos that may fail for a reason nobody foresaw; one more ends the run.
    """

    address: str | None = None
    encoders: int = 1
    gpus_each: float = 0.0
    max_errors: int = 10


class Row(TypedDict):
    """What travels. `said` is pickled: a ledger, an error, or empty where work goes on."""

    video: str
    piece: bytes
    said: bytes


def prepare_with_ray(
    make: MakePreparer,
    videos: Sequence[Path],
    *,
    workers: int = 0,
    options: RayOptions = RayOptions(),
) -> Iterator[Ledger]:
    """Prepares videos, in any order; uses the Ray that runs in this process, if one does.

    Args:
        make: Builds the preparer, once in each process.
        videos: The files.
        workers: Cores of this machine to use; 0 uses all. Not with an address.
        options: Where Ray works, and with what.

    Yields:
        The ledger of each video as it is finished; last, those of videos that could not be, with
        the reason as their error.

    Raises:
        DependencyError: No Ray here.
        ConfigurationError: More is asked for than the machines have, or a path that they do not see.
        LoopyError: What concerns the whole run, and more errors than are allowed.
    """
    ray = _ray()
    if options.address and (lost := [path for path in videos if not path.is_absolute()]):
        raise ConfigurationError(f"{lost[0]}: other machines need full paths; give /.../{lost[0]}")
    preparer = make()
    waiting, failed = {str(video): None for video in videos}, dict[str, str]()
    with _running(ray, workers, options):
        for _ in range(ROUNDS):
            todo = [video for video in waiting if video not in failed]
            for video, said in _pass(ray, make, todo, options) if todo else ():
                if isinstance(said, Ledger):
                    if video in waiting:  # two may finish it at once
                        del waiting[video]
                        yield said
                    continue
                failed[video] = str(said)
                if isinstance(said, OF_THE_RUN):
                    raise said
                if len(failed) > options.max_errors:
                    raise _too_many(options, f"{video}: {said}") from said
    for video in waiting:
        reason = failed.get(video, "processes died over it, perhaps for want of memory")
        ledger = Ledger(video, "", error=f"{video} is not finished: {reason}; run again")
        write_ledger(preparer.root, ledger)
        yield ledger


def _pass(
    ray: ModuleType, make: MakePreparer, videos: Sequence[str], options: RayOptions
) -> Iterator[tuple[str, Ledger | Exception]]:
    """What became of videos; nothing where a process has died."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    context.max_errored_blocks = options.max_errors
    context.execution_no_progress_timeout_s = -1  # an hour of video may well be decoded for one
    given = {"make": pickle.dumps(make)}
    device = {"num_gpus": options.gpus_each} if options.gpus_each else {"num_cpus": 1}
    with ray.data.DataContext.current(context), warnings.catch_warnings():
        # retries have no other place up to Ray 2.63
        warnings.simplefilter("ignore", ray.util.annotations.RayDeprecationWarning)
        rows = (
            ray.data.from_items([{"video": v} for v in videos], override_num_blocks=len(videos))
            # done again it would not give the pieces that are encoded by now: no retries
            .flat_map(_decode, fn_kwargs=given, num_cpus=1, max_retries=0)
            .map(
                _Encoder,
                fn_constructor_kwargs=given,
                compute=ray.data.ActorPoolStrategy(size=options.encoders),
                max_task_retries=2,
                **device,
            )
            .map(
                _finish,
                fn_kwargs=given,
                compute=ray.data.TaskPoolStrategy(size=options.encoders),
                num_cpus=0,
                max_retries=2,
            )
        )
    try:
        for row in rows.iter_rows():
            if row["said"]:
                yield row["video"], pickle.loads(row["said"])
    except ray.exceptions.RayError as error:
        raise _too_many(options, "a process died, perhaps for want of memory") from error


def _decode(row: Row, *, make: bytes) -> Iterator[Row]:
    """Pieces of a video, and a row behind them, so that one without any is finished too."""
    video = row["video"]
    try:
        for piece in _preparer(make).pieces(Path(video)):
            yield Row(video=video, piece=pickle.dumps(piece, 5), said=b"")
        yield Row(video=video, piece=b"", said=b"")
    except Exception as error:
        yield _fault(video, error)


class _Encoder:
    """Holds the networks."""

    def __init__(self, *, make: bytes) -> None:
        self.make = make

    def __call__(self, row: Row) -> Row:
        video, piece, said = row["video"], row["piece"], row["said"]
        try:
            if piece:
                _preparer(self.make).encode(pickle.loads(piece))
        except Exception as error:
            return _fault(video, error)
        return Row(video=video, piece=b"", said=said)


def _finish(row: Row, *, make: bytes) -> Row:
    if row["said"]:
        return row
    try:
        ledger = _preparer(make).finish(Path(row["video"]))
    except Exception as error:
        return _fault(row["video"], error)
    return row if ledger is None else Row(video=row["video"], piece=b"", said=pickle.dumps(ledger))


@cache
def _preparer(make: bytes) -> Preparer:
    """The one preparer of a process."""
    torch.set_num_threads(1)
    preparer = pickle.loads(make)()
    if not (preparer.root / "store.json").is_file():
        raise ConfigurationError(
            f"{preparer.root}/store.json is not seen on {gethostname()}; give the full path of a "
            "folder that all machines share"
        )
    return preparer


def _fault(video: str, error: Exception) -> Row:
    """An error as a row: ours as it is, another one as its words and its place."""
    if not isinstance(error, LoopyError):
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        error = LoopyError(f"{type(error).__name__} in {where}: {error}")
    return Row(video=video, piece=b"", said=pickle.dumps(error))


def _too_many(options: RayOptions, last: str) -> LoopyError:
    return LoopyError(
        f"more than {options.max_errors} videos failed, the last one with: {last}; what is "
        "finished is kept; see to it, or allow more by max_errors, and run the command again"
    )


@contextmanager
def _running(ray: ModuleType, workers: int, options: RayOptions) -> Generator[None]:
    """Ray, quiet; shut down again if it was started here."""
    started = not ray.is_initialized()
    if started:
        if options.address is None:
            where = {"address": "local", "num_cpus": workers or None, "include_dashboard": False}
        elif workers:
            raise ConfigurationError(
                f"the cluster at {options.address} has its own cores: no workers"
            )
        else:
            where = {"address": options.address}
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(f"Ray does not start: {reason}") from error
    console = [
        h for h in logging.getLogger("ray.data").handlers if isinstance(h, logging.StreamHandler)
    ]
    levels = [handler.level for handler in console]
    try:
        for handler in console:
            handler.setLevel(logging.CRITICAL)
        _check_resources(ray.cluster_resources(), options)
        yield
    finally:
        for handler, level in zip(console, levels, strict=True):
            handler.setLevel(level)
        if started:
            ray.shutdown()


def _check_resources(found: dict[str, float], options: RayOptions) -> None:
    """Ray would wait forever for what it does not have."""
    cores, gpus = found.get("CPU", 0), found.get("GPU", 0)
    if options.encoders < 1:
        raise ConfigurationError(f"encoders={options.encoders}; give 1 or more")
    if gpus < options.encoders * options.gpus_each:
        raise ConfigurationError(
            f"{options.encoders} encoders of {options.gpus_each} GPUs, and Ray has {gpus:g} GPUs"
        )
    needed = 1 + (0 if options.gpus_each else options.encoders)
    if cores < needed:
        raise ConfigurationError(
            f"{options.encoders} encoders and a decoder need {needed} cores, and Ray has {cores:g}"
        )


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DependencyError(
            "the Ray engine needs Ray Data: pip install 'loopy-portrait[ray]'"
        ) from error
    return ray
