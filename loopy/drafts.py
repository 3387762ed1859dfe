"""Results under a hidden name until they are whole; what killed processes leave is found again.

A draft is called ``.loopy-<kernel>-<random>.<suffix>``. The process that fills it holds a lock on
it (flock), which ends with the process: a draft that nobody holds is dead. Locks are seen by all
processes of one kernel, containers too; a draft of another one, which may share the folder over
a network, is taken for dead an hour after it was last written.
"""

import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from loopy.errors import OutputError
from loopy.paths import AnyPath, path_of

try:
    import fcntl
except ImportError:  # Windows: there age alone decides
    fcntl = None

MARK = re.compile(r"\.loopy-([0-9a-f]{8})-[0-9a-f]{32}(\.|$)")
OLD_S = 3600.0


@contextmanager
def draft(path: AnyPath, *, folder: bool = False, replace: bool = False) -> Iterator[Path]:
    """A hidden name in the same folder, which takes the place of ``path`` after the block.

    An exception in the block removes it and leaves what was there before.

    Args:
        path: Where the result shall be.
        folder: It is a new or empty folder, else a file.
        replace: The folder may also be one that is there and not empty.

    Yields:
        An empty folder or file to fill.

    Raises:
        OutputError: No such folder, something in the way, or no permission.
    """
    check_output_name(path)
    path = Path(path)
    if folder and path.is_symlink():  # the link stays, and what it leads to is filled
        path = path.resolve()
    check_place(path, folder=folder, replace=replace)
    with hidden_beside(path, folder=folder) as hidden:
        yield hidden
        with output_errors(path):
            if not folder:
                with hidden.open("rb") as file:
                    os.fsync(file.fileno())  # else a power cut may leave the name without content
                os.replace(hidden, path)
            else:
                _put_folder(hidden, path)


@contextmanager
def writing(path: AnyPath) -> Iterator[Path]:
    """A `draft` of a file for a block that does nothing but write it.

    Yields:
        The file to write.

    Raises:
        OutputError: As of `draft`, and the disk refuses what is written.
    """
    with draft(path) as hidden, output_errors(Path(path)):
        yield hidden


def existing_folder(path: AnyPath) -> Path:
    """A folder that is there now, with those above it.

    Raises:
        OutputError: It cannot be.
    """
    with output_errors(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


def folder_of_results(path: AnyPath) -> Path:
    """An `existing_folder` without what killed processes have left in it."""
    folder = existing_folder(path)
    remove_dead_drafts(folder)
    return folder


@contextmanager
def hidden_beside(path: AnyPath, *, folder: bool = False) -> Iterator[Path]:
    """A draft that takes nobody's place; what of it is there after the block is deleted.

    Args:
        path: In whose folder, and of whose suffix.
        folder: It is a folder, else a file.

    Yields:
        An empty folder or file.

    Raises:
        OutputError: It cannot be made.
    """
    with ExitStack() as stack:
        with output_errors(path):
            hidden = _begun(Path(path), stack, folder=folder)
        stack.callback(_remove, hidden)
        yield hidden


def check_place(path: AnyPath, *, folder: bool = False, replace: bool = False) -> None:
    """Makes sure that a result can be at a place; arguments as of `draft`.

    Raises:
        OutputError: No such name or folder, or something is in the way.
    """
    check_output_name(path)
    path = Path(path)
    with output_errors(path):
        if not path.parent.is_dir():
            raise OutputError(f"{path}: folder {path.parent} does not exist; make it first")
        empty = path.is_dir() and (replace or not any(path.iterdir()))
        if folder and path.exists() and not empty:
            raise OutputError(f"{path} is there and not an empty folder; give another name")
        if not folder and path.is_dir():
            raise OutputError(f"{path} is a folder; give another name")
        if folder and os.path.ismount(path):
            raise OutputError(f"{path} is where a disk is mounted; name a new folder inside it")
        if path.exists() and not (path.is_dir() or path.is_file()):
            raise OutputError(f"{path} is neither a file nor a folder; give another name")


def check_output_name(path: AnyPath, word: str = "result") -> None:
    """Makes sure that a result can have this name.

    Raises:
        OutputError: It is no path, the current folder, the root, or a name with a NUL byte.
    """
    if not has_name(path_of(path, OutputError)):
        raise OutputError(
            f"{word} {str(path)!r} is no name of a file; give one, for example out.mp4"
        )


def has_name(path: AnyPath) -> bool:
    """Whether a result can have this name; see `check_output_name`."""
    return Path(path).name not in ("", "..") and "\0" not in os.fspath(path)


def remove_dead_drafts(
    *folders: AnyPath, older_than_s: float = OLD_S, others: re.Pattern[str] | None = None
) -> int:
    """Deletes what killed processes left half written, straight in these folders.

    Args:
        folders: They need not be there.
        older_than_s: Of what no lock can tell about, younger drafts are spared.
        others: Names of hidden files without a lock that are drafts too.

    Returns:
        How many were deleted.
    """
    removed = 0
    for folder in {Path(each) for each in folders}:
        with suppress(OSError):
            for path in [each for each in folder.iterdir() if each.name.startswith(".")]:
                mark = MARK.match(path.name)
                if mark or (others is not None and others.match(path.name)):
                    ours = mark is not None and mark[1] == _kernel()
                    removed += _removed_if_dead(path, older_than_s, locks=ours)
    return removed


def _removed_if_dead(path: Path, older_than_s: float, *, locks: bool) -> bool:
    with suppress(OSError), _locked(path) as locked:  # else it is gone, or somebody holds it
        if not (locked and locks):
            inside = path.rglob("*") if path.is_dir() else ()
            latest = max(each.stat().st_mtime for each in (path, *inside))
            if latest > time.time() - older_than_s:
                return False
        _remove(path)
        return True
    return False


def _begun(path: Path, stack: ExitStack, *, folder: bool) -> Path:
    """A draft that is there, locked for as long as the stack."""
    while True:
        hidden = path.with_name(f".loopy-{_kernel()}-{uuid4().hex}{path.suffix}")
        hidden.mkdir() if folder else hidden.touch(exist_ok=False)
        with suppress(BlockingIOError, FileNotFoundError):  # taken for dead before it was locked
            stack.enter_context(_locked(hidden))
            if hidden.exists():
                return hidden


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Holds a lock on a file or folder in the block, and says whether there are locks.

    Raises:
        OSError: The file is gone, or (BlockingIOError) another process holds it.
    """
    if fcntl is None:
        yield False
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks
            yield False
        else:
            yield True
    finally:
        os.close(number)


@cache
def _kernel() -> str:
    """Eight letters for those whose locks we see: a new one at each start of the machine."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _put_folder(hidden: Path, path: Path) -> None:
    """Puts a folder into its place; what was there goes once it is."""
    before = hidden.with_name(f".loopy-{_kernel()}-{uuid4().hex}")
    if path.is_dir():  # a file that has appeared there meanwhile stays, and is an error
        os.replace(path, before)
    try:
        os.replace(hidden, path)
    except OSError:
        if before.exists():
            os.replace(before, path)
        raise
    _remove(before)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def output_errors(path: AnyPath, *kinds: type[Exception]) -> Iterator[None]:
    """Turns what the disk refuses, and errors of these kinds, into an OutputError."""
    try:
        yield
    except (OSError, *kinds) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{path} cannot be written ({reason}); check permission and free space"
        ) from error
