"""The index of a store in a bucket, copied once to this disk, so that it can be mapped."""

import os
import shutil
from pathlib import Path

from loopy.data.media.container import AnyPath
from loopy.data.store.index import BUILD, COLUMNS, CURRENT, FOLDER, TYPES, Index, build_named
from loopy.data.store.shot_file import naming
from loopy.data.store.storage import Bucket
from loopy.drafts import draft
from loopy.errors import OutputError

MOST_BUILDS = 8


def fetch_index(place: Bucket, cache: AnyPath | None) -> Index:
    """The current index of a bucket, from the cache where it is there already.

    A build is named by its content, so stores and processes can share the folder.

    Args:
        place: The bucket.
        cache: Folder for indices, of which the last `MOST_BUILDS` used are kept; None takes the
            user's cache folder.

    Raises:
        StoreError: The store has no index, or it was damaged on the way.
        OutputError: The cache cannot be written.
    """
    default = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache or Path(default) / "loopy" / "index")
    with naming(f"{place.root}/{FOLDER}/{CURRENT}"):
        build = build_named(place.whole(f"{FOLDER}/{CURRENT}"))
    copy = folder / build
    if not copy.exists():
        _copy(place, build, copy)
    os.utime(copy)
    builds = [path for path in folder.glob("*/") if BUILD.fullmatch(path.name)]  # no other folder
    builds.sort(key=lambda path: path.stat().st_mtime)
    for old in builds[:-MOST_BUILDS]:
        shutil.rmtree(old, ignore_errors=True)
    return Index(copy)


def _copy(place: Bucket, build: str, copy: Path) -> None:
    """All or nothing; another process may be quicker, with the same bytes."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with draft(copy, folder=True) as hidden:
            for name in [COLUMNS, *(f"{column}.npy" for column in TYPES)]:
                with naming(f"{place.root}/{FOLDER}/{build}/{name}"):
                    (hidden / name).write_bytes(place.whole(f"{FOLDER}/{build}/{name}"))
            Index(hidden).verify()
    except OSError as error:
        raise OutputError(f"{copy.parent} cannot be written: {error.strerror}") from error
    except OutputError:
        if not (copy / COLUMNS).exists():
            raise
