import contextlib
import time
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopy.data.media.sound import as_samples, check_audio, read_audio
from loopy.data.media.writer import open_writer
from loopy.errors import MediaError

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


def test_channels_are_averaged_and_of_surround_sound_the_centre_is_taken(tmp_path, write_sound):
    parts = np.arange(1, 7)[:, None] / 10 * np.ones((6, 8_000))
    surround = write_sound(tmp_path / "six.wav", parts, 16_000, "pcm_f32le")
    assert read_audio(surround).numpy() == pytest.approx(0.3, abs=1e-6)
    stereo = write_sound(tmp_path / "two.wav", parts[:2], 16_000, "pcm_f32le")
    assert read_audio(stereo).numpy() == pytest.approx(0.15, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7, 8, 12])
def test_waves_that_name_no_layout(tmp_path, channels):
    samples = np.arange(channels, dtype="<i2") * 1_000
    with wave.open(str(tmp_path / "bare.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples[None].repeat(16_000, 0).tobytes())
    mean = (channels - 1) * 500 if channels not in (5, 6, 7, 8) else 2_000  # the usual centre
    assert read_audio(tmp_path / "bare.wav").numpy() == pytest.approx(mean / 32_768, abs=1e-5)


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
    found = burst_times_s(read_audio(path, zero="pictures").numpy(), 16_000)
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
        heard = burst_times_s(read_audio(path, zero="pictures").numpy(), 16_000)
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
        read_audio(path, zero="pictures")


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
        "words.txt": "cannot be decoded",
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
        (np.zeros(16_000, np.int64), 16_000, "int64, expected floating point .* int16, int32"),
        (np.zeros(16_000, complex), 16_000, "complex128, expected"),
        ([0.0] * 16_000, 16_000, r"sound is of type list; give a file, samples as .* pair of rate"),
        (None, 16_000, "sound is of type NoneType; give a file"),
        ((torch.zeros(16_000), torch.zeros(3)), 16_000, "rate_hz is Tensor"),
        ((np.zeros((2, 16_000)), 16_000), 16_000, r"\(2, 16000\), .* turn \(channels, samples\)"),
        (torch.full((16_000,), torch.nan), 16_000, "NaN"),
        (torch.full((48_000,), torch.inf), 48_000, "NaN"),
        (torch.zeros(639), 16_000, "0.04 s"),
        (torch.zeros(0), 44_100, "0.04 s"),
        (torch.zeros(16_000), 0, "has 0 samples a second"),
        (torch.zeros(16_000), 22_050.5, "rate_hz is 22050.5"),
    ],
)
def test_bad_sound_in_memory_is_explained(samples, rate_hz, words):
    with pytest.raises(MediaError, match=words):
        check_audio(samples, rate_hz=rate_hz)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.float64, np.float16])
@pytest.mark.parametrize("form", ["array", "tensor", "rate first", "rate last", "channels"])
def test_sound_in_memory_in_any_usual_form(beeps, burst_times_s, dtype, form):
    """As scipy, soundfile and gradio hand it out."""
    rate_hz = 22_050
    sound = beeps(rate_hz)[0]
    if np.issubdtype(dtype, np.integer):
        middle, full = (128, 127) if dtype == np.uint8 else (0, np.iinfo(dtype).max)
        sound = np.round(sound.astype(np.float64) * full + middle)
    sound = sound.astype(dtype)
    given = {
        "array": sound,
        "tensor": torch.from_numpy(sound),
        "rate first": (rate_hz, sound),
        "rate last": (sound, np.int64(rate_hz)),
        "channels": (rate_hz, np.stack([sound, sound], 1)),
    }[form]
    samples = check_audio(given, rate_hz=rate_hz if form in ("array", "tensor") else 16_000)
    assert samples.dtype == torch.float32
    assert len(samples) == 48_000
    assert burst_times_s(samples.numpy(), 16_000) == pytest.approx([0.5, 1.5, 2.5], abs=1e-3)
    assert samples.abs().max() == pytest.approx(0.8, abs=0.02)


def test_one_door_takes_files_and_memory(tmp_path, write_sound):
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 5_000)).astype(np.float32)
    path = write_sound(tmp_path / "noise.wav", noise, 16_000, "pcm_f32le")
    assert torch.equal(as_samples(path), as_samples((16_000, noise[0])))
    assert torch.equal(as_samples(str(path)), as_samples(noise[0]))


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    ("peak", "channel", "cure"),
    [
        (2.5, 0, "divide by 32768, if these are 16-bit"),
        (18_000, 1, "divide by 32768, if these are 16-bit"),
        (8e6, 0, "divide by 8388608, if these are 24-bit"),
        (2e9, 1, "divide by 2147483648, if these are 32-bit"),
        (1e30, 0, "export it again"),
    ],
)
def test_numbers_that_are_none_of_full_scale_one_are_named(
    tmp_path, write_sound, peak, channel, cure, in_memory
):
    samples = np.zeros((2, 32_000), np.float32)
    samples[channel, 20_000] = peak
    words = f"peaks at {np.float32(peak):.6g}; full scale is 1; {cure}".replace("+", r"\+")
    if in_memory:
        with pytest.raises(MediaError, match=words):
            check_audio(samples.T)
        return
    path = write_sound(tmp_path / "loud.wav", samples, 16_000, "pcm_f32le")
    with pytest.raises(MediaError, match=words):
        read_audio(path)
    with (
        pytest.raises(MediaError, match=words),
        open_writer(tmp_path / "out.mp4", sound=path) as writer,
    ):
        writer.write(np.zeros((50, 16, 16, 3), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["loud.wav"]


@pytest.mark.parametrize("in_memory", [False, True])
def test_too_loud_is_clipped_with_one_warning(tmp_path, write_sound, recwarn, in_memory):
    loud = 1.9 * np.sin(np.arange(16_000) / 20, dtype=np.float32)
    path = write_sound(tmp_path / "loud.wav", loud[None], 16_000, "pcm_f32le")
    sound = loud if in_memory else path
    samples = as_samples(sound)
    with open_writer(tmp_path / "out.mkv", sound=samples if in_memory else path) as writer:
        writer.write(np.zeros((25, 16, 16, 3), np.uint8))
    assert [str(warning.message).partition(" peaks")[2] for warning in recwarn] == [
        " at 1.9 of full scale and is clipped there; export it more softly"
    ]
    assert (samples.min(), samples.max()) == (-1, 1)
    heard = read_audio(tmp_path / "out.mkv")
    assert torch.corrcoef(torch.stack([heard[:16_000], samples]))[0, 1] > 0.99


def test_small_overshoots_of_codecs_are_clipped_without_a_word():
    assert check_audio(np.linspace(-1.2, 1.2, 16_000)).abs().max() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_at_the_end_of_a_long_file(tmp_path, write_sound, value):
    samples = np.zeros((2, 20 * 16_000), np.float32)
    samples[1, -1] = value
    path = write_sound(tmp_path / "late.wav", samples, 16_000, "pcm_f32le")
    with pytest.raises(MediaError, match=r"late\.wav has NaN or infinite samples"):
        read_audio(path)
    with (
        pytest.raises(MediaError, match=r"late\.wav has NaN or infinite samples"),
        open_writer(tmp_path / "out.mp4", sound=path) as writer,
    ):
        writer.write(np.zeros((500, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("rate_hz", [4_000, 11_024, 15_991, 44_101, 767_999])
def test_odd_rates_in_memory_are_cheap(rate_hz):
    began = time.monotonic()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    samples = check_audio(tone, rate_hz=rate_hz)
    assert len(samples) == 16_000
    assert samples[2_000:-2_000].std() == pytest.approx(0.5 / 2**0.5, abs=2e-3)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("rate_hz", [1, 3_999, 1_000_000, 2**30])
def test_rates_of_no_voice_are_refused(tmp_path, rate_hz):
    with pytest.raises(MediaError, match=f"has {rate_hz} samples a second; give 4000 to 768000"):
        check_audio(np.zeros(16_000), rate_hz=rate_hz)
    with wave.open(str(tmp_path / "odd.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(bytes(60_000))
    words = f"odd.wav has {rate_hz} samples a second|cannot be decoded"
    with pytest.raises(MediaError, match=words):
        read_audio(tmp_path / "odd.wav")
