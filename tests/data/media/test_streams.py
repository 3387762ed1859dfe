"""Which of several sounds and pictures of a file count: those that players play."""

from fractions import Fraction
from itertools import permutations

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from loopy.data.media.container import open_media, picture_stream, sound_stream
from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames, read_frames
from loopy.data.media.writer import open_writer
from loopy.errors import MediaError
from loopy.preprocess.sources import probe

RATE_HZ, SECONDS = 16_000, 2
CANDIDATES = ("comment", "hearing_impaired", "visual_impaired")


def write_sounds(path, flags):
    """Sounds of which number n is a tone of 300 (n + 1) Hz."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("aac", rate=RATE_HZ, layout="mono") for _ in flags]
        for stream, flag in zip(streams, flags, strict=True):
            stream.disposition = flag.value  # PyAV 17 takes numbers only
        packets = []
        for number, stream in enumerate(streams):
            phase = 2 * np.pi * 300 * (number + 1) * np.arange(SECONDS * RATE_HZ) / RATE_HZ
            tone = (0.5 * np.sin(phase)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
            packets += [*stream.encode(frame), *stream.encode()]
        for packet in packets:
            container.mux(packet)
    return path


def heard(samples):
    """The number of the sound, by its tone."""
    spectrum = np.abs(np.fft.rfft(np.asarray(samples)[4_000:20_000]))
    return round(float(spectrum.argmax()) / 300) - 1


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("count", [2, 3])
def test_the_flagged_sound_is_heard_wherever_it_stands(tmp_path, suffix, count):
    for wanted in range(count):
        flags = [Disposition(0)] * count
        flags[wanted] = Disposition.default
        path = write_sounds(tmp_path / f"film.{suffix}", flags)
        words = rf"has {count} sounds; number {wanted + 1} \(.*\) is used.* ffmpeg"
        with pytest.warns(UserWarning, match=words) as said:
            samples = read_audio(path)
        assert len(said) == 1
        assert heard(samples) == wanted
        with open_writer(tmp_path / "out.mp4", sound=path) as writer:
            writer.write(np.zeros((50, 16, 16, 3), np.uint8))
        assert heard(read_audio(tmp_path / "out.mp4")) == wanted


@pytest.mark.parametrize("aside", CANDIDATES)
@pytest.mark.filterwarnings("ignore:.* sounds; number")
def test_commentary_and_the_like_are_not_heard(tmp_path, aside):
    for wanted in (0, 2):
        flags = [getattr(Disposition, aside)] * 3
        flags[wanted] = Disposition(0)
        assert heard(read_audio(write_sounds(tmp_path / "film.mkv", flags))) == wanted
        all_default = [flag | Disposition.default for flag in flags]
        assert heard(read_audio(write_sounds(tmp_path / "film.mkv", all_default))) == wanted


@pytest.mark.filterwarnings("ignore:.* sounds; number")
def test_without_flags_the_first_is_heard(tmp_path):
    assert heard(read_audio(write_sounds(tmp_path / "film.mkv", [Disposition(0)] * 2))) == 0
    assert heard(read_audio(write_sounds(tmp_path / "film.mkv", [Disposition.default] * 2))) == 0


def write_pictures(path, kinds):
    """Streams of pictures, each of its own size: number n has 32 (n + 1) pixels a side."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, kind in enumerate(kinds):
            still = kind & (Disposition.attached_pic | Disposition.still_image)
            stream = container.add_stream("mjpeg" if still else "libx264", rate=25)
            stream.width = stream.height = 32 * (number + 1)
            stream.pix_fmt = "yuvj420p" if still else "yuv420p"
            stream.disposition = kind.value
            streams.append((stream, 1 if still else 25))
        for stream, count in streams:
            grey = np.full((stream.height, stream.width, 3), 100, np.uint8)
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_flagged_pictures_are_seen_and_no_still(tmp_path, suffix):
    plain, default = Disposition(0), Disposition.default
    # an mp4 names covers elsewhere than among its tracks
    still = Disposition.still_image if suffix == "mkv" else plain
    kinds = {"plain": plain, "default": default} | ({"still": still} if still else {})
    for order in permutations(kinds):
        path = write_pictures(tmp_path / f"film.{suffix}", [kinds[name] for name in order])
        side = 32 * (order.index("default") + 1)
        shown = list(iterate_frames(path))
        assert {frame.shape for frame in shown} == {(side, side, 3)}
        assert len(shown) == 25
        about = probe(path)
        assert (about.width_px, about.height_px, about.seconds) == (side, side, 1)
        with pytest.raises(MediaError, match='several streams of pictures; use backend="pyav"'):
            read_frames(path, [3], backend="decord")


def test_a_cover_is_no_video(tmp_path, beeps):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cover.jpg")
    with (
        av.open(str(tmp_path / "cover.jpg")) as cover,
        av.open(str(tmp_path / "song.mp4"), "w") as song,
    ):
        pictures = song.add_stream_from_template(cover.streams.video[0])
        pictures.disposition = Disposition.attached_pic.value
        sound = song.add_stream("aac", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(beeps(RATE_HZ), format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
        packets = [*sound.encode(frame), *sound.encode()]
        for packet in cover.demux(cover.streams.video[0]):
            if packet.size:
                packet.stream = pictures
                song.mux(packet)
        for packet in packets:
            song.mux(packet)
    with open_media(tmp_path / "song.mp4", "video") as container:
        assert container.streams.video
        assert picture_stream(container) is None
    with pytest.raises(MediaError, match=r"song\.mp4 has no pictures"):
        next(iterate_frames(tmp_path / "song.mp4"))


def damage_codec(path, names, new):
    data = path.read_bytes()
    for name in names:
        assert name in data
        data = data.replace(name, new)
    path.write_bytes(data)


def test_codecs_that_are_not_known_are_named(tmp_path, write_video, write_sound, beeps):
    sound = write_sound(tmp_path / "voice.wav", beeps(RATE_HZ), RATE_HZ, "pcm_s16le")
    data = bytearray(sound.read_bytes())
    data[20:22] = b"\x34\x12"
    sound.write_bytes(data)
    words = r"voice\.wav cannot be decoded: FFmpeg does not know its codec"
    with pytest.raises(MediaError, match=words):
        read_audio(sound)
    with pytest.raises(MediaError, match=words), open_writer(tmp_path / "o.mp4", sound=sound):
        pytest.fail("opened")
    film = write_video(tmp_path / "film.mp4", [i / 25 for i in range(25)], sound_start_s=0)
    damage_codec(film, [b"avc1"], b"abcd")
    words = r"film\.mp4 (has no pictures|cannot be decoded)"
    for look in (lambda: next(iterate_frames(film)), lambda: probe(film)):
        with pytest.raises(MediaError, match=words):
            look()
    assert len(read_audio(film)) > 16_000  # its sound is intact
    assert len(read_audio(film, zero="pictures")) > 16_000


@pytest.mark.filterwarnings("ignore:.* sounds; number")
def test_a_sound_that_can_be_decoded_is_taken(tmp_path):
    path = write_sounds(tmp_path / "film.mkv", [Disposition.default, Disposition(0)])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"A_AAC", b"A_XXX", 1))
    with open_media(path, "sound") as container:
        assert sound_stream(container).index == 1
    assert heard(read_audio(path)) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.wav", "ffconcat version 1.0\nfile ok.wav\nduration 3500\nfile ok.wav\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\nok.wav\n#EXT-X-ENDLIST\n"),
        (
            "list.mkv",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT3S"><Period><AdaptationSet mimeType="audio/mp4">'
            '<Representation id="1" bandwidth="1"><BaseURL>ok.wav</BaseURL><SegmentBase/>'
            "</Representation></AdaptationSet></Period></MPD>",
        ),
        ("list.m4a", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 5004 RTP/AVP 0\n"),
        ("pictures%03d.png", "P5 1 1 255 x"),
    ],
)  # fmt: skip
def test_lists_of_other_files_are_not_opened(tmp_path, write_sound, beeps, name, text):
    write_sound(tmp_path / "ok.wav", beeps(RATE_HZ), RATE_HZ, "pcm_s16le")
    (tmp_path / name).write_text(text)
    for read in (read_audio, lambda path: list(iterate_frames(path))):
        with pytest.raises(MediaError, match="cannot be decoded"):
            read(tmp_path / name)
