import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopy.data.media.video_pictures import FURTHER_BACK_S
from loopy.data.media.video_reader import in_parts, iterate_frames, read_frames
from loopy.errors import DependencyError, MediaError
from tests.memory import PEAK

SECONDS = 6
RATES = {
    "23.976": Fraction(24000, 1001),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "60": Fraction(60),
}


def variable_times(seconds):
    """10 to 60 frames a second, changing from frame to frame."""
    steps = torch.randint(17, 100, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    times = [Fraction(sum(steps[:index]), 1000) for index in range(200)]
    return [time for time in times if time < seconds]


@pytest.fixture(scope="module", params=[*RATES, "variable"])
def source(request, tmp_path_factory, write_video):
    """A video and the largest gap between its frames."""
    if request.param == "variable":
        times = variable_times(SECONDS)
    else:
        times = [
            index / RATES[request.param] for index in range(int(SECONDS * RATES[request.param]))
        ]
    gap = max(after - before for before, after in pairwise(times))
    path = tmp_path_factory.mktemp("videos") / f"{request.param}.mp4"
    return write_video(path, times), float(gap), request.param


@pytest.fixture(scope="module")
def every(source):
    return list(iterate_frames(source[0]))


def test_pictures_keep_their_time(source, every, spelled_s):
    _, gap, name = source
    errors = np.array([spelled_s(frame) - index / 25 for index, frame in enumerate(every)])
    assert len(errors) == pytest.approx(SECONDS * 25, abs=1 + 25 * gap)
    body = errors[: -1 - round(25 * gap)]  # the last frame of the source may stay for a while
    assert np.abs(body).max() <= gap / 2 + 1e-3
    if name != "variable":
        assert abs(body.mean()) < 2e-3
        half = len(body) // 2
        assert abs(body[:half].mean() - body[half:].mean()) < 4e-3  # no growth


@settings(max_examples=8, deadline=None)
@given(indices=st.lists(st.integers(0, SECONDS * 25 - 5), min_size=1, max_size=6))
def test_some_frames_are_those_of_all(source, every, indices):
    path, _, _ = source
    for backend in ("pyav", "decord"):
        some = read_frames(path, indices, backend=backend).numpy()
        expected = np.stack([every[index] for index in indices])
        assert np.abs(some.astype(int) - expected).max() <= 8, backend


def test_no_growth_over_a_minute(tmp_path, write_video, spelled_s):
    times = [index / RATES["29.97"] for index in range(1800)]
    path = write_video(tmp_path / "minute.mp4", times)
    errors = np.array(
        [spelled_s(frame) - index / 25 for index, frame in enumerate(iterate_frames(path))]
    )
    assert len(errors) == round(1800 / RATES["29.97"] * 25) == 1502
    assert np.abs(errors).max() <= 1 / 60 + 1.1e-3
    assert all(abs(part.mean()) < 2e-3 for part in np.split(errors[:1500], 6))


def test_other_grids(source, spelled_s):
    path, gap, _ = source
    frames = read_frames(path, range(10), fps=Fraction(24000, 1001))
    for index, frame in enumerate(frames):
        assert abs(spelled_s(frame) - index * 1001 / 24000) <= gap / 2 + 1e-3


def test_late_start_is_the_start(tmp_path, write_video, spelled_s):
    times = [Fraction(index, 30) for index in range(30)]
    for suffix in ("mp4", "mkv"):
        path = write_video(tmp_path / f"late.{suffix}", times, pictures_start_s=Fraction(3, 2))
        shown = [spelled_s(frame) for frame in iterate_frames(path)]
        assert shown == pytest.approx([index / 25 for index in range(25)], abs=1 / 60 + 1e-3)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(count=st.integers(1, 40), rate=st.sampled_from(sorted(RATES)))
def test_count_is_duration_times_rate(tmp_path, write_video, count, rate):
    path = write_video(tmp_path / "some.mp4", [index / RATES[rate] for index in range(count)])
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        seconds = float((frames[-1].pts + frames[-1].duration) * frames[-1].time_base)
    found = len(list(iterate_frames(path)))
    assert abs(found - seconds * 25) <= 0.5 + 1e-6
    with pytest.raises(MediaError, match=f"ends before frame {found} "):
        read_frames(path, [found])


def test_bad_videos_are_named(tmp_path, write_video, write_sound):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.txt").write_text("no video at all")
    (tmp_path / "words.mp4").write_text("no video at all")
    write_sound(tmp_path / "sound.wav", np.zeros((1, 8_000)), 16_000, "pcm_s16le")
    whole = write_video(tmp_path / "whole.mp4", [Fraction(index, 25) for index in range(25)])
    (tmp_path / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for name, words in {
        "missing.mp4": "does not exist",
        ".": "is a folder",
        "empty.mp4": "is empty",
        "words.txt": "text file|cannot be decoded",
        "words.mp4": "cannot be decoded",
        "half.mp4": "cannot be decoded",
        "sound.wav": "no pictures",
    }.items():
        with pytest.raises(MediaError, match=words):
            read_frames(tmp_path / name, [0])
        with pytest.raises(MediaError):
            read_frames(tmp_path / name, [0], backend="decord")
    for indices in ([-1], []):
        with pytest.raises(MediaError, match="give indices from 0 on"):
            read_frames(whole, indices)
    for backend in ("pyav", "decord"):
        with pytest.raises(MediaError, match="ends before frame 25 at 25 fps"):
            read_frames(whole, [3, 25], backend=backend)


def test_missing_decord_is_named(tmp_path, write_video, monkeypatch):
    path = write_video(tmp_path / "some.mp4", [Fraction(0), Fraction(1, 25)])
    monkeypatch.setitem(sys.modules, "decord", None)
    assert len(read_frames(path, [0])) == 1
    with pytest.raises(DependencyError, match="pip install decord"):
        read_frames(path, [0], backend="decord")


def test_a_span_is_part_of_the_whole(source, every):
    path, _, _ = source
    part = list(iterate_frames(path, span=range(70, 90, 3)))  # behind a seek
    assert len(part) == 7
    for frame, expected in zip(part, every[70:90:3], strict=True):
        assert np.array_equal(frame, expected)
    assert len(list(iterate_frames(path, span=range(len(every) - 2, len(every) + 9)))) == 2


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 40),
    most=st.integers(1, 4),
    multiple=st.integers(1, 5),
    kilobytes=st.integers(0, 30),
)
def test_parts_are_the_whole_and_small(count, most, multiple, kilobytes):
    frames = [np.full((16, 64, 3), index, np.uint8) for index in range(count)]  # 3 kB each
    limit = {"most": most * multiple, "most_bytes": kilobytes * 1024, "multiple": multiple}
    parts = list(in_parts(iter(frames), **limit))
    assert [int(frame[0, 0, 0]) for part in parts for frame in part] == list(range(count))
    for part in parts:
        assert len(part) <= most * multiple
        assert len(part) == len(parts[0]) or part is parts[-1]
        assert len(part) % multiple == 0 or part is parts[-1]
        assert part.nbytes <= max(kilobytes, 3 * multiple) * 1024


class Counted(os.PathLike):
    """A path that counts how often its file is opened."""

    def __init__(self, path):
        self.path, self.times = path, 0

    def __fspath__(self):
        self.times += 1
        return str(self.path)


@pytest.mark.parametrize("name", ["held.mp4", "held.mkv"])
def test_a_picture_that_stays_to_the_end_is_found_once(tmp_path, name):
    """2 s of pictures, the last of which is held for 20 s: nothing is behind it to seek."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        shades = np.linspace(20, 230, 51, dtype=np.uint8)
        grey = np.full((48, 64), 128, np.uint8)  # luma above chroma
        pictures = [np.vstack([np.full((32, 64), shade), grey[32:]]) for shade in shades]
        frames = [av.VideoFrame.from_ndarray(picture, "yuv420p") for picture in pictures]
        for frame in [*frames, None]:
            for packet in stream.encode(frame):
                if packet.pts == (len(frames) - 1) / (25 * packet.time_base):
                    packet.duration = round(20 / packet.time_base)
                container.mux(packet)
    path = Counted(tmp_path / name)
    every = list(iterate_frames(path))
    assert path.times == 1
    assert len(every) == pytest.approx(50 + 500, abs=1)
    assert all(np.array_equal(frame, every[50]) for frame in every[51:])
    assert every[50].mean() > every[48].mean()
    path.times = 0
    some = read_frames(path, [3, 300, 500])
    assert path.times <= 1 + len(FURTHER_BACK_S) + 1  # a seek into the hold, and none behind it
    assert np.array_equal(some[1], every[50])
    assert np.array_equal(some[2], every[50])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_late_frame_holds_no_earlier_ones(tmp_path):
    """250 frames of 1280 x 720 are 350 MB; one is wanted, 1.6 s behind the only key frame."""
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "1000"}
        stream = container.add_stream("libx264", rate=150, options=options)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((1080, 1280), 128, np.uint8), format="yuv420p")
        for index in range(250):
            grey.pts, grey.time_base = index, Fraction(1, 150)
            container.mux(stream.encode(grey))
        container.mux(stream.encode())
    code = (
        PEAK + "import sys; from loopy.data.media.video_reader import read_frames\n"
        "before = peak_kib(); read_frames(sys.argv[1], [40]); print(peak_kib() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 150_000
