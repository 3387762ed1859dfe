"""How much disk a shot store takes, and whether it is there."""

import shutil
from math import prod
from pathlib import Path

from loopy.data.media.container import AnyPath
from loopy.data.store.description import StoreDescription
from loopy.errors import OutputError

LARGEST_SHARE = 0.8
CHECKSUM_BYTES = 4
TRACK_BYTES = (68 * 2 * 4, 68, 3 * 4)  # points, valid, pose


def estimate_size(frames: int, description: StoreDescription) -> int:
    """Bytes of a shot store, headers (about 2 kB a clip) and index (64 bytes a clip) left out.

    Args:
        frames: Frames of all clips; 90,000 an hour.
        description: What is kept of each frame.
    """
    latents = 1 + description.log_variance + description.mirrored
    audio_rows = description.audio_rate_hz // description.fps
    rows = [
        *[2 * prod(description.latent_shape)] * latents,
        *[2 * prod(description.audio_shape)] * audio_rows,
        *TRACK_BYTES,
    ]
    return frames * sum(size + CHECKSUM_BYTES for size in rows)


def check_space(root: AnyPath, needed_bytes: int, *, yes: bool = False) -> None:
    """Refuses a store that would fill the disk.

    Args:
        root: Where it shall be; need not exist yet.
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
            f"{free / 1e9:.1f} GB free; give another disk, keep less, or say --yes"
        )
