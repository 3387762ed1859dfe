"""What was seen in a video, kept on disk, so that an evaluation goes on where it stopped."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from loopy.data.media.finished import content_hash
from loopy.data.media.video_pictures import READING
from loopy.drafts import existing_folder
from loopy.errors import MetricError
from loopy.evaluation.features.extract import Film, Look, look
from loopy.evaluation.features.networks import Equipment
from loopy.tensor_file import save_tensors


def looked_at(film: Film, equipment: Equipment, kept: Path) -> Look:
    """What is seen in a video: read from disk where the same was seen by the same, else seen now.

    Args:
        film: The video.
        equipment: Who looks.
        kept: Where it is kept.

    Raises:
        MediaError: The video cannot be read.
        OutputError: It cannot be kept.
    """
    portrait = b"" if film.given is None else film.given.contiguous().numpy().tobytes()
    stamp = {
        "video": content_hash(film.path, "video"),
        "portrait": hashlib.sha256(portrait).hexdigest(),
        "equipment": equipment.key(),
        "reading": READING,
    }
    if (before := _read(kept, stamp)) is not None:
        return before
    existing_folder(kept.parent)
    fresh = look(film, equipment.lookers, equipment.later)
    about = {**stamp, "problems": json.dumps(dict(fresh.problems))}
    save_tensors(kept, fresh.seen, about)
    return fresh


def _read(kept: Path, stamp: dict[str, str]) -> Look | None:
    """None where nothing is kept, it is damaged, or of something else."""
    try:
        with safe_open(kept, framework="pt") as file:
            about = file.metadata() or {}
            if any(about.get(name) != value for name, value in stamp.items()):
                return None
            seen = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            return Look(seen, json.loads(about["problems"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def kept_tensor(kept: Path, name: str) -> Tensor:
    """One tensor of what was seen.

    Raises:
        MetricError: Nobody has seen it; the reason is in the message.
    """
    with safe_open(kept, framework="pt") as file:
        if name in file.keys():  # noqa: SIM118 (no dict)
            return file.get_tensor(name)
        problems = json.loads((file.metadata() or {})["problems"])
    raise MetricError(problems.get(name, f"{name} was not looked at"))
