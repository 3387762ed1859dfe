"""Video files made on the spot, tiny pose models, and what `loopy preprocess` needs for a run.

In a film every picture spells its time; each second has a beep in it. In a talk waves run through
the pictures, so that no two are alike; it has noise for a voice, and the track of a face.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import onnx
import pytest
import torch
from diffusers import AutoencoderKL
from onnx import TensorProto, helper, numpy_helper
from transformers import Wav2Vec2Config

from loopy.models import AudioEncoder
from loopy.models.folder import save_part
from loopy.preprocess.filters import FilterOptions
from loopy.preprocess.landmarks.precomputed import Tracks, save_tracks
from loopy.preprocess.options import PreprocessOptions

BARS, BAR_PX = 16, 5
QUICK = {
    "libx264": {"preset": "ultrafast", "bf": "2", "g": "30"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
}


class Sound(NamedTuple):
    codec: str = "aac"
    rate_hz: int = 44_100
    layout: str = "mono"
    start_s: float = 0  # on the clock of the file
    samples: np.ndarray | None = None  # in place of beeps; mono


def _spelling(time: Fraction, width: int, height: int) -> np.ndarray:
    """Bars, black or white, that spell a time in ms; no shades, which compression could blur."""
    bits = [(round(time * 1000) >> place) & 1 for place in range(BARS)]
    row = np.zeros(width, np.uint8)
    row[: BARS * BAR_PX] = np.repeat(np.array(bits, np.uint8) * 255, BAR_PX)
    return np.repeat(np.repeat(row[None, :, None], height, 0), 3, 2)


def _spelled_s(picture: np.ndarray) -> float:
    bits = picture[len(picture) // 2, BAR_PX // 2 : BARS * BAR_PX : BAR_PX, 0] > 127
    return sum(1 << place for place, bit in enumerate(bits) if bit) / 1000


def _beeps(rate_hz: int, channels: int, *, from_s: float, seconds: float) -> np.ndarray:
    """Soft 1.2 kHz bursts at 0.5, 1.5, ... s on a clock that reads ``from_s`` at first."""
    since = (from_s + np.arange(round(seconds * rate_hz)) / rate_hz + 0.5) % 1.0
    since = np.minimum(since, 1 - since)
    burst = 0.8 * np.exp(-((since / 0.004) ** 2)) * np.cos(2 * np.pi * 1200 * since)
    return np.repeat(burst.astype(np.float32)[None], channels, 0)


def _mux_beeps(container, stream, sound: Sound, *, from_s: float, seconds: float) -> None:
    channels = stream.layout.nb_channels
    samples = _beeps(sound.rate_hz, channels, from_s=from_s, seconds=seconds)
    if sound.samples is not None:
        samples = np.repeat(sound.samples.astype(np.float32)[None], channels, 0)
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=sound.layout)
    frame.sample_rate, frame.time_base = sound.rate_hz, Fraction(1, sound.rate_hz)
    frame.pts = round(sound.start_s * sound.rate_hz)
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _write_film(
    path: Path,
    times_s: Sequence[Fraction],
    *,
    size: tuple[int, int] = (80, 32),
    codec: str = "libx264",
    form: str = "yuv420p",
    start_s: Fraction = Fraction(0),
    rotation: int = 0,
    sound: Sound | None = None,
    paint: Callable[[Fraction, int, int], np.ndarray] = _spelling,
) -> Path:
    """Pictures at these times (the first at 0, on a clock that reads ``start_s`` there)."""
    gap = Fraction(times_s[1] - times_s[0]) if len(times_s) > 1 else Fraction(1, 25)
    with av.open(str(path), "w") as container:
        rate = (1 / gap).limit_denominator(1001)
        stream = container.add_stream(codec, rate=rate, options=QUICK.get(codec, {}))
        stream.width, stream.height = size
        stream.pix_fmt = form
        stream.codec_context.time_base = Fraction(1, 90_000)
        if rotation:
            stream.set_display_rotation(rotation)
        heard = sound and container.add_stream(sound.codec, rate=sound.rate_hz, layout=sound.layout)
        for time in times_s:
            frame = av.VideoFrame.from_ndarray(paint(time, *size), format="rgb24")
            frame.pts = round((time + start_s) * 90_000)
            frame.time_base = Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if heard:
            late = sound.start_s - float(start_s)
            length = float(times_s[-1] + gap) - late
            _mux_beeps(container, heard, sound, from_s=late, seconds=length)
    return path


@pytest.fixture(scope="session")
def write_film() -> Callable[..., Path]:
    return _write_film


@pytest.fixture(scope="session")
def film_sound() -> type[Sound]:
    return Sound


@pytest.fixture(scope="session")
def spelled_s() -> Callable[[np.ndarray], float]:
    return _spelled_s


@pytest.fixture(scope="session")
def spelling() -> Callable[..., np.ndarray]:
    return _spelling


@pytest.fixture(scope="session")
def beeps() -> Callable[..., np.ndarray]:
    return _beeps


@pytest.fixture(scope="session")
def burst_times_s() -> Callable[[np.ndarray], list[float]]:
    """Centre of energy of the burst in each whole second of 16 kHz samples."""

    def find(samples: np.ndarray) -> list[float]:
        times = []
        for second in range((len(samples) + 3_000) // 16_000):
            part = np.asarray(samples[second * 16_000 :][:16_000], np.float64) ** 2
            near = slice(max(part.argmax() - 320, 0), part.argmax() + 320)
            centre = (part[near] * np.arange(len(part))[near]).sum() / part[near].sum()
            times.append(second + centre / 16_000)
        return times

    return find


@pytest.fixture(scope="session")
def write_sound() -> Callable[..., Path]:
    """A file of beeps alone: (path, codec, rate, layout, seconds)."""

    def write(path: Path, codec: str, rate_hz: int, layout: str, *, seconds: float) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate_hz, layout=layout)
            _mux_beeps(container, stream, Sound(codec, rate_hz, layout), from_s=0, seconds=seconds)
        return path

    return write


def _waves(time: Fraction, width: int, height: int, *, cut_s: Fraction | None) -> np.ndarray:
    """Brightness that runs to the right, once in 24 pixels; another colour behind a cut."""
    y, x = np.mgrid[:height, :width]
    bright = 150 + 60 * np.sin(2 * np.pi * ((x + y / 2) / 24 - 1.5 * float(time)))
    colour = (1, 0.6, 0.3) if cut_s is None or time < cut_s else (0.3, 0.6, 1)
    return (bright[..., None] * colour).astype(np.uint8)


class Talk(NamedTuple):
    path: Path
    times_s: list[Fraction]  # of its pictures, from the first one
    tracks: Tracks | None  # as they lie beside it
    sound: np.ndarray | None  # 16 kHz, from the first picture on


FACE = np.random.default_rng(0).random((68, 2))
FACE = (FACE - FACE.min(0)) / (FACE.max(0) - FACE.min(0))  # fills the unit square


def _write_talk(
    path: Path,
    *,
    pictures: int = 30,
    rate: Fraction | int = 25,
    cut: int | None = None,
    start_s: Fraction = Fraction(0),
    rotation: int = 0,
    late_s: float = 0,
    silent_from_s: float | None = None,
    sound: np.ndarray | None = None,
    face_px: float = 20,
    at: Callable[[int], tuple[float, float]] = lambda frame: (60, 40),
    valid: torch.Tensor | None = None,
    pose: torch.Tensor | None = None,
    tracked: bool = True,
) -> Talk:
    """A talk of 160 x 96 pixels (before it is turned); `at` says where frame i has its face.

    The sound begins ``late_s`` after the pictures and ends with them, or at ``silent_from_s``; 0
    there is no sound at all. Every number of samples that is written is one of 16 bits.
    """
    times = [index / Fraction(rate) for index in range(pictures)]
    seconds = float(times[-1] + 1 / Fraction(rate))
    frames = round(seconds * 25)
    end = seconds if silent_from_s is None else silent_from_s
    if sound is None:
        noise = np.random.default_rng(list(path.name.encode())).integers(-9_000, 9_000, 16_000 * 60)
        sound = noise[: round((end - late_s) * 16_000)] / 32_768
    clock = float(start_s) + late_s
    paint = partial(_waves, cut_s=None if cut is None else times[cut])
    heard = Sound("pcm_s16le", 16_000, "mono", clock, sound) if end else None
    form = {"start_s": start_s, "rotation": rotation, "sound": heard, "paint": paint}
    _write_film(path, times, size=(160, 96), **form)
    tracks = None
    if tracked:
        corners = torch.tensor([at(frame) for frame in range(frames)])[:, None]
        points = corners + face_px * torch.from_numpy(FACE)
        pose = torch.zeros(frames, 3) if pose is None else pose
        tracks = Tracks(points.float(), valid, pose)
        save_tracks(path, tracks)
    silence = np.zeros(round(late_s * 16_000))
    return Talk(path, times, tracks, np.concatenate([silence, sound]) if end else None)


@pytest.fixture(scope="session")
def write_talk() -> Callable[..., Talk]:
    return _write_talk


@pytest.fixture(scope="session")
def talk_options() -> PreprocessOptions:
    """For talks of a second or more: a face of 20 px has a crop of 48 px, which is not resized."""
    return PreprocessOptions(
        size_px=48,
        estimator="precomputed",
        filters=FilterOptions(fewest_frames=25, fewest_px=40),
    )


@pytest.fixture(scope="session")
def talk_parts(tmp_path_factory) -> Path:
    """The two networks that `loopy preprocess` reads, and nothing else of a model."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    ).save_pretrained(folder / "vae")
    hearing = Wav2Vec2Config(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    save_part(AudioEncoder.from_config(hearing), folder, "audio_encoder")
    return folder


# Two tiny ONNX models with the signatures of DWPose's files, and pictures that they understand. A
# person is three soft dots: red where the detector finds somebody, and red, green and blue where
# the pose net finds its points, in turn. Whoever is right of the middle has a box twice as large.

GREEN_PX, BLUE_PX = (-10, 9), (11, 7)  # from the red dot
POINT_WEIGHT = 0.5 + np.arange(133) / 266  # factor of a point's score, which tells its number
CELLS = 6400  # of 8 pixels; strides 16 and 32 see nothing
SMALL_PX, LARGE_PX = (80, 120), (160, 240)  # boxes, in pixels of the 640 x 640 detector input


def _save_onnx(path, nodes, constants, inputs, outputs):
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def _detector(path, *, label=0, classes=80):
    """YOLOX: BGR (1 3 640 640) to (1 8400 85); fires where red is over 174 of 255.

    Grey 114, with which pictures are filled up, stays under the threshold.
    """
    size = np.empty((80, 80, 2), np.float32)
    size[:, :40], size[:, 40:] = np.log(np.array([SMALL_PX, LARGE_PX]) / 8)
    one_hot = np.zeros((1, CELLS, classes), np.float32)
    one_hot[..., label] = 1
    constants = {
        "two": np.array([2]),
        "three": np.array([3]),
        "channel": np.array([1]),
        "cells": np.array([1, CELLS, 1]),
        "threshold": np.float32(140),
        "scale": np.float32(1 / 115),
        "middle": np.full((1, CELLS, 2), 0.5, np.float32),
        "size": size.reshape(1, CELLS, 2),
        "class": one_hot,
        "nothing": np.zeros((1, 2000, 5 + classes), np.float32),
    }
    nodes = [
        helper.make_node("Slice", ["bgr", "two", "three", "channel"], ["red"]),
        helper.make_node("MaxPool", ["red"], ["cell"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cell", "cells"], ["row"]),
        helper.make_node("Sub", ["row", "threshold"], ["over"]),
        helper.make_node("Mul", ["over", "scale"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["somebody"]),
        helper.make_node("Concat", ["middle", "size", "somebody", "class"], ["fine"], axis=2),
        helper.make_node("Concat", ["fine", "nothing"], ["out"], axis=1),
    ]
    inputs, outputs = {"bgr": (1, 3, 640, 640)}, {"out": (1, 8400, 5 + classes)}
    return _save_onnx(path, nodes, constants, inputs, outputs)


def _pose(path, *, points=133, batch="batch"):
    """SimCC: RGB (n 3 384 288) to (n 133 576), (n 133 768); point k is the dot of colour k % 3."""
    constants = {
        "colour": np.arange(points) % 3,
        "weight": (POINT_WEIGHT[:points, None] / 2.7).astype(np.float32),  # 2.7: white, normalised
        "last": np.array([3]),
        "x_shape": np.array([0, points, 576]),
        "y_shape": np.array([0, points, 768]),
    }
    nodes = []
    for name, axis in (("x", 2), ("y", 3)):
        nodes += [
            helper.make_node("ReduceMax", ["rgb"], [f"{name}_max"], axes=[axis], keepdims=0),
            helper.make_node("Gather", [f"{name}_max", "colour"], [f"{name}_points"], axis=1),
            helper.make_node("Mul", [f"{name}_points", "weight"], [f"{name}_score"]),
            helper.make_node("Unsqueeze", [f"{name}_score", "last"], [f"{name}_one"]),
            helper.make_node("Concat", [f"{name}_one"] * 2, [f"{name}_two"], axis=3),
            helper.make_node("Reshape", [f"{name}_two", f"{name}_shape"], [f"simcc_{name}"]),
        ]
    inputs = {"rgb": (batch, 3, 384, 288)}
    outputs = {"simcc_x": (batch, points, 576), "simcc_y": (batch, points, 768)}
    return _save_onnx(path, nodes, constants, inputs, outputs)


@pytest.fixture(scope="session")
def make_pose_models(tmp_path_factory) -> Callable[..., dict[str, Path]]:
    """Writes the two files; options of `_detector` and `_pose` change them."""

    def make(*, detector=None, pose=None):
        folder = tmp_path_factory.mktemp("models")
        return {
            "detector": _detector(folder / "yolox_tiny.onnx", **detector or {}),
            "pose": _pose(folder / "tiny_384.onnx", **pose or {}),
        }

    return make


@pytest.fixture(scope="session")
def pose_models(make_pose_models) -> dict[str, Path]:
    """Paths of the two files: keyword arguments of both DWPose estimators."""
    return make_pose_models()


def _draw(*people, size=(320, 240), colours=(255, 255, 255)):
    """A black picture (h w 3) with people at x, y, whose red, green and blue are this bright."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3))
    for left, top, *own_colours in people:
        offsets = zip(((0, 0), GREEN_PX, BLUE_PX), own_colours or colours, strict=True)
        for channel, ((right, down), brightness) in enumerate(offsets):
            distance = (x - left - right) ** 2 + (y - top - down) ** 2
            picture[..., channel] += brightness * np.exp(-distance / 8)
    return torch.from_numpy(picture.clip(0, 255).round().astype(np.uint8))


@pytest.fixture(scope="session")
def draw_people() -> Callable[..., torch.Tensor]:
    """`_draw`; `true_points` gives the points of a person in it."""
    return _draw


@pytest.fixture(scope="session")
def true_points() -> Callable[[int, int], torch.Tensor]:
    """The 68 points of a person at x, y: point j is number 23 + j of the whole body."""

    def points(x, y):
        dots = torch.tensor([(0, 0), GREEN_PX, BLUE_PX]) + torch.tensor([x, y])
        return dots[torch.arange(23, 91) % 3].float()

    return points
