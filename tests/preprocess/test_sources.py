import hashlib
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from loopy.data.media.video_reader import iterate_frames
from loopy.errors import MediaError
from loopy.preprocess.sources import find_videos, probe, seconds_of


@pytest.fixture
def shelf(tmp_path):
    """Names only: finding opens nothing."""
    names = "b/two.MP4 b/deep/three.mkv a/one.mov a/notes.txt a/x.png .hidden/no.mp4 a/._one.mov"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


def test_a_folder_gives_its_videos_in_order(shelf):
    found = [shelf / "a/one.mov", shelf / "b/deep/three.mkv", shelf / "b/two.MP4"]
    assert find_videos(shelf) == find_videos(str(shelf)) == found


def test_patterns_and_single_files(shelf):
    assert find_videos(f"{shelf}/*/*.[mM]*") == [shelf / "a/one.mov", shelf / "b/two.MP4"]
    assert find_videos(f"{shelf}/**/*.mkv") == [shelf / "b/deep/three.mkv"]
    assert find_videos(f"{shelf}/[bc]") == [shelf / "b/deep/three.mkv", shelf / "b/two.MP4"]
    assert find_videos(shelf / "a/one.mov") == [shelf / "a/one.mov"]
    (shelf / "odd[1].mp4").touch()
    assert find_videos(shelf / "odd[1].mp4") == [shelf / "odd[1].mp4"]


def test_a_list_is_relative_to_itself(shelf):
    lines = f"\ufeff# mine\n b/two.MP4 \n\n{shelf}/a/one.mov\nb/two.MP4\nmissing.mp4\n"
    (shelf / "mine.txt").write_text(lines)
    found = [shelf / "a/one.mov", shelf / "b/two.MP4", shelf / "missing.mp4"]
    assert find_videos(shelf / "mine.txt") == found


def test_linked_folders_are_followed_once(tmp_path, shelf):
    elsewhere = tmp_path.parent / f"{tmp_path.name} elsewhere"
    (elsewhere / "c").mkdir(parents=True)
    (elsewhere / "c" / "four.mp4").touch()
    for link, target in {
        "a/again": shelf / "b",  # has its own name in here, which counts
        "a/round": shelf,
        "b/deep/up": shelf / "b",
        "linked": elsewhere,
        "linked twice": elsewhere / "c",
        "nowhere": shelf / "gone",
    }.items():
        (shelf / link).symlink_to(target)
    own = [shelf / "a/one.mov", shelf / "b/deep/three.mkv", shelf / "b/two.MP4"]
    assert find_videos(shelf) == [*own, shelf / "linked/c/four.mp4"]
    assert find_videos(shelf / "linked") == [shelf / "linked/c/four.mp4"]


def test_nothing_found_says_what_was_seen(tmp_path):
    for index in range(300):
        (tmp_path / f"{index}.png").touch()
    (tmp_path / "README").touch()
    words = r"No videos found under .*: looked for \.mp4 \.mov .*, saw 300 \.png, 1 files without"
    with pytest.raises(MediaError, match=words):
        find_videos(tmp_path)
    with pytest.raises(MediaError, match=r"No videos found .*saw 1 \.png"):
        find_videos(tmp_path / "7.png")
    with pytest.raises(MediaError, match=r"No videos found .*saw nothing"):
        find_videos(tmp_path / "nowhere")
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(
        MediaError, match=r"of 1 files it lists none exists, for one not .*gone\.mp4"
    ):
        find_videos(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match="UTF-8"):
        find_videos(tmp_path / "list.txt")


def test_a_folder_that_may_not_be_read_is_named():
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "open.mp4").touch()
        (Path(name) / "closed").mkdir(mode=0)
        Path(name).chmod(0o755)
        user = os.geteuid()
        try:
            if user == 0:  # root may read everything
                os.seteuid(65534)
            with pytest.raises(MediaError, match="closed cannot be read: Permission denied"):
                find_videos(name)
        finally:
            os.seteuid(user)


def steady(rate, count):
    return [Fraction(index) / Fraction(rate) for index in range(count)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_is_described(tmp_path, write_film, film_sound, suffix):
    rate = Fraction(30000, 1001)
    path = write_film(
        tmp_path / f"film.{suffix}",
        steady(rate, 60),
        start_s=Fraction(3, 2),
        sound=film_sound(start_s=1.75),
        rotation=90,
        size=(96, 32),
    )
    seen = probe(path)
    assert float(seen.seconds) == pytest.approx(60 / rate, abs=2e-3)
    assert seen.fps == pytest.approx(rate, rel=1e-4)
    assert (seen.width_px, seen.height_px) == (32, 96)
    assert seen.has_sound
    assert float(seen.sound_end_s) == pytest.approx(60 / rate, abs=0.05)
    assert seen.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("stored", "aspect", "shown"),
    [((90, 72), Fraction(16, 15), (96, 72)), ((90, 60), Fraction(8, 9), (90, 68))],
)
def test_sizes_are_those_of_the_pictures_read(tmp_path, stored, aspect, shown):
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = stored, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        stream.set_display_rotation(90)
        frame = av.VideoFrame.from_ndarray(np.zeros((*stored[::-1], 3), np.uint8))
        container.mux([*stream.encode(frame), *stream.encode()])
    seen = probe(tmp_path / "wide.mp4")
    assert (seen.height_px, seen.width_px) == shown
    assert next(iterate_frames(tmp_path / "wide.mp4")).shape == (*shown, 3)


def test_avi_counts_its_pictures(tmp_path):
    """Its time stamps are guesses, and wrong for H.264."""
    with av.open(str(tmp_path / "film.avi"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((32, 64, 3), 5 * index, np.uint8))
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    seen = probe(tmp_path / "film.avi")
    assert (seen.seconds, seen.fps) == (2, 25)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts", "flv", "avi"])
def test_lengths_are_known_from_headers(tmp_path, write_film, suffix):
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = write_film(tmp_path / f"film.{suffix}", steady(25, 75), codec=codec)
    assert float(seconds_of(path)) == pytest.approx(3, abs=0.15)
    (tmp_path / "words.mp4").write_text("no video at all")
    assert seconds_of(tmp_path / "words.mp4") is None
    assert seconds_of(tmp_path / "missing.mp4") is None


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_of_a_variable_rate_the_mean_counts(tmp_path, write_film, suffix):
    times = [Fraction(milliseconds, 1000) for milliseconds in (0, 40, 70, 150, 190, 260, 300)]
    seen = probe(write_film(tmp_path / f"film.{suffix}", times))
    assert seen.fps == 20
    assert not seen.has_sound
    assert 0.3 < seen.seconds < 0.4


def test_a_steady_rate_in_milliseconds_is_that_of_the_header(tmp_path, write_film):
    seen = probe(write_film(tmp_path / "film.webm", steady(60, 30), codec="libvpx-vp9"))
    assert seen.fps == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize("front", [False, True], ids=["index behind", "index in front"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_file_cut_off_is_refused(tmp_path, write_film, film_sound, suffix, front):
    path = write_film(tmp_path / f"whole.{suffix}", steady(25, 150), sound=film_sound())
    if front and suffix == "mp4":
        path = with_the_index_in_front(path)
    assert float(probe(path).seconds) == pytest.approx(6, abs=0.01)
    half = tmp_path / f"half.{suffix}"
    half.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(MediaError, match=r"is cut off|cannot be decoded"):
        probe(half)


def with_the_index_in_front(path):
    """As files of the web are written: a reader finds the index even in half a file."""
    front = path.with_name("front.mp4")
    with (
        av.open(str(path)) as source,
        av.open(str(front), "w", options={"movflags": "faststart"}) as copy,
    ):
        streams = {s.index: copy.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)
    return front


def test_what_is_no_video_is_named(tmp_path, write_sound):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("no video at all\n" * 50)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5_000))
    write_sound(tmp_path / "sound.m4a", "aac", 44_100, "mono", seconds=1)
    for name, words in {
        "missing.mp4": "does not exist",
        "empty.mp4": "is empty",
        "words.mp4": "cannot be decoded|text file",
        "noise.mp4": "cannot be decoded",
        "sound.m4a": "no pictures",
        ".": "is a folder",
    }.items():
        with pytest.raises(MediaError, match=words) as raised:
            probe(tmp_path / name)
        assert "\n" not in str(raised.value)
