import contextlib
import sys
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopy.data.sound import check_audio, read_audio
from loopy.errors import DependencyError, LoopyError, MediaError

FORMATS = [
    ("wav", "pcm_u8", 8_000),
    ("wav", "pcm_s16le", 16_000),
    ("wav", "pcm_s24le", 44_100),
    ("wav", "pcm_f32le", 192_000),
    ("flac", "flac", 96_000),
    ("mp3", "libmp3lame", 22_050),
    ("mp3", "libmp3lame", 44_100),
    ("m4a", "aac", 8_000),
    ("m4a", "aac", 48_000),
    ("ogg", "libopus", 48_000),
    ("webm", "libopus", 16_000),
    ("mp4", "aac", 32_000),
    ("mkv", "libmp3lame", 48_000),
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("suffix", "codec", "rate_hz"), FORMATS)
def test_bursts_stay_in_their_place(
    tmp_path, beeps, write_sound, burst_times_s, suffix, codec, rate_hz, channels
):
    path = write_sound(
        tmp_path / f"beeps.{suffix}", beeps(rate_hz, channels=channels), rate_hz, codec
    )
    samples = read_audio(path)
    assert samples.dtype == torch.float32
    assert burst_times_s(samples.numpy(), 16_000) == pytest.approx([0.5, 1.5, 2.5], abs=1e-3)
    slack = 1 if suffix in ("wav", "flac") else 1 + 1152 * 16_000 / rate_hz  # one lossy frame
    assert abs(len(samples) - 48_000) <= slack


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate_hz=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000]),
    seconds=st.floats(0.05, 0.7),
)
def test_length_is_duration_at_16_khz(tmp_path, write_sound, rate_hz, seconds):
    count = round(seconds * rate_hz)
    path = write_sound(tmp_path / "noise.wav", np.zeros((1, count)), rate_hz, "pcm_f32le")
    assert abs(len(read_audio(path)) - count * 16_000 / rate_hz) <= 1
    in_memory = check_audio(torch.zeros(count), rate_hz=rate_hz)
    assert abs(len(in_memory) - count * 16_000 / rate_hz) <= 1


def test_16_khz_float_wave_is_returned_to_the_bit(tmp_path, write_sound):
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 5_000)).astype(np.float32)
    path = write_sound(tmp_path / "noise.wav", noise, 16_000, "pcm_f32le")
    assert torch.equal(read_audio(path), torch.from_numpy(noise[0]))


def test_channels_are_averaged(tmp_path, write_sound):
    parts = np.arange(1, 7)[:, None] / 10 * np.ones((6, 8_000))
    surround = write_sound(tmp_path / "six.wav", parts, 16_000, "pcm_f32le")
    assert read_audio(surround).numpy() == pytest.approx(0.35, abs=1e-6)
    opposite = write_sound(tmp_path / "two.wav", parts[:2] - 0.15, 16_000, "pcm_f32le")
    assert read_audio(opposite).numpy() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7, 8, 12])
def test_waves_that_name_no_layout(tmp_path, channels):
    samples = np.arange(channels, dtype="<i2") * 1_000
    with wave.open(str(tmp_path / "bare.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples[None].repeat(16_000, 0).tobytes())
    mean = (channels - 1) * 500 / 32_768
    assert read_audio(tmp_path / "bare.wav").numpy() == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(("tone_hz", "gain"), [(1_000, 1), (6_000, 1), (9_000, 0), (14_000, 0)])
def test_voice_passes_and_what_would_alias_does_not(
    tmp_path, write_sound, tone_hz, gain, in_memory
):
    tone = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(44_100) / 44_100).astype(np.float32)
    if in_memory:
        samples = check_audio(tone, rate_hz=44_100)
    else:
        samples = read_audio(write_sound(tmp_path / "t.wav", tone[None], 44_100, "pcm_f32le"))
    middle = samples[2_000:-2_000]
    assert middle.std() == pytest.approx(gain * 0.5 / 2**0.5, abs=2e-3)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("pictures_s", "sound_s"), [(0, 0), (1, 0), (0, 0.25), (1.5, 1.5)])
def test_sound_of_a_video_starts_with_its_pictures(
    tmp_path, write_video, burst_times_s, suffix, pictures_s, sound_s
):
    path = write_video(
        tmp_path / f"late.{suffix}",
        [index / 25 for index in range(75)],
        sound_start_s=sound_s,
        pictures_start_s=pictures_s,
    )
    late = sound_s - pictures_s
    found = burst_times_s(read_audio(path).numpy(), 16_000)
    expected = [0.5 + late % 1, 1.5 + late % 1]  # a second more or less shows other beeps
    assert found[:2] == pytest.approx(expected, abs=1e-3)


@pytest.fixture
def write_placed(tmp_path, beeps):
    """Plain samples in mkv, in packets of 10 ms of which each has its place in time."""

    def write(place_s, *, name="placed.mkv", pictures=False, seconds=3):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
            if pictures:
                shown = container.add_stream("libx264", rate=25)
                shown.width, shown.height, shown.pix_fmt = 32, 32, "yuv420p"
                grey = av.VideoFrame.from_ndarray(np.full((32, 32), 128, np.uint8), "gray")
                for grey.pts in range(25 * seconds):
                    container.mux(shown.encode(grey))
                container.mux(shown.encode())
            samples = (beeps(16_000, seconds=seconds) * 32_767).astype(np.int16)
            for index in range(seconds * 100):
                part = np.ascontiguousarray(samples[:, index * 160 : (index + 1) * 160])
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
                frame.pts = round(place_s(index / 100) * 16_000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return tmp_path / name

    return write


def test_time_stamps_that_tremble_change_nothing(write_placed):
    straight = read_audio(write_placed(lambda time: time))
    trembling = read_audio(write_placed(lambda time: time + round(time * 100) % 3 / 200))
    assert torch.equal(trembling, straight)


def test_a_clock_that_is_too_slow_or_fast_is_followed(write_placed, burst_times_s):
    for pace in (0.97, 1.03):
        path = write_placed(lambda time, pace=pace: time * pace, pictures=True)
        heard = burst_times_s(read_audio(path).numpy(), 16_000)
        assert heard[:2] == pytest.approx([0.5 * pace, 1.5 * pace], abs=0.021)


def test_sound_of_a_time_that_is_over_is_left_out(write_placed, burst_times_s):
    """From 1.3 s on the clock reads 0.25 s less, the frames before were squeezed together."""

    def overlapping(time):
        return time if time < 1 else 1 + (time - 1) / 10 if time < 1.3 else time - 0.25

    samples = read_audio(write_placed(overlapping, pictures=True))
    times = burst_times_s(samples.numpy()[12_000:], 16_000)
    assert times == pytest.approx([0.5, 1.5], abs=0.02)
    assert len(samples) == pytest.approx(2.75 * 16_000, abs=320)


def test_a_hole_in_sound_alone_is_silent(write_placed, burst_times_s):
    path = write_placed(lambda time: time + (time >= 1) * 1.2)
    samples = read_audio(path).numpy()
    assert burst_times_s(samples[:16_000], 16_000) == pytest.approx([0.5], abs=1e-3)
    assert not samples[16_010:35_190].any()
    assert burst_times_s(samples[35_200:], 16_000) == pytest.approx([0.5, 1.5], abs=1.1e-3)


@pytest.mark.parametrize("late_s", [0, 4_000], ids=["in the middle", "at the start"])
def test_a_jump_of_hours_is_named(write_placed, late_s):
    path = write_placed(lambda time: time + max(late_s, (time >= 1) * 4_000), pictures=True)
    with pytest.raises(MediaError, match=r"placed\.mkv jumps from \d\.00 s to 400\d\.00 s"):
        read_audio(path)


def test_sounds_in_a_row_follow_each_other(tmp_path, beeps, write_sound, burst_times_s):
    """Ogg files may be joined; each brings its own clock, which starts again."""
    one = write_sound(tmp_path / "one.opus", beeps(48_000, seconds=1), 48_000, "libopus")
    (tmp_path / "two.opus").write_bytes(one.read_bytes() * 2)
    times = burst_times_s(read_audio(tmp_path / "two.opus").numpy(), 16_000)
    assert times == pytest.approx([0.5, 1.5], abs=0.02)


def test_file_that_changes_its_format_on_the_way(tmp_path, beeps, write_sound, burst_times_s):
    parts = [(44_100, 1), (44_100, 2), (22_050, 1)]
    joined = tmp_path / "joined.aac"
    for rate_hz, channels in parts:
        one = beeps(rate_hz, seconds=1, channels=channels)
        part = write_sound(tmp_path / "part.aac", one, rate_hz, "aac")
        with joined.open("ab") as file:
            file.write(part.read_bytes())
    times = burst_times_s(read_audio(joined).numpy(), 16_000)
    assert times[:3] == pytest.approx([0.5, 1.5, 2.5], abs=0.2)  # lossy padding at each joint


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "m4a"])
def test_damage_is_heard_or_named(tmp_path, beeps, write_sound, suffix):
    """Bytes overwritten anywhere: samples all the same, or a MediaError, and nothing else."""
    codec = {"wav": "pcm_s16le", "mp3": "libmp3lame", "flac": "flac", "m4a": "aac"}[suffix]
    path = write_sound(tmp_path / f"in.{suffix}", beeps(22_050, seconds=1), 22_050, codec)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    for places in (1, 3, 30) * 5:
        data = whole.copy()
        data[random.integers(0, len(data), places)] = random.integers(0, 256, places)
        path.write_bytes(data.tobytes())
        with contextlib.suppress(MediaError):
            assert read_audio(path).isfinite().all()


def test_old_tags_and_odd_names_do_no_harm(tmp_path, beeps, write_sound):
    path = write_sound(tmp_path / "a:b %03d.mp3", beeps(44_100), 44_100, "libmp3lame")
    plain = read_audio(path)
    tag = b"TIT2" + bytes([0, 0, 0, 5, 0, 0, 0]) + b"\xe9t\xe9!"  # an ID3 title in Latin-1
    path.write_bytes(b"ID3\x03\x00\x00" + bytes([0, 0, 0, len(tag)]) + tag + path.read_bytes())
    assert abs(len(read_audio(path)) - len(plain)) <= 2 * 1152


def test_bad_sound_files_are_named(tmp_path, write_sound, write_video):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "words.wav").write_text("no sound at all")
    (tmp_path / "words.txt").write_text("no sound at all")
    write_video(tmp_path / "silent.mp4", [index / 25 for index in range(25)])
    write_sound(tmp_path / "short.wav", np.zeros((1, 639)), 16_000, "pcm_s16le")
    write_sound(tmp_path / "long.m4a", np.zeros((1, 48_000)), 16_000, "aac")
    half = (tmp_path / "long.m4a").read_bytes()
    (tmp_path / "half.m4a").write_bytes(half[: len(half) // 2])
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        samples = np.zeros((1, 8_000))
        samples[0, 4_000] = value
        write_sound(tmp_path / f"{name}.wav", samples, 16_000, "pcm_f32le")
        write_sound(tmp_path / f"{name}44.wav", samples, 44_100, "pcm_f32le")
    for name, words in {
        "missing.wav": "does not exist",
        ".": "is a folder",
        "empty.wav": "is empty",
        "words.wav": "cannot be decoded",
        "words.txt": "text file|cannot be decoded",
        "silent.mp4": "no sound stream",
        "short.wav": "lasts 0.0399 s; give at least 0.04 s",
        "half.m4a": "cannot be decoded",
        "nan.wav": "NaN or infinite",
        "nan44.wav": "NaN or infinite",
        "inf.wav": "NaN or infinite",
        "inf44.wav": "NaN or infinite",
    }.items():
        with pytest.raises(MediaError, match=words) as raised:
            read_audio(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_shortest_sound_is_one_frame(tmp_path, write_sound):
    path = write_sound(tmp_path / "one.wav", np.zeros((1, 640)), 16_000, "pcm_s16le")
    assert len(read_audio(path)) == len(check_audio(torch.zeros(640))) == 640


@pytest.mark.parametrize(
    ("samples", "rate_hz", "words"),
    [
        (torch.zeros(1, 16_000), 16_000, r"shape \(1, 16000\)"),
        (torch.zeros(()), 16_000, "shape"),
        (np.zeros(16_000, np.int16), 16_000, "divide int16 samples by 32768"),
        (torch.full((16_000,), torch.nan), 16_000, "NaN"),
        (torch.full((48_000,), torch.inf), 48_000, "NaN"),
        (torch.zeros(639), 16_000, "0.04 s"),
        (torch.zeros(0), 44_100, "0.04 s"),
        (torch.zeros(16_000), 0, "rate_hz is 0"),
        (torch.zeros(16_000), 22_050.5, "rate_hz is 22050.5"),
    ],
)
def test_bad_sound_in_memory_is_explained(samples, rate_hz, words):
    with pytest.raises(MediaError, match=words):
        check_audio(samples, rate_hz=rate_hz)


def test_sound_in_memory_is_clipped_to_full_scale():
    loud = check_audio(np.linspace(-3, 3, 16_000))
    assert loud.dtype == torch.float32
    assert (loud.min(), loud.max()) == (-1, 1)


def test_missing_torchaudio_is_named_only_when_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    assert len(check_audio(torch.zeros(16_000))) == 16_000
    with pytest.raises(DependencyError, match="torchaudio") as raised:
        check_audio(torch.zeros(16_000), rate_hz=48_000)
    assert isinstance(raised.value, LoopyError)
