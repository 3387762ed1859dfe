"""Sounds of the world: wherever they begin, whatever they are made of, nothing is lost or late."""

from fractions import Fraction

import av
import numpy as np
import pytest

from loopy.data.media.container import open_media, sound_stream, start_s
from loopy.data.media.sound import as_samples, read_audio
from loopy.data.media.sound_blocks import sound_blocks
from loopy.data.media.video import Video
from loopy.data.media.writer import open_writer
from loopy.timing import frame_count

RATE_HZ = 16_000
PICTURES = np.zeros((25, 16, 16, 3), np.uint8)
SHIFTS_S = [(0, 0), (1.5, 0), (0.033, 0), (0, 1.2), (2, 2), (0.7, 1), (1, 0.25), (0, 0.003)]
FORMS = [  # suffix, codec, rate, layout; seconds of padding that the form cannot name
    ("wav", "pcm_s16le", 8_000, "mono", 0),
    ("wav", "pcm_s24le", 44_100, "stereo", 0),
    ("wav", "pcm_s32le", 48_000, "5.1", 0),
    ("wav", "pcm_f32le", 192_000, "mono", 0),
    ("wav", "pcm_f64le", 11_025, "stereo", 0),
    ("wav", "pcm_mulaw", 8_000, "mono", 0),
    ("w64", "pcm_s16le", 22_050, "7.1", 0),
    ("aiff", "pcm_s16be", 32_000, "stereo", 0),
    ("flac", "flac", 96_000, "7.1", 0),
    ("flac", "flac", 24_000, "3.0", 0),
    ("mp3", "libmp3lame", 44_100, "stereo", 0),
    ("mp3", "libmp3lame", 16_000, "mono", 0),
    ("m4a", "aac", 48_000, "stereo", 0),
    ("m4a", "aac", 8_000, "mono", 0),
    ("m4a", "alac", 44_100, "stereo", 0),
    ("aac", "aac", 44_100, "mono", 1024),
    ("opus", "libopus", 48_000, "mono", 0),
    ("ogg", "libopus", 24_000, "5.1", 0),
    ("ogg", "flac", 44_100, "stereo", 0),
    ("mkv", "aac", 44_100, "stereo", 0),
    ("mkv", "pcm_s16le", 192_000, "quad", 0),
    ("mov", "aac", 22_050, "mono", 0),
    ("webm", "libopus", 48_000, "7.1", 0),
    ("ts", "aac", 48_000, "stereo", 1024),
    ("ts", "mp2", 44_100, "mono", 481),
    ("avi", "pcm_s16le", 44_100, "stereo", 0),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form[:4])))
def test_clicks_stay_in_their_place_in_samples_and_in_the_track(
    tmp_path, beeps, write_sound, burst_times_s, form
):
    suffix, codec, rate_hz, layout, padding = form
    channels = av.AudioLayout(layout).nb_channels
    path = write_sound(
        tmp_path / f"in.{suffix}", beeps(rate_hz, channels=channels), rate_hz, codec, layout=layout
    )
    clicks = np.array([0.5, 1.5, 2.5]) + padding / rate_hz
    samples = read_audio(path)
    assert burst_times_s(samples.numpy(), RATE_HZ)[:3] == pytest.approx(clicks, abs=3e-3)
    assert samples.abs().max() > 0.5
    frames = frame_count(len(samples))
    assert abs(frames - 75) <= 2
    with open_writer(tmp_path / "out.mp4", sound=path) as writer:
        writer.write(PICTURES[:1].repeat(frames, 0))
    track = read_audio(tmp_path / "out.mp4", zero="pictures")
    assert burst_times_s(track.numpy(), RATE_HZ)[:3] == pytest.approx(clicks, abs=3e-3)


@pytest.fixture
def write_shifted(tmp_path, beeps):
    """A video whose clocks start anywhere."""

    def write(suffix, pictures_s, sound_s, *, codec="aac", seconds=3):
        path = tmp_path / f"film.{suffix}"
        with av.open(str(path), "w") as container:
            pictures = container.add_stream("libx264", rate=25, options={"bf": "2"})
            pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
            sound = container.add_stream(codec, rate=48_000, layout="mono")
            grey = av.VideoFrame.from_ndarray(np.full((32, 32), 128, np.uint8), "gray")
            grey.time_base = Fraction(1, 1000)
            packets = []
            for index in range(50):
                grey.pts = round(1000 * pictures_s) + 40 * index
                packets += pictures.encode(grey)
            packed = beeps(48_000, seconds=seconds)
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="mono")
            frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
            frame.pts = round(sound_s * 48_000)
            for packet in (*packets, *pictures.encode(), *sound.encode(frame), *sound.encode()):
                container.mux(packet)
        return path

    return write


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mov", "aac"), ("mkv", "libopus")])
@pytest.mark.parametrize(("pictures_s", "sound_s"), SHIFTS_S)
def test_the_whole_sound_of_a_video_is_spoken(
    write_shifted, tmp_path, burst_times_s, suffix, codec, pictures_s, sound_s
):
    """However sound and pictures are shifted, also before 0: mp4 has edit lists for that."""
    path = write_shifted(suffix, pictures_s, sound_s, codec=codec)
    samples = as_samples(path)
    # an mp4 that begins late has no word for what the encoder puts in front, 21 ms of AAC
    assert len(samples) == pytest.approx(3 * RATE_HZ, abs=2 * 1024 / 3 + 2)
    spoken = burst_times_s(samples.numpy(), RATE_HZ)[:3]
    assert spoken == pytest.approx([0.5, 1.5, 2.5], abs=0.023)
    Video(PICTURES[:1].repeat(frame_count(len(samples)), 0), audio=path).save(tmp_path / "o.mp4")
    track = read_audio(tmp_path / "o.mp4", zero="pictures").numpy()
    assert burst_times_s(track, RATE_HZ)[:3] == pytest.approx(spoken, abs=1e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_cut_without_encoding_keeps_the_whole_sound(write_shifted, tmp_path, suffix):
    """As cutters do it: sound from the cut on, pictures from the next key frame on."""
    source = write_shifted("mkv", 0, 0, codec="aac")
    with (
        av.open(str(source)) as film,
        av.open(str(tmp_path / f"cut.{suffix}"), "w") as cut,
    ):
        pairs = {
            stream.index: cut.add_stream_from_template(stream)
            for stream in (film.streams.video[0], film.streams.audio[0])
        }
        for packet in film.demux():
            if packet.dts is None:
                continue
            kind, time_s = packet.stream.type, float(packet.pts * packet.time_base)
            if time_s < (0.48 if kind == "audio" else 1.2):
                continue
            back = round(0.5 / packet.time_base)
            packet.pts, packet.dts = packet.pts - back, packet.dts - back
            packet.stream = pairs[packet.stream.index]
            cut.mux(packet)
    assert len(as_samples(tmp_path / f"cut.{suffix}")) / RATE_HZ == pytest.approx(2.52, abs=0.03)


def test_pictures_and_sound_of_training_share_their_clock(write_shifted, burst_times_s):
    for pictures_s, sound_s in SHIFTS_S:
        path = write_shifted("mkv", pictures_s, sound_s)
        with open_media(path, "video") as container:
            late = start_s(sound_stream(container)) - start_s(container.streams.video[0])
        heard = read_audio(path, zero="pictures")
        whole = read_audio(path)
        assert len(heard) - len(whole) == pytest.approx(float(late) * RATE_HZ, abs=32)


@pytest.mark.parametrize("seconds", [0.5, 3])
def test_a_track_is_as_long_as_the_pictures(write_shifted, tmp_path, burst_times_s, seconds):
    """Of a sound that is longer or shorter than they are, and begins late in its file."""
    path = write_shifted("mkv", 0, 0.8, seconds=round(seconds + 0.5))
    with open_writer(tmp_path / "out.mp4", sound=path) as writer:
        writer.write(PICTURES.repeat(2, 0))
    track = read_audio(tmp_path / "out.mp4", zero="pictures")
    assert len(track) == pytest.approx(2 * RATE_HZ, abs=1024)
    assert burst_times_s(track.numpy()[:RATE_HZ], RATE_HZ)[0] == pytest.approx(0.5, abs=3e-3)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_the_same_video_has_the_same_bytes(tmp_path, beeps, suffix):
    for name in ("one", "two"):
        with open_writer(tmp_path / f"{name}.{suffix}", sound=beeps(RATE_HZ)[0]) as writer:
            writer.write(PICTURES)
    one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two


def test_blocks_are_small(tmp_path, write_sound):
    path = write_sound(tmp_path / "in.wav", np.zeros((2, 480_000)), 48_000, "pcm_s16le")
    with open_media(path, "sound") as container:
        blocks = list(sound_blocks(container, rate_hz=RATE_HZ, zero="sound"))
    assert max(block.samples.shape[1] for block in blocks) <= 65_536
    assert sum(block.samples.shape[1] for block in blocks) == pytest.approx(160_000, abs=1)
