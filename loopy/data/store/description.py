"""store.json: what every shot of a store has in common, and so how much disk they take."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch

from loopy.data.store.shot_file import SCHEMA, check_schema, naming
from loopy.data.store.storage import read_file
from loopy.drafts import existing_folder, writing
from loopy.errors import ConfigurationError, OutputError, StoreError
from loopy.motion.sequence import POINTS
from loopy.paths import AnyPath
from loopy.timing import FPS
from loopy.typed_values import plain_values, record_of

NAME = "store.json"
LARGEST_SHARE = 0.8
CHECKSUM_BYTES = 4
TRACK = {
    "points": (torch.float32, (POINTS, 2)),
    "pose": (torch.float32, (3,)),
    "valid": (torch.bool, (POINTS,)),
}
"""Type and shape of what each frame has of the face track."""


@dataclass(frozen=True)
class StoreDescription:
    """What is stored of each frame, and what made it.

    Args:
        size_px: Side of the crop that was encoded, and that points are measured in.
        latent_shape: Channels, height and width of the latents of a frame.
        audio_shape: Layers and width of the audio encoder.
        audio_rate_hz: Rows of audio a second: 25 (pairs averaged) or 50 (as the encoder gives).
        log_variance: The posterior's log-variance is kept beside its mean.
        mirrored: Latents of the mirrored pictures are kept too.
        models: Name -> fingerprint of the weights that made it.
        config: Options of preprocessing; anything that JSON can say.

    Raises:
        ConfigurationError: Another audio rate than 25 or 50, or sizes below 1.
    """

    size_px: int
    latent_shape: tuple[int, int, int]
    audio_shape: tuple[int, int]
    audio_rate_hz: int = 25
    log_variance: bool = False
    mirrored: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no reader could place in time."""
        if self.audio_rate_hz not in (self.fps, 2 * self.fps):
            raise ConfigurationError(f"audio_rate_hz is 25 or 50, got {self.audio_rate_hz}")
        sizes = (self.size_px, *self.latent_shape, *self.audio_shape)
        if min(sizes) < 1:
            raise ConfigurationError(f"sizes are 1 or more, got {sizes}")

    @property
    def fps(self) -> int:
        """Rows of all other tensors a second: always 25."""
        return int(FPS)

    def tensors(self, frames: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Name -> type and shape of what each shot of so many frames holds."""
        latents = (torch.float16, (frames, *self.latent_shape))
        rows = frames * self.audio_rate_hz // self.fps
        return (
            {"latents": latents, "audio": (torch.float16, (rows, *self.audio_shape))}
            | ({"log_variance": latents} if self.log_variance else {})
            | ({"latents_mirrored": latents} if self.mirrored else {})
            | {name: (dtype, (frames, *shape)) for name, (dtype, shape) in TRACK.items()}
        )

    def to_json(self) -> dict[str, Any]:
        """The content of store.json."""
        latents = "mean of the posterior, scaled as the autoencoder says, float16"
        plain = {"schema": SCHEMA, "fps": self.fps, "latents": latents} | asdict(self)
        return json.loads(json.dumps(plain))

    @classmethod
    def from_json(cls, text: bytes | str) -> "StoreDescription":
        """What `to_json` gave; no description, or one of another schema, is a StoreError."""
        try:
            content: dict[str, Any] = plain_values(text)
            check_schema(content.pop("schema"))
            del content["fps"], content["latents"]  # said for other readers
            return record_of(cls, content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"it describes no shot store ({error}); preprocess again") from error


def create_store(root: AnyPath, description: StoreDescription) -> None:
    """Makes the folder of a store and its store.json; a store of the same kind is left as it is.

    One of another kind is a ConfigurationError.
    """
    path = Path(root) / NAME
    if path.exists():
        there, new = load_description(root).to_json(), description.to_json()
        if other := [name for name in new if there[name] != new[name]]:
            raise ConfigurationError(
                f"{root} is a shot store with other {', '.join(other)}: give another folder, or "
                "the options it was made with"
            )
        return
    existing_folder(root)
    with writing(path) as hidden:
        hidden.write_text(json.dumps(description.to_json(), indent=2) + "\n")


def load_description(root: AnyPath) -> StoreDescription:
    """What a store on this disk holds; none there, or one of another schema, is a StoreError."""
    path = Path(root) / NAME
    with naming(path):
        try:
            return StoreDescription.from_json(read_file(path))
        except OSError as error:
            why = error.strerror or error
            raise StoreError(
                f"there is no shot store ({why}); make one with loopy preprocess"
            ) from error


def estimate_size(frames: int, description: StoreDescription) -> int:
    """Bytes of so many frames (90,000 an hour), without header and index (2 kB a shot)."""
    tensors = description.tensors(frames).values()
    return sum(prod(shape) * dtype.itemsize + shape[0] * CHECKSUM_BYTES for dtype, shape in tensors)


def check_space(root: AnyPath, needed_bytes: int, *, yes: bool = False) -> None:
    """Refuses, by an OutputError, more than `LARGEST_SHARE` of free space, without a yes."""
    folder = Path(root).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed_bytes > LARGEST_SHARE * free and not yes:
        raise OutputError(
            f"the shot store at {root} would take {needed_bytes / 1e9:.1f} GB of "
            f"{free / 1e9:.1f} GB free; give another disk, store less, or say --yes"
        )
