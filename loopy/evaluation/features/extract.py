"""A video to features: one pass over its frames for all extractors, in memory that stays flat.

Extractors that crop by landmarks share a second pass: where the face is in a frame depends on
later frames too. An extractor that fails says why; the others go on. Features are cached on disk,
so that an evaluation resumes where it stopped.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from loopy.data.media.finished import content_hash
from loopy.data.media.sound import read_audio
from loopy.data.media.video_pictures import READING
from loopy.data.media.video_reader import in_parts, iterate_frames
from loopy.drafts import existing_folder
from loopy.errors import LoopyError, MetricError
from loopy.metrics.video_features import SEGMENT
from loopy.tensor_file import save_tensors
from loopy.timing import FPS, SAMPLE_RATE_HZ

PART, PART_BYTES = 64, 2**29
"""Frames in memory at a time (whole segments of 16, and an even number), and their most bytes: 64
frames of 1920 x 1080; of larger ones 48, 32 or 16."""


@dataclass(frozen=True, eq=False)
class VideoInput:
    """A video of 25 frames a second, and the portrait that it was made from, if there is one."""

    path: Path
    portrait: UInt8[Tensor, "h w 3"] | None = None

    def parts(self) -> Iterator[UInt8[Tensor, "_n h w 3"]]:
        """Its frames, `PART` at a time, of large ones fewer."""
        frames = iterate_frames(self.path)
        return in_parts(frames, most=PART, most_bytes=PART_BYTES, multiple=SEGMENT)

    @cached_property
    def sound(self) -> Float[Tensor, " samples"]:
        """Its sound."""
        return read_audio(self.path, zero="pictures")

    def sound_of(self, frames: int) -> Float[Tensor, " samples"]:
        """The sound of its first frames; silence for what a codec has cut from the end."""
        length = frames * SAMPLE_RATE_HZ // int(FPS)
        samples = self.sound[:length]
        return functional.pad(samples, (0, length - len(samples)))

    def given_portrait(self) -> UInt8[Tensor, "h w 3"]:
        """The portrait.

        Raises:
            MetricError: There is none.
        """
        if self.portrait is None:
            raise MetricError("needs --real: the portrait is the first frame of the real video")
        return self.portrait


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """The features of a video ("size": frames, height and width), and why others are missing."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Tensor:
        """A tensor.

        Raises:
            MetricError: It is missing.
        """
        if name not in self.tensors:
            raise MetricError(self.problems.get(name, f"{name} was not extracted"))
        return self.tensors[name]

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Records why a feature fails, so that the others can go on."""
        try:
            yield
        except LoopyError as error:
            self.problems[name] = str(error)


class Extractor(Protocol):
    """Computes one feature of one video."""

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        """Takes the next frames: whole segments of 16, but at the end."""
        ...

    def compute(self) -> Tensor:
        """The feature."""
        ...


Start = Callable[[VideoInput, VideoFeatures], Extractor]
"""A new extractor for a video, of which some features may be known."""
Derive = Callable[[VideoInput, VideoFeatures], Tensor]
"""A feature out of others, without frames."""


@dataclass(frozen=True, eq=False)
class ExtractorSet:
    """All extractors of an evaluation, by the feature's name.

    `first` need frames alone, `second` features of the first pass; `derived` come out of others,
    `missing` says what features need that nothing computes. `record` is all that decides the
    features: hashes of networks and versions of code.
    """

    first: Mapping[str, Start]
    second: Mapping[str, Start] = field(default_factory=dict)
    derived: Mapping[str, Derive] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """A hash of the record."""
        return hashlib.sha256(repr(sorted(self.record.items())).encode()).hexdigest()

    def __or__(self, more: "ExtractorSet") -> "ExtractorSet":
        """Both together."""
        return ExtractorSet(*({**vars(self)[f.name], **vars(more)[f.name]} for f in fields(self)))

    def extract(self, video: VideoInput) -> VideoFeatures:
        """The features of a video.

        Raises:
            MediaError: The video cannot be read, or is empty.
        """
        features = VideoFeatures()
        for starts in ({"size": lambda *_: _FrameSize(), **self.first}, self.second):
            running = dict[str, Extractor]()
            for name, start in starts.items():
                with features.noting(name):
                    running[name] = start(video, features)
            if running:
                run_extractors(running, video.parts(), features)
        for name, derive in self.derived.items():
            with features.noting(name):
                features.tensors[name] = derive(video, features)
        return features


def run_extractors(
    extractors: Mapping[str, Extractor],
    parts: Iterable[UInt8[Tensor, "_n h w 3"]],
    features: VideoFeatures,
) -> None:
    """Runs extractors, by the feature's name, over the frames of a video; fills `features`."""
    for part in parts:
        for name, extractor in extractors.items():
            if name not in features.problems:
                with features.noting(name):
                    extractor.update(part)
    for name, extractor in extractors.items():
        if name not in features.problems:
            with features.noting(name):
                features.tensors[name] = extractor.compute()


class _FrameSize:
    """Frames, height and width of a video."""

    def __init__(self) -> None:
        self._size = [0, 0, 0]

    def update(self, frames: UInt8[Tensor, "n h w 3"]) -> None:
        self._size = [self._size[0] + len(frames), *frames.shape[1:3]]

    def compute(self) -> Tensor:
        return torch.tensor(self._size)


def cached_features(video: VideoInput, extractors: ExtractorSet, path: Path) -> VideoFeatures:
    """The features of a video, from a file if the same extractors have left them there.

    Raises:
        MediaError: The video cannot be read.
        OutputError: The file cannot be written.
    """
    portrait = b"" if video.portrait is None else video.portrait.contiguous().numpy().tobytes()
    stamp = {
        "video": content_hash(video.path, "video"),
        "portrait": hashlib.sha256(portrait).hexdigest(),
        "extractors": extractors.key(),
        "reading": READING,
    }
    if (cached := _read(path, stamp)) is not None:
        return cached
    existing_folder(path.parent)
    features = extractors.extract(video)
    save_tensors(path, features.tensors, {**stamp, "problems": json.dumps(features.problems)})
    return features


def _read(path: Path, stamp: dict[str, str]) -> VideoFeatures | None:
    """None where there is no file, it is damaged, or of something else."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if any(about.get(name) != value for name, value in stamp.items()):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            return VideoFeatures(tensors, json.loads(about["problems"]))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def cached_tensor(path: Path, name: str) -> Tensor:
    """One feature of a file that `cached_features` has written.

    Raises:
        MetricError: It is missing.
    """
    with safe_open(path, framework="pt") as file:
        if name in file.keys():  # noqa: SIM118 (no dict)
            return file.get_tensor(name)
        problems = json.loads((file.metadata() or {})["problems"])
    return VideoFeatures({}, problems).get(name)
