"""Videos of the world: whatever a phone, a camera or a converter writes looks as in a player."""

import subprocess
import sys
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest

from loopy.data.media.container import open_media
from loopy.data.media.video_pictures import decoded
from loopy.data.media.video_reader import iterate_frames, read_frames
from loopy.data.media.writer import open_writer
from loopy.errors import MediaError
from loopy.preprocess.sources import probe
from tests.memory import PEAK

BARS = np.array(
    [
        *([191, 191, 191], [191, 191, 0], [0, 191, 191], [0, 191, 0]),
        *([191, 0, 191], [191, 0, 0], [0, 0, 191], [20, 20, 20]),
    ]
)
"""Colour bars of 75 %, and a dark grey in place of black, where errors would be cut off."""
WEIGHTS = {"709": (0.2126, 0.0722), "601": (0.299, 0.114), "240": (0.212, 0.087)}
"""Shares of red and blue in luma: BT.709-6 item 3.2, BT.601-7 section 2.5.1, SMPTE 240M."""
SD, HD = (320, 64), (1280, 64)


def in_planes(colours, matrix, *, full, bits):
    """R'G'B' of 8 bits to Y'CbCr: BT.601-7 section 2.5, BT.709-6 items 3.2 to 3.5; full: JFIF."""
    red_share, blue_share = WEIGHTS[matrix]
    red, green, blue = np.moveaxis(colours / 255, -1, 0)
    luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
    chroma = (blue - luma) / (2 - 2 * blue_share), (red - luma) / (2 - 2 * red_share)
    top, step = 2**bits - 1, 2 ** (bits - 8)
    scales = (top, top, 0, 128 * step) if full else (219 * step, 224 * step, 16 * step, 128 * step)
    return [
        np.round(scales[0] * luma + scales[2]),
        *(np.round(scales[1] * part + scales[3]) for part in chroma),
    ]


def write_frames(path, frames, *, codec="ffv1", options=None, **tags):
    """Frames to a file, with these tags of colour."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            if index == 0:
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = frame.format.name
            for name, value in tags.items():
                setattr(frame, name, value)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frame_of(planes, form, size):
    """A frame whose planes have these rows, all alike."""
    frame = av.VideoFrame(*size, form)
    for plane, row in zip(frame.planes, planes, strict=True):
        kind = np.dtype(np.uint16 if "10" in form else np.uint8)
        filled = np.zeros((plane.height, plane.line_size // kind.itemsize), kind)
        filled[:, : plane.width] = np.repeat(row, plane.width // len(row))
        plane.update(filled.tobytes())
    return frame


def write_bars(path, matrix="709", *, size=SD, full=False, form="yuv420p", **more):
    planes = in_planes(BARS, matrix, full=full, bits=10 if "10" in form else 8)
    return write_frames(path, [frame_of(planes, form, size) for _ in range(25)], **more)


def bars_of(picture):
    """The colours in the middle of the bars."""
    return picture[32, picture.shape[1] // 16 :: picture.shape[1] // 8].astype(int)


COLOURS = {
    "709": ("709", {"colorspace": 1, "color_range": 1}),
    "709 full": ("709", {"colorspace": 1, "color_range": 2, "full": True}),
    "601, 625 lines": ("601", {"colorspace": 5, "color_range": 1}),
    "601, 525 lines": ("601", {"colorspace": 6, "color_range": 1}),
    "601 full": ("601", {"colorspace": 5, "color_range": 2, "full": True}),
    "601 in HD": ("601", {"colorspace": 6, "size": HD}),
    "709 in SD": ("709", {"colorspace": 1, "color_primaries": 1, "color_trc": 1}),
    "240M": ("240", {"colorspace": 7}),
    "sRGB curve": ("709", {"colorspace": 1, "color_trc": 13}),
    "P3": ("709", {"colorspace": 1, "color_primaries": 12}),
    "unnamed SD": ("601", {}),
    "unnamed PAL": ("601", {"size": (720, 576)}),
    "unnamed HD": ("709", {"size": HD}),
    "unnamed tall": ("709", {"size": (320, 578)}),
    "unnamed full": ("601", {"color_range": 2, "full": True}),
    "4:2:2": ("709", {"form": "yuv422p", "colorspace": 1}),
    "4:4:4": ("709", {"form": "yuv444p", "colorspace": 1}),
    "10 bits": ("709", {"form": "yuv420p10le", "colorspace": 1}),
    "10 bits full": ("601", {"form": "yuv420p10le", "color_range": 2, "full": True}),
    "10 bits 4:2:2": ("601", {"form": "yuv422p10le", "colorspace": 6}),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_bars_have_the_colours_of_the_standard(tmp_path, name):
    matrix, how = COLOURS[name]
    path = write_bars(tmp_path / "bars.mkv", matrix, **how)
    assert np.abs(bars_of(next(iterate_frames(path))) - BARS).max() <= 1
    assert np.abs(bars_of(read_frames(path, [1])[0].numpy()) - BARS).max() <= 1
    if name in ("unnamed HD", "unnamed tall"):
        with pytest.raises(MediaError, match='does not name its colours; use backend="pyav"'):
            read_frames(path, [0], backend="decord")
    else:
        fast = read_frames(path, [0], backend="decord")[0].numpy()
        assert np.abs(bars_of(fast) - BARS).max() <= 4


CODECS = {
    "libx264.mp4": ({"options": {"crf": "0"}, "colorspace": 6}, 1),
    "libx264.mov": ({"options": {"crf": "0"}, "colorspace": 6, "color_range": 2, "full": True}, 1),
    "libx265.mp4": (
        {"options": {"x265-params": "log-level=none:lossless=1:bframes=0"}, "colorspace": 6},
        1,
    ),
    "libx265.mkv": (
        {
            "options": {"x265-params": "log-level=none:lossless=1:bframes=0"},
            "colorspace": 6,
            "form": "yuv420p10le",
        },
        1,
    ),
    "libvpx-vp9.webm": ({"options": {"lossless": "1"}, "colorspace": 5}, 1),
    "mjpeg.avi": ({"form": "yuvj420p", "full": True, "options": {"q": "1"}}, 3),
    "mpeg2video.ts": ({"options": {"b": "9000000"}}, 3),
    "prores_ks.mov": ({"form": "yuv422p10le", "colorspace": 6}, 2),
}


@pytest.mark.parametrize("name", CODECS)
def test_colours_survive_codecs_and_containers(tmp_path, name):
    codec, suffix = name.split(".")
    how, levels = CODECS[name]
    path = write_bars(tmp_path / f"bars.{suffix}", "601", codec=codec, **how)
    assert np.abs(bars_of(next(iterate_frames(path))) - BARS).max() <= levels


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_our_own_videos_are_written_by_the_standard(tmp_path, suffix):
    picture = np.repeat(np.repeat(BARS[None], 40, 1), 64, 0).astype(np.uint8)
    with open_writer(tmp_path / f"own.{suffix}", crf=1) as writer:
        writer.write(np.stack([picture] * 3))
    with open_media(tmp_path / f"own.{suffix}", "video") as container:
        frame = next(decoded(container)).frame
    tags = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
    assert tags[:3] == (1, 1, 1)
    assert tags[3] in (0, 1)
    stored = frame.to_ndarray()  # the planes as they are, below each other
    wanted = in_planes(BARS, "709", full=False, bits=8)
    assert np.abs(stored[32, 20::40] - wanted[0]).max() <= 1
    chroma = stored[64:].reshape(2, 32, 160)
    for found, expected in zip(chroma, wanted[1:], strict=True):
        assert np.abs(found[16, 10::20].astype(int) - expected).max() <= 1
    seen = next(iterate_frames(tmp_path / f"own.{suffix}"))
    assert np.abs(bars_of(seen) - BARS).max() <= 2


HDR = {
    "HLG": ({"color_trc": 18, "color_primaries": 9, "colorspace": 9}, r"HDR \(HLG\)"),
    "PQ": ({"color_trc": 16, "color_primaries": 9, "colorspace": 9}, r"HDR \(PQ\)"),
    "PQ of P3": ({"color_trc": 16, "color_primaries": 12, "colorspace": 1}, r"HDR \(PQ\)"),
    "HLG of 709": ({"color_trc": 18, "color_primaries": 1, "colorspace": 1}, r"HDR \(HLG\)"),
    "wide": ({"color_trc": 14, "color_primaries": 9, "colorspace": 9}, r"wide colours"),
    "wide, half named": ({"colorspace": 9}, r"wide colours \(BT\.2020\)"),
    "constant luminance": ({"colorspace": 10}, r"wide colours \(BT\.2020\)"),
    "ICtCp": ({"colorspace": 14}, "matrix 14 of H.273"),
    "YCgCo": ({"colorspace": 8}, "matrix 8 of H.273"),
}  # fmt: skip


@pytest.mark.parametrize("name", HDR)
def test_what_would_look_wrong_is_refused(tmp_path, name):
    tags, words = HDR[name]
    path = write_bars(tmp_path / "phone.mov", form="yuv420p10le", codec="libx264", **tags)
    for backend in ("pyav", "decord"):
        with pytest.raises(MediaError, match=rf"phone\.mov is .*{words}.*; convert it to SDR"):
            read_frames(path, [0], backend=backend)
    with pytest.raises(MediaError, match=words):
        probe(path)


def squares(size=(96, 64)):
    """Grey squares of 16 px, none like its neighbours' or mirrored ones'."""
    width, height = size
    shades = np.random.default_rng(0).permutation(np.linspace(16, 235, width * height // 256))
    return np.kron(shades.reshape(height // 16, width // 16), np.ones((16, 16))).astype(np.uint8)


def lay(path, *matrix):
    """Writes a, b, c, d of the display matrix into an mp4."""
    data = path.read_bytes()
    a, b, c, d = (round(value * 2**16) for value in matrix)
    one, unit = 2**16, 2**30
    old, new = (
        np.array(values, ">i4").tobytes()
        for values in ([one, 0, 0, 0, one, 0, 0, 0, unit], [a, b, 0, c, d, 0, 0, 0, unit])
    )
    at = data.index(old, data.index(b"tkhd"))
    laid = path.with_name("laid.mp4")
    laid.write_bytes(data[:at] + new + data[at + len(old) :])
    return laid


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    grey = np.full((96, 96), 128, np.uint8)
    grey[:64] = squares()
    frames = [av.VideoFrame.from_ndarray(grey, "yuv420p") for _ in range(3)]
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    return write_frames(path, frames, codec="libx264", options={"crf": "1"}, colorspace=6)


# x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 6.2.2), as numpy says it
ORIENTATIONS = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, 1, -1, 0): lambda p: p.swapaxes(0, 1)[:, ::-1],
    (0, -1, 1, 0): lambda p: p.swapaxes(0, 1)[::-1],
    (0, -1, -1, 0): lambda p: p.swapaxes(0, 1)[::-1, ::-1],
    (2, 0, 0, 2): lambda p: p,  # larger, which players leave to the window
    (0.01, 1, -1, 0.01): lambda p: p.swapaxes(0, 1)[:, ::-1],  # half a degree
    (0, 0, 0, 0): lambda p: p,
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_pictures_are_upright_however_they_lie(plain, matrix):
    laid = lay(plain, *matrix)
    straight = next(iterate_frames(plain))
    expected = ORIENTATIONS[matrix](straight)
    for picture in (next(iterate_frames(laid)), read_frames(laid, [2])[0].numpy()):
        assert np.array_equal(picture, expected)
    about = probe(laid)
    assert (about.height_px, about.width_px) == expected.shape[:2]
    if expected is straight:
        fast = read_frames(laid, [0], backend="decord")[0].numpy()
        assert np.abs(fast.astype(int) - expected).max() <= 4
    else:
        with pytest.raises(MediaError, match='turned or mirrored; use backend="pyav"'):
            read_frames(laid, [0], backend="decord")


def test_narrow_pixels_are_made_square_before_they_are_turned(tmp_path):
    grey = np.full((96, 96), 128, np.uint8)
    grey[:64] = squares()
    frames = [av.VideoFrame.from_ndarray(grey, "yuv420p") for _ in range(3)]
    with av.open(str(tmp_path / "plain.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    straight = next(iterate_frames(tmp_path / "plain.mp4"))
    assert straight.shape == (64, 128, 3)
    laid = lay(tmp_path / "plain.mp4", 0, 1, -1, 0)
    assert np.array_equal(next(iterate_frames(laid)), straight.swapaxes(0, 1)[:, ::-1])
    assert (probe(laid).width_px, probe(laid).height_px) == (64, 128)


@pytest.mark.parametrize("degrees", [5, 45, 100, -30])
def test_a_slant_is_refused(plain, degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    with pytest.raises(MediaError, match=r"laid\.mp4 is shown at a slant .* turn it upright"):
        next(iterate_frames(lay(plain, cosine, sine, -sine, cosine)))


COUNT, WIDE, HIGH = 80, 160, 96


def moments(field):
    """Luma at a moment: a bright bar that moves 2 px a field, before a still pattern of rows."""
    luma = np.full((HIGH, WIDE), 60, np.uint8)
    luma[:16] = np.where(np.arange(16)[:, None] % 8 < 4, 40, 90)
    luma[32:80, (10 + 2 * field) % 100 : (10 + 2 * field) % 100 + 40] = 200
    return luma


def woven(index):
    """Even rows of one moment, odd rows of the next."""
    luma = moments(2 * index)
    luma[1::2] = moments(2 * index + 1)[1::2]
    return luma


def grey_frame(luma):
    padded = np.full((HIGH * 3 // 2, WIDE), 128, np.uint8)
    padded[:HIGH] = luma
    return av.VideoFrame.from_ndarray(padded, "yuv420p")


def comb(picture):
    """How far rows differ from both of their neighbours, in levels."""
    rows = picture[36:76, :, 0].astype(float)
    return np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean()


FIELDS = {
    "mp4": ("libx264", {"crf": "1", "x264-params": "tff=1:keyint=20:scenecut=0"}),
    "mkv": ("libx264", {"crf": "1", "x264-params": "bff=1:keyint=20:scenecut=0"}),
    "mpg": ("mpeg2video", {"flags": "+ildct+ilme", "g": "12", "bf": "2", "b": "9000000"}),
    "ts": ("mpeg2video", {"flags": "+ildct+ilme", "g": "12", "bf": "2", "b": "9000000"}),
}


@pytest.fixture(scope="module", params=FIELDS)
def interlaced(request, tmp_path_factory):
    codec, options = FIELDS[request.param]
    path = tmp_path_factory.mktemp("fields") / f"fields.{request.param}"
    frames = [grey_frame(woven(index)) for index in range(COUNT)]
    return write_frames(path, frames, codec=codec, options=options, colorspace=6)


def test_interlaced_pictures_have_no_comb(interlaced):
    with open_media(interlaced, "video") as container:
        pictures = list(decoded(container))
    with av.open(str(interlaced)) as container:
        stored = list(container.decode(video=0))
    assert all(frame.interlaced_frame for frame in stored)
    assert comb(stored[30].to_ndarray(format="rgb24")) > 4
    assert len(pictures) == len(stored) == COUNT
    start = stored[0].pts * stored[0].time_base
    for picture, frame in zip(pictures, stored, strict=True):
        assert picture.time_s == frame.pts * frame.time_base - start
        assert picture.frame.key_frame == frame.key_frame
        assert picture.frame.colorspace == frame.colorspace
        assert comb(picture.rgb()) < 1
    shown, still = pictures[30].rgb()[..., 0].astype(int), slice(2, 14)
    assert np.abs(shown[still] - moments(0)[still]).max() < 60  # fine rows stay
    with pytest.raises(MediaError, match='is interlaced; use backend="pyav"'):
        read_frames(interlaced, [0], backend="decord")


def test_interlaced_pictures_can_be_turned(tmp_path):
    codec, options = FIELDS["mp4"]
    frames = [grey_frame(woven(index)) for index in range(6)]
    path = write_frames(tmp_path / "f.mp4", frames, codec=codec, options=options, colorspace=6)
    straight = list(iterate_frames(path))
    for shown, picture in zip(iterate_frames(lay(path, 0, 1, 1, 0)), straight, strict=True):
        assert np.array_equal(shown, picture.swapaxes(0, 1))


GROWTH = f"""
{PEAK}
import sys
from loopy.data.media.video_reader import iterate_frames
for path in sys.argv[1:]:
    for index, _ in enumerate(iterate_frames(path)):
        if index == 20: before = peak_kib()
    print(index, (peak_kib() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_a_film(tmp_path):
    """90 frames of 1280 x 720 are 125 MB in the form of the decoder; interlaced ones too."""
    grey = np.full((1080, 1280), 128, np.uint8)
    paths = list[str]()
    for name, fields in {"whole": "", "fields": "tff=1"}.items():
        frames = (av.VideoFrame.from_ndarray(grey, "yuv420p") for _ in range(90))
        options = {"preset": "ultrafast", "x264-params": fields}
        path = write_frames(tmp_path / f"{name}.mp4", frames, codec="libx264", options=options)
        paths.append(str(path))
    command = [sys.executable, "-c", GROWTH, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        last, grown_mb = line.split()
        assert int(last) == 89
        assert float(grown_mb) < 60
    assert len(done.stdout.splitlines()) == 2


def test_behind_a_seek_interlaced_pictures_are_the_same(interlaced):
    every = list(iterate_frames(interlaced))
    for first in (60, 63, 72):
        for index, picture in enumerate(iterate_frames(interlaced, span=range(first, first + 4))):
            assert np.array_equal(picture, every[first + index]), first + index


def test_the_last_moments_are_their_own(interlaced):
    """The bar stands where the first field of its frame has it, from the first to the last."""
    for index, picture in enumerate(iterate_frames(interlaced)):
        left, bright = (10 + 4 * index) % 100, np.nonzero(picture[56, :, 0] > 130)[0]
        assert abs(bright[0] - left) <= 3 or left == 98  # where it begins anew in the second field


def test_what_is_not_interlaced_is_not_touched(tmp_path):
    """Frames that are combed, but do not say so; and some that do, in the middle of a file."""
    frames = [grey_frame(woven(index)) for index in range(20)]
    path = write_frames(tmp_path / "silent.mkv", frames, colorspace=6)
    for index, picture in enumerate(iterate_frames(path)):
        wanted = frame_rgb(woven(index))
        assert np.array_equal(picture[..., 0], wanted)


def frame_rgb(luma):
    """Grey of limited range."""
    return ((luma.astype(float) - 16) * 255 / 219).round().clip(0, 255).astype(np.uint8)


def test_a_video_of_two_sizes_is_named(tmp_path):
    """As broadcasts and screen recordings are, read in order or frame by frame."""
    with av.open(str(tmp_path / "grows.ts"), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        larger = av.CodecContext.create("mpeg2video", "w")
        larger.width, larger.height, larger.pix_fmt = 320, 192, "yuv420p"
        larger.framerate, larger.time_base = 25, Fraction(1, 25)
        for encoder, first in ((stream, 0), (larger, 30)):
            frames = []
            for index in range(30):
                shades = np.full((encoder.height, encoder.width, 3), 9 * (index % 7), np.uint8)
                frames.append(av.VideoFrame.from_ndarray(shades))
                frames[-1].pts = first + index
            for packet in [packet for frame in (*frames, None) for packet in encoder.encode(frame)]:
                packet.stream = stream
                container.mux(packet)
    words = r"grows\.ts changes its size from \(160, 96\) to \(320, 192\) at 1\.20 s; cut it"
    with pytest.raises(MediaError, match=words):
        list(iterate_frames(tmp_path / "grows.ts"))
    with pytest.raises(MediaError, match="changes its size"):
        read_frames(tmp_path / "grows.ts", [3, 50])


def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path):
    big = av.VideoFrame(8208, 8192, "gray")
    path = write_frames(tmp_path / "huge.mkv", [big], codec="rawvideo")
    words = r"huge\.mkv has pictures of 8208 x 8192 px, over 67108864 in all; shrink it"
    for look in (lambda: next(iterate_frames(path)), lambda: probe(path)):
        with pytest.raises(MediaError, match=words):
            look()


def test_some_of_a_film_can_be_interlaced(tmp_path):
    """Parts joined: progressive, then interlaced, then progressive again."""
    codec, options = FIELDS["ts"]
    plain_frames = [grey_frame(moments(2 * index)) for index in range(24)]
    fields = [grey_frame(woven(index)) for index in range(24)]
    parts = [
        write_frames(tmp_path / "a.ts", plain_frames, codec=codec, options={"b": "9000000"}),
        write_frames(tmp_path / "b.ts", fields, codec=codec, options=options),
    ]
    with av.open(str(tmp_path / "film.mkv"), "w") as film:
        offset, stream = 0, None
        for path in (*parts, parts[0]):
            with av.open(str(path)) as part:
                stored = part.streams.video[0]
                stream = stream or film.add_stream_from_template(stored)
                first = None
                for packet in part.demux(stored):
                    if packet.dts is None:
                        continue
                    first = packet.pts if first is None else first
                    packet.pts += offset - first
                    packet.dts += offset - first
                    packet.stream = stream
                    film.mux(packet)
                offset += round(24 / 25 / stored.time_base)
    with av.open(str(tmp_path / "film.mkv")) as container:
        flags = [frame.interlaced_frame for frame in container.decode(video=0)]
    assert flags == [False] * 24 + [True] * 24 + [False] * 24
    with open_media(tmp_path / "film.mkv", "video") as container:
        pictures = [picture.rgb() for picture in decoded(container)]
    assert len(pictures) == 72
    assert max(comb(picture) for picture in pictures) < 1
    with open_media(tmp_path / "film.mkv", "video") as container:
        raw = [frame.to_ndarray() for frame in container.decode(video=0)]
    with open_media(tmp_path / "film.mkv", "video") as container:
        for picture, planes in islice(zip(decoded(container), raw, strict=True), 24):
            assert np.array_equal(picture.frame.to_ndarray(), planes)
