"""The one door through which all pictures come: square pixels, and seeks that change nothing."""

from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopy.data.media.container import open_media
from loopy.data.media.video_pictures import decoded, pictures_from
from loopy.data.media.video_reader import iterate_frames, read_frames
from loopy.errors import MediaError

X264 = {"preset": "ultrafast", "x264-params": "open-gop=1:keyint=40:bframes=2:scenecut=0"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:keyint=40"}
MPEG = {"bf": "2", "g": "12", "b": "2000000"}  # groups are open
MPEG4 = {"g": "40", "b": "2000000"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0", "g": "40"}
FORMS = {
    "ts": ("mpegts", "libx264", X264),
    "mts": ("mpegts", "mpeg2video", MPEG),
    "m2ts": ("mpegts", "libx265", X265),
    "mpg": ("mpeg", "mpeg2video", MPEG),
    "mpeg": ("mpeg", "mpeg1video", MPEG),
    "avi": ("avi", "mpeg4", MPEG),
    "divx.avi": ("avi", "libx264", X264),
    "flv": ("flv", "libx264", X264),
    "wmv": ("asf", "wmv2", MPEG4),
    "mkv": ("matroska", "libx264", X264),
    "webm": ("webm", "libvpx-vp9", VP9),
    "mp4": ("mp4", "libx264", X264),
    "mov": ("mov", "libx265", X265),
    "3gp": ("3gp", "mpeg4", MPEG4),
}
COUNT = 150


def write(path, form, codec, options, *, size=(160, 32), count=COUNT, paint=None, aspect=None):
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for index in range(count):
            pixels = spelling(index, *size) if paint is None else paint
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def spelling(index, width, height):
    row = np.repeat(np.array([(index >> place) & 1 for place in range(10)], np.uint8) * 255, 16)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def spelled(picture):
    return sum(1 << place for place, bit in enumerate(picture[16, 8::16, 0] > 127) if bit)


@pytest.fixture(scope="module", params=FORMS)
def film(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / f"film.{request.param}"
    return write(path, *FORMS[request.param])


@pytest.fixture(scope="module")
def every(film):
    return list(iterate_frames(film))


def test_every_picture_has_its_place(every):
    assert [spelled(picture) for picture in every] == list(range(COUNT))


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.integers(51, COUNT + 3), count=st.integers(1, 4), step=st.integers(1, 60))
def test_behind_a_seek_pictures_are_the_same(film, every, start, count, step):
    span = range(start, start + count * step, step)
    part = list(iterate_frames(film, span=span))
    inside = [index for index in span if index < COUNT]
    assert len(part) == len(inside)
    for index, picture in zip(inside, part, strict=True):
        assert np.array_equal(picture, every[index]), index


def test_a_seek_saves_decoding(film):
    first = next(iter(pictures_from(film, Fraction(5))))
    if film.suffix in (".avi", ".mpg", ".mpeg"):  # places in time are known by counting only
        assert first.time_s == 0
    else:
        assert Fraction(2) < first.time_s <= Fraction(5)


def test_times_rise(film):
    with open_media(film, "video") as container:
        times = [picture.time_s for picture in decoded(container)]
    assert times == sorted(set(times))


def test_videos_joined_with_their_clocks_are_named(tmp_path):
    one = write(tmp_path / "one.ts", *FORMS["ts"], count=60)
    (tmp_path / "two.ts").write_bytes(one.read_bytes() * 2)
    with pytest.raises(
        MediaError, match=r"two\.ts holds several videos: .* back from 2\.36 s to 0"
    ):
        list(iterate_frames(tmp_path / "two.ts"))


def ring(width, height, aspect):
    """A ring that is round where pixels are ``aspect`` times as wide as high."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    across, down = (columns - width / 2) * max(aspect, 1), (rows - height / 2) / min(aspect, 1)
    inside = np.hypot(across, down) < 0.4 * min(width * max(aspect, 1), height / min(aspect, 1))
    return np.repeat((inside * 255).astype(np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize("suffix", ["mpg", "ts", "mp4", "mkv"])
@pytest.mark.parametrize(
    ("stored", "aspect", "shown"),
    [((180, 144), Fraction(16, 15), (192, 144)), ((180, 120), Fraction(8, 9), (180, 135))],
)
def test_pixels_come_out_square(tmp_path, suffix, stored, aspect, shown):
    form, codec, options = FORMS[suffix]
    codec = "mpeg2video" if suffix == "mpg" else codec
    path = tmp_path / f"wide.{suffix}"
    paint = ring(*stored, float(aspect))
    write(path, form, codec, options, size=stored, count=5, paint=paint, aspect=aspect)
    for picture in (*islice(iterate_frames(path), 1), read_frames(path, [3])[0].numpy()):
        assert picture.shape == (*shown[::-1], 3)
        rows, columns = np.nonzero(picture[..., 0] > 127)
        assert np.ptp(columns) == pytest.approx(np.ptp(rows), abs=2)
    with pytest.raises(MediaError, match='not square; use backend="pyav"'):
        read_frames(path, [0], backend="decord")


def test_pixels_of_no_shape_are_named(tmp_path):
    path = tmp_path / "odd.mkv"
    write(path, "matroska", "mpeg4", MPEG4, count=2, aspect=Fraction(1, 10))
    with pytest.raises(MediaError, match=r"odd\.mkv says that its pixels are 0\.1 times as wide"):
        read_frames(path, [0])
