"""The door: whatever a caller gives to a public name, only `loopy.errors` come out.

One table of bad values for each kind of argument, one list of the places that take it. A new
public function is a new line here.
"""

import wave
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import loopy
from loopy import (
    LiveOptions,
    LoopyPipeline,
    MotionSequence,
    SamplingOptions,
    SegmentLayout,
    Subject,
    Video,
)
from loopy.data.media.portrait import read_portrait
from loopy.data.media.sound import as_samples, read_audio
from loopy.data.media.video import contact_sheet
from loopy.data.media.video_reader import iterate_frames, read_frames
from loopy.data.media.writer import open_writer
from loopy.data.store.shot_store import ShotStore
from loopy.diffusion.options import DiffusionContract
from loopy.errors import LoopyError
from loopy.preprocess.landmarks.precomputed import load_tracks
from loopy.preprocess.sources import find_videos, probe
from loopy.training.predict import read_manifest


class Door(NamedTuple):
    """A place that takes values of one kind; it is called with each bad one."""

    name: str
    call: Callable[["Room", Any], object]


class Room(NamedTuple):
    """What calls need beside the value that is bad."""

    pipe: LoopyPipeline
    subject: Subject
    folder: Path
    portrait: Path
    sound: Path


@pytest.fixture
def room(make_pipeline, tmp_path) -> Room:
    portrait, sound = tmp_path / "portrait.png", tmp_path / "sound.wav"
    Image.new("RGB", (20, 20), (200, 90, 60)).save(portrait)
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * 3_000))
    pipe = make_pipeline()
    return Room(pipe, pipe.prepare(portrait), tmp_path, portrait, sound)


# ------------------------------------------------------------------------------------- paths


def _written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _link(folder: Path) -> Path:
    (folder / "link.png").symlink_to(folder / "nowhere")
    return folder / "link.png"


def _folder(folder: Path) -> Path:
    (folder / "folder").mkdir()
    return folder / "folder"


PATHS: dict[str, Callable[[Path], Any]] = {
    "missing": lambda folder: folder / "no.png",
    "missing folder": lambda folder: folder / "no" / "no.png",
    "a folder": _folder,
    "broken link": _link,
    "empty file": lambda folder: _written(folder, "empty.png", b""),
    "text": lambda folder: _written(folder, "text.png", b"neither\nthis,nor that\n"),
    "noise": lambda folder: _written(folder, "noise", np.random.default_rng(0).bytes(4096)),
    "zeros": lambda folder: _written(folder, "zeros.mp4", bytes(4096)),
    "a file as folder": lambda folder: _written(folder, "file", b"x") / "inside.png",
    "empty name": lambda folder: "",
    "NUL": lambda folder: "a\0b.png",
    "long name": lambda folder: "n" * 5000,
    "half a character": lambda folder: "\udcff\ud800.png",
    "address": lambda folder: "nowhere://bucket/a.png",
    "None": lambda folder: None,
    "a number": lambda folder: 7,
    "a list": lambda folder: ["a.png"],
    "an object": lambda folder: object(),
}

READERS = [
    Door("read_portrait", lambda room, path: read_portrait(path, size_px=16)),
    Door("pipe.prepare", lambda room, path: room.pipe.prepare(path)),
    Door("pipe(portrait)", lambda room, path: room.pipe(path, room.sound)),
    Door("pipe(sound)", lambda room, path: room.pipe(room.subject, path)),
    Door("pipe.stream(sound)", lambda room, path: next(room.pipe.stream(room.subject, path))),
    Door("pipe.load_audio", lambda room, path: room.pipe.load_audio(path)),
    Door("as_samples", lambda room, path: as_samples(path)),
    Door("read_audio", lambda room, path: read_audio(path)),
    Door("read_frames", lambda room, path: read_frames(path, [0])),
    Door("iterate_frames", lambda room, path: next(iterate_frames(path))),
    Door("from_pretrained", lambda room, path: LoopyPipeline.from_pretrained(path)),
    Door("Subject.load", lambda room, path: Subject.load(path)),
    Door("ShotStore.open", lambda room, path: ShotStore.open(path)),
    Door("read_manifest", lambda room, path: read_manifest(path)),
    Door("find_videos", lambda room, path: find_videos(path)),
    Door("probe", lambda room, path: probe(path)),
    Door("load_tracks", lambda room, path: load_tracks(path)),
]


def fault(door: Door, room: Room, value: Any, *, wrong: bool = True) -> str:
    """What is not as it should be when a door meets a value; empty where all is well."""
    try:
        door.call(room, value)
    except LoopyError as error:
        told = str(error)
        return "" if len(told) > 20 and "\n" not in told else f"says {told!r}"
    except Exception as error:  # the fault that is looked for
        return f"{type(error).__name__}: {error!s:.100}"
    return "is taken" if wrong else ""


@pytest.mark.parametrize("door", READERS, ids=lambda door: door.name)
def test_what_reads_a_path(room, door, monkeypatch):
    monkeypatch.chdir(room.folder)
    fine = {"zeros"} if door.name == "find_videos" else set()  # it opens none of what it finds
    faults = {
        kind: fault(door, room, bad(room.folder), wrong=kind not in fine)
        for kind, bad in PATHS.items()
    }
    assert {kind: what for kind, what in faults.items() if what} == {}


FRAMES = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)


def _open(room: Room, path: Any) -> None:
    with open_writer(path) as writer:
        writer.write(FRAMES)


WRITERS = [
    Door("Video.save", lambda room, path: Video(FRAMES).save(path)),
    Door("open_writer", _open),
    Door("Subject.save", lambda room, path: room.subject.save(path)),
    Door("save_pretrained", lambda room, path: room.pipe.save_pretrained(path)),
]
NO_PLACE = ["missing folder", "a file as folder", "empty name", "NUL", "long name"]
NO_PLACE += ["half a character", "None", "a number", "a list", "an object"]
MAKES_FOLDERS = {"save_pretrained"}


@pytest.mark.parametrize("door", WRITERS, ids=lambda door: door.name)
def test_what_writes_a_path(room, door, monkeypatch):
    monkeypatch.chdir(room.folder)
    kinds = NO_PLACE[1:] if door.name in MAKES_FOLDERS else NO_PLACE
    bad = {kind: PATHS[kind](room.folder) for kind in kinds}
    before = sorted(room.folder.rglob("*"))
    faults = {kind: fault(door, room, value) for kind, value in bad.items()}
    assert {kind: what for kind, what in faults.items() if what} == {}
    assert sorted(room.folder.rglob("*")) == before


# --------------------------------------------------------------------- pictures and sound in memory

ARRAYS: dict[str, Any] = {
    "no value": np.zeros(0, np.float32),
    "a scalar": np.float32(0.5),
    "five axes": np.zeros((1, 2, 3, 4, 5), np.float32),
    "not finite": np.full((20, 20, 3), nan, np.float32),
    "complex": np.zeros((20, 20, 3), np.complex64),
    "words": np.array([["a", "b"]]),
    "objects": np.array([object()]),
    "huge": np.full(4000, 1e30, np.float32),
    "seven channels": np.zeros((20, 20, 7), np.uint8),
    "bits": np.zeros((20, 20, 3), bool),
    "a tensor of nothing": torch.zeros(0),
    "a tensor of five axes": torch.zeros(1, 2, 3, 4, 5),
    "a tensor that is not finite": torch.full((4000,), nan),
    "meta": torch.zeros(3, 20, 20, device="meta"),
    "bytes": b"RIFF",
    "a dict": {"path": "a.png"},
    "a pair of nothing": (None, None),
    "a pair without rate": ("x", np.zeros(4000, np.float32)),
    "a rate that is no number": (nan, np.zeros(4000, np.float32)),
    "a rate of 0": (0, np.zeros(4000, np.float32)),
    "a picture of nothing": Image.new("RGB", (0, 0)),
    "a function": print,
}
MEMORY = [
    Door("read_portrait", lambda room, value: read_portrait(value, size_px=16)),
    Door("pipe.prepare", lambda room, value: room.pipe.prepare(value)),
    Door("pipe(portrait)", lambda room, value: room.pipe(value, room.sound)),
    Door("as_samples", lambda room, value: as_samples(value)),
    Door("pipe(sound)", lambda room, value: room.pipe(room.subject, value)),
    Door("Video.audio", lambda room, value: _saved(room, value)),
]


def _saved(room: Room, sound: Any) -> None:
    Video(FRAMES, audio=sound).save(room.folder / "made.mp4")


@pytest.mark.parametrize("door", MEMORY, ids=lambda door: door.name)
def test_what_takes_values_in_memory(room, door):
    faults = {kind: fault(door, room, value) for kind, value in ARRAYS.items()}
    assert {kind: what for kind, what in faults.items() if what} == {}
    assert not (room.folder / "made.mp4").exists()


# ----------------------------------------------------------------------------------------- numbers

NUMBERS = [nan, inf, -inf, 0, -1, 0.5, 1e30, 10**30, True, "x", "1", None, [], (1, 2), 1j, object()]


def _sampled(room: Room, **options: Any) -> None:
    next(room.pipe.stream(room.subject, room.sound, options=SamplingOptions(**options)))


POINTS, POSE, VALID = torch.zeros(2, 68, 2), torch.zeros(2, 3), torch.ones(2, 68).bool()


NUMBER_DOORS = [
    Door("steps", lambda room, n: _sampled(room, steps=n)),
    Door("audio_ratio", lambda room, n: _sampled(room, audio_ratio=n)),
    Door("reference_ratio", lambda room, n: _sampled(room, reference_ratio=n)),
    Door("guidance_start", lambda room, n: _sampled(room, guidance_start=n)),
    Door("guidance_stop", lambda room, n: _sampled(room, guidance_stop=n)),
    Door("stacked", lambda room, n: _sampled(room, stacked=n)),
    Door("options", lambda room, n: next(room.pipe.stream(room.subject, room.sound, options=n))),
    Door("seed", lambda room, n: next(room.pipe.stream(room.subject, room.sound, seed=n))),
    Door("session seed", lambda room, n: room.pipe.session(room.subject, seed=n).idle()),
    Door("session rate", lambda room, n: room.pipe.session(room.subject, rate_hz=n)),
    Door("hearing", lambda room, n: room.pipe.session(room.subject, hearing=n)),
    Door("piece", lambda room, n: room.pipe.session(room.subject).push(n)),
    Door("lookahead", lambda room, n: LiveOptions(lookahead=n)),
    Door("window_s", lambda room, n: LiveOptions(window_s=n)),
    Door("rate_hz", lambda room, n: room.pipe(room.subject, torch.zeros(4000), rate_hz=n)),
    Door("longest_s", lambda room, n: room.pipe.load_audio(room.sound, longest_s=n)),
    Door("box", lambda room, n: room.pipe.prepare(room.portrait, box=(n, 0, 16, 16))),
    Door("box of one", lambda room, n: room.pipe.prepare(room.portrait, box=n)),
    Door("crf", lambda room, n: Video(FRAMES).save(room.folder / "x.mp4", crf=n)),
    Door("fps", lambda room, n: Video(FRAMES, fps=n).save(room.folder / "x.mp4")),
    Door("frames", lambda room, n: Video(n).save(room.folder / "x.mp4")),
    Door("sheet", lambda room, n: Video(FRAMES).sheet(columns=n)),
    Door("rows", lambda room, n: Video(FRAMES).sheet(rows=n)),
    Door("contact_sheet", lambda room, n: contact_sheet(FRAMES, columns=n)),
    Door("stride", lambda room, n: SegmentLayout(stride=n)),
    Door("expand", lambda room, n: SegmentLayout(expand=n)),
    Door("segments", lambda room, n: SegmentLayout(segments=n)),
    Door("mode", lambda room, n: SegmentLayout(mode=n)),
    Door("residual", lambda room, n: DiffusionContract(residual=n)),
    Door("shared_noise", lambda room, n: DiffusionContract(shared_noise=n)),
    Door("layout", lambda room, n: DiffusionContract(layout=n)),
    Door("device", lambda room, n: room.pipe.to(n)),
    Door("dtype", lambda room, n: room.pipe.to("cpu", dtype=n)),
    Door("size_px", lambda room, n: read_portrait(room.portrait, size_px=n)),
    Door("Subject", lambda room, n: Subject(n, "weights")),
    Door("points", lambda room, n: MotionSequence(n, POSE, VALID, 512)),
    Door("pose", lambda room, n: MotionSequence(POINTS, n, VALID, 512)),
    Door("valid", lambda room, n: MotionSequence(POINTS, POSE, n, 512)),
]


@pytest.mark.parametrize("door", NUMBER_DOORS, ids=lambda door: door.name)
def test_what_takes_numbers(room, door):
    """Some of the values are right at some of the doors: those work."""
    faults = {repr(number): fault(door, room, number, wrong=False) for number in NUMBERS}
    assert {number: what for number, what in faults.items() if what} == {}


def test_every_public_name_is_a_door_or_a_network():
    """A new public name belongs on this page; networks are checked by their own shapes."""
    here = {"LiveOptions", "LoopyError", "LoopyPipeline", "MotionSequence", "SamplingOptions"}
    here |= {"SegmentLayout", "Subject", "Video"}
    assert set(loopy.__all__) == here | {"AudioEncoder", "AudioToLatents", "DualUNet", "UNet"}
