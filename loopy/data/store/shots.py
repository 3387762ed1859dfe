"""One shot for the store: what it holds, what it is called, and how it gets to the disk."""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from loopy.data.store.description import TRACK, load_description
from loopy.data.store.shot_file import write_shot_file
from loopy.drafts import existing_folder, output_errors, writing
from loopy.errors import ConfigurationError, LoopyError, StoreError
from loopy.motion import MotionSequence
from loopy.motion.measures import expression_variance, head_motion_variance
from loopy.paths import AnyPath

ID_LETTERS = 32
ID = re.compile(f"[0-9a-f]{{{ID_LETTERS}}}")


@dataclass(frozen=True)
class Provenance:
    """Where a shot comes from.

    Args:
        source: Path or address of the video.
        source_hash: SHA-256 of its bytes, hexadecimal.
        start_s: First moment of the shot on the clock of the video.
        stop_s: The moment after its last one.
        crop_px: Square cut out of the upright picture: left, top, right, bottom.
        source_fps: Frames a second of the video, on average.
        identity: Who is seen. All shots of one identity are in the same split, so where people
            have no names the video's hash stands here.
        notes: Anything else that JSON can say.
    """

    source: str
    source_hash: str
    start_s: float
    stop_s: float
    crop_px: tuple[float, float, float, float]
    source_fps: float
    identity: str
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ShotRecord:
    """A shot as the store holds it: 25 frames a second, one row a frame.

    Args:
        id: Its name; see `shot_id`.
        latents: Posterior means of the picture autoencoder, scaled.
        audio: All layers of the audio encoder: `s` is `f`, or 2 `f` in a store of 50 Hz.
        motion: Face track in pixels of the crop.
        provenance: Where it comes from.
        log_variance: Of the posterior, in a store that keeps it.
        latents_mirrored: Latents of the mirrored pictures, in a store that keeps them.

    Raises:
        LoopyError: An id that is no file name, no frames, fields that disagree in length, or
            numbers that are not finite in 16 bits.
    """

    id: str
    latents: Float[Tensor, "f c h w"]
    audio: Float[Tensor, "s k d"]
    motion: MotionSequence
    provenance: Provenance
    log_variance: Float[Tensor, "f c h w"] | None = None
    latents_mirrored: Float[Tensor, "f c h w"] | None = None

    def __post_init__(self) -> None:
        """Refuses what could not be read back."""
        checked_id(self.id)
        frames = len(self.motion)
        for name, tensor in self.tensors().items():
            allowed = (frames, 2 * frames) if name == "audio" else (frames,)
            if frames == 0 or len(tensor) not in allowed:
                raise LoopyError(f"shot {self.id}: {len(tensor)} rows of {name}, {frames} frames")
            if name != "points" and not tensor.isfinite().all():
                raise LoopyError(f"shot {self.id}: {name} is not finite in {tensor.dtype}")
        if not self.motion.points[self.motion.valid].isfinite().all():
            raise LoopyError(f"shot {self.id}: a valid point is not finite")

    def tensors(self) -> dict[str, Tensor]:
        """Name in the file -> rows, in the types of the file."""
        names = ("latents", "audio", "log_variance", "latents_mirrored")
        narrow = {name: getattr(self, name) for name in names}
        return (
            {"points": self.motion.points.float(), "pose": self.motion.pose.float()}
            | {name: tensor.half() for name, tensor in narrow.items() if tensor is not None}
            | {"valid": self.motion.valid}
        )

    def about(self) -> dict[str, Any]:
        """What the header of the file says, and the index is made from; unknown measures None."""
        known = {"id": self.id, "frames": len(self.motion), "provenance": asdict(self.provenance)}
        head, expression = head_motion_variance(self.motion), expression_variance(self.motion)
        measures = {"head_motion": head.item(), "expression": expression.item()}
        return known | {n: None if math.isnan(value) else value for n, value in measures.items()}


def shot_id(source_hash: str, start_s: float, stop_s: float, config: Mapping[str, Any]) -> str:
    """The name of a shot: a hash of video, span and everything that shaped the result.

    See `Provenance`; `config` is all options of preprocessing and fingerprints of the models.
    """
    key = json.dumps([source_hash, float(start_s), float(stop_s), config], sort_keys=True)
    return sha256(key.encode()).hexdigest()[:ID_LETTERS]


def checked_id(name: object) -> str:
    """The id of a shot, from anywhere; what is none, a path for example, is a StoreError."""
    if not isinstance(name, str) or ID.fullmatch(name) is None:
        raise StoreError(f"a shot's id is {ID_LETTERS} hexadecimal digits, got {name!r:.80}")
    return name


def shot_path(name: str) -> str:
    """Path of a shot in its store, by its id; what is none is a StoreError."""
    return f"clips/{checked_id(name)[:2]}/{name}.safetensors"


def write_shot(root: AnyPath, record: ShotRecord) -> Path:
    """Adds a shot to a store made by `create_store`; the same one written before is replaced.

    It is there whole or not at all, and the index knows it after the next `build_index`.

    Raises:
        StoreError: There is no store.
        ConfigurationError: The shot is not of the kind that the store holds.
        OutputError: The disk is full or refuses. Nothing is left over.
    """
    description = load_description(root)
    kinds = description.tensors(len(record.motion)).items()
    expected = {name: shape for name, (_, shape) in kinds if name not in TRACK}
    tensors = record.tensors()
    found = {name: tuple(each.shape) for name, each in tensors.items() if name not in TRACK}
    if found != expected or record.motion.size_px != description.size_px:
        raise ConfigurationError(
            f"shot {record.id} has {found} and points at {record.motion.size_px} px; the store "
            f"{root} holds {expected} and points at {description.size_px} px"
        )
    path = Path(root) / shot_path(record.id)
    existing_folder(path.parent)
    with writing(path) as hidden:
        write_shot_file(hidden, tensors, record.about())
    with output_errors(path):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the disk knows the new name: else a power cut may lose the shot
        finally:
            os.close(folder)
    return path
