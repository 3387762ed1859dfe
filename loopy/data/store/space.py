"""How much disk a shot store takes, and whether it is there."""

import shutil
from math import prod
from pathlib import Path

from loopy.data.media.container import AnyPath
from loopy.data.store.description import StoreDescription
from loopy.errors import OutputError

LARGEST_SHARE = 0.8
CHECKSUM_BYTES = 4


def estimate_size(frames: int, description: StoreDescription) -> int:
    """Bytes of a shot store, headers (about 2 kB a shot) and index (64 bytes a shot) left out.

    Args:
        frames: Frames of all shots; 90,000 an hour.
        description: What is stored of each frame.
    """
    tensors = description.tensors(frames).values()
    return sum(prod(shape) * dtype.itemsize + shape[0] * CHECKSUM_BYTES for dtype, shape in tensors)


def check_space(root: AnyPath, needed_bytes: int, *, yes: bool = False) -> None:
    """Refuses a store that would fill the disk.

    Args:
        root: Where it will be; need not exist yet.
        needed_bytes: See `estimate_size`.
        yes: The user has been asked, and wants it.

    Raises:
        OutputError: It would take more than `LARGEST_SHARE` of what is free.
    """
    folder = Path(root).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed_bytes > LARGEST_SHARE * free and not yes:
        raise OutputError(
            f"the shot store at {root} would take {needed_bytes / 1e9:.1f} GB of "
            f"{free / 1e9:.1f} GB free; give another disk, store less, or say --yes"
        )
