"""Sound and video files made on the spot, with known times in them."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shots import Provenance, ShotRecord, shot_id, write_shot
from loopy.motion import MotionSequence
from loopy.randomness import generator

SECONDS = 3  # with a beep and a white flash in the middle of each


def _beeps(rate_hz: int, *, seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    """Soft 1.2 kHz bursts around 0.5, 1.5, 2.5 s: short, and kind to lossy codecs."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    since = (time + 0.5) % 1.0
    since = np.minimum(since, 1 - since)
    burst = np.exp(-((since / 0.004) ** 2)) * np.cos(2 * np.pi * 1200 * since)
    return np.repeat((0.8 * burst).astype(np.float32)[None], channels, axis=0)


def _write_sound(
    path: Path, samples: np.ndarray, rate_hz: int, codec: str, *, layout: str | None = None
) -> Path:
    """``samples`` (channels, n) float to a file."""
    with av.open(str(path), "w") as container:
        layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(samples)]
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        _mux_sound(container, stream, samples, rate_hz)
    return path


def _mux_sound(container, stream, samples, rate_hz, *, start_s=0):
    packed = np.ascontiguousarray(samples.T, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=stream.layout.name)
    frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
    frame.pts = round(start_s * rate_hz)
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _write_video(
    path: Path,
    times_s: Sequence[Fraction],
    *,
    sound_start_s: float | None = None,
    pictures_start_s: Fraction = Fraction(0),
    rotation: int = 0,
) -> Path:
    """Frames at these times; each is 20 bars, black or white, that spell its time in ms.

    Bars, not shades, so that compression cannot blur the time.
    """
    with av.open(str(path), "w") as container:
        first_gap = times_s[1] - times_s[0] if len(times_s) > 1 else 0.04
        rate = (1 / Fraction(first_gap)).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"g": "30", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 160, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        if sound_start_s is not None:
            sound = container.add_stream("aac", rate=44_100, layout="mono")
        for time in times_s:
            bits = [(round(time * 1000) >> place) & 1 for place in range(20)]
            row = np.repeat(np.array(bits, np.uint8) * 255, 8)
            pixels = np.broadcast_to(row[None, :, None], (32, 160, 3))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = round((time + pictures_start_s) * 90_000)
            frame.time_base = Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound_start_s is not None:
            _mux_sound(container, sound, _beeps(44_100), 44_100, start_s=sound_start_s)
    return path


def _spelled_s(frame: np.ndarray) -> float:
    """The time that a frame of ``write_video`` spells."""
    bits = np.asarray(frame)[16, 4::8, 0] > 127
    return sum(1 << place for place, bit in enumerate(bits) if bit) / 1000


def _burst_times_s(samples: np.ndarray, rate_hz: int) -> list[float]:
    """Centre of energy of the burst in each second."""
    times = []
    for second in range(len(samples) // rate_hz):
        part = np.asarray(samples, np.float64)[second * rate_hz : (second + 1) * rate_hz] ** 2
        near = slice(max(part.argmax() - rate_hz // 50, 0), part.argmax() + rate_hz // 50)
        weights = part[near]
        times.append(
            second + (weights * np.arange(len(part))[near]).sum() / weights.sum() / rate_hz
        )
    return times


@pytest.fixture(scope="session")
def beeps() -> Callable[..., np.ndarray]:
    return _beeps


@pytest.fixture(scope="session")
def write_sound() -> Callable[..., Path]:
    return _write_sound


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    return _write_video


@pytest.fixture(scope="session")
def spelled_s() -> Callable[[np.ndarray], float]:
    return _spelled_s


@pytest.fixture(scope="session")
def burst_times_s() -> Callable[[np.ndarray, int], list[float]]:
    return _burst_times_s


def _make_record(name: str, *, frames: int = 10, seed: int = 0, **changes) -> ShotRecord:
    """A clip of random numbers; `name` stands for the hash of its video."""
    noise = generator(seed, name)
    motion = MotionSequence(
        torch.rand(frames, 68, 2, generator=noise) * 64,
        torch.randn(frames, 3, generator=noise),
        torch.rand(frames, 68, generator=noise) > 0.1,
        size_px=64,
    )
    fields = {
        "id": shot_id(name, 0, 1, {}),
        "latents": torch.randn(frames, 4, 6, 6, generator=noise),
        "audio": torch.randn(frames, 3, 8, generator=noise),
        "motion": motion,
        "provenance": Provenance(
            f"{name}.mp4", name, 0, frames / 25, (0, 0, 64, 64), 29.97, identity=name
        ),
    }
    return ShotRecord(**fields | changes)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., ShotRecord]:
    return _make_record


@pytest.fixture(scope="session")
def description() -> StoreDescription:
    """What the records of `make_record` fit into."""
    return StoreDescription(64, (4, 6, 6), (3, 8), models={"autoencoder": "f00d"})


@pytest.fixture
def make_store(tmp_path, make_record, description) -> Callable[..., Path]:
    """A store with an index: (names of clips, folder, options of the records)."""

    def make(names: Sequence[str] = ("one",), *, folder: str = "store", **options) -> Path:
        create_store(tmp_path / folder, description)
        for name in names:
            write_shot(tmp_path / folder, make_record(name, **options))
        build_index(tmp_path / folder)
        return tmp_path / folder

    return make
