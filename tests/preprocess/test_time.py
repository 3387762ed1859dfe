"""Time is exact, for files as people have them.

Instead of one flash a second every picture spells its time, so that each one is held to the bound:
at most half a frame of the source and 1 ms away, 2 ms in the mean, and no more at the end.
"""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames

SECONDS = 2
RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "60": Fraction(60),
}


def times_of(rate, seconds):
    """Steady, or ("variable") 10 to 60 pictures a second, changing from picture to picture."""
    if rate != "variable":
        return [index / RATES[rate] for index in range(round(seconds * RATES[rate]))]
    steps = torch.randint(17, 100, (60 * seconds,), generator=torch.Generator().manual_seed(0))
    times = [Fraction(0)]
    for step in steps.tolist():
        times.append(times[-1] + Fraction(step, 1000))
    return [time for time in times if time < seconds]


def errors_s(frames, times, spelled_s):
    """Picture time minus wanted time, while the source still has pictures to come."""
    found = np.array([spelled_s(frame) for frame in frames])
    wanted = np.arange(len(found)) / 25
    return (found - wanted)[wanted <= times[-1]]


def hold_the_bound(errors, times, *, steady=True):
    gap = float(max(after - before for before, after in pairwise(times)))
    assert np.abs(errors).max() <= gap / 2 + 1e-3
    if steady:  # the mean of random gaps is random
        assert abs(errors.mean()) < 2e-3
        first, second = np.array_split(errors, 2)
        assert abs(first.mean() - second.mean()) < 4e-3


# rate, file, pictures (codec, form, size), start, turned by, sound (codec, rate, layout, start)
FILMS = [
    ("23.976", "mp4", "libx264", "yuv420p", (80, 32), 0, 0, ("aac", 48_000, "stereo", 0)),
    ("24", "mkv", "libx264", "yuv420p10le", (80, 32), 0, 0, ("flac", 44_100, "mono", 0)),
    ("25", "webm", "libvpx-vp9", "yuv420p", (81, 33), 0, 0, ("libopus", 48_000, "5.1", 0)),
    ("29.97", "mov", "libx265", "yuv420p10le", (80, 64), 1.5, 90, ("aac", 8_000, "mono", 1.5)),
    ("30", "mkv", "libx264", "yuv444p", (81, 33), 1.5, 0, ("libmp3lame", 22_050, "stereo", 1.2)),
    ("50", "webm", "libvpx-vp9", "yuv420p", (80, 32), 0.7, 0, ("libopus", 16_000, "mono", 0.9)),
    ("60", "mp4", "libx264", "yuv420p", (80, 32), 0.25, 180, ("aac", 32_000, "5.1", 0)),
    ("variable", "mkv", "libx264", "yuv420p", (80, 32), 0, 0, ("pcm_s16le", 11_025, "mono", 0.3)),
    ("variable", "mp4", "libx264", "yuv420p", (80, 32), 2, 270, ("aac", 24_000, "mono", 2)),
]


@pytest.mark.parametrize("film", FILMS, ids=lambda film: "-".join(map(str, film[:4])))
def test_pictures_and_beeps_keep_their_time(
    tmp_path, write_film, film_sound, spelled_s, burst_times_s, film
):
    rate, suffix, codec, form, size, start_s, turn, sound = film
    times = times_of(rate, SECONDS)
    path = write_film(
        tmp_path / f"film.{suffix}",
        times,
        size=size,
        codec=codec,
        form=form,
        start_s=Fraction(start_s),
        rotation=turn,
        sound=film_sound(*sound),
    )
    shown = list(iterate_frames(path))
    width, height = size if turn % 180 == 0 else size[::-1]
    assert {frame.shape for frame in shown} == {(height, width, 3)}
    upright = [np.rot90(frame, -turn // 90) for frame in shown]
    errors = errors_s(upright, times, spelled_s)
    assert len(errors) >= 25 * SECONDS - 3
    hold_the_bound(errors, times, steady=rate != "variable")
    beeps = burst_times_s(read_audio(path, zero="pictures").numpy())
    assert beeps == pytest.approx([0.5 + second for second in range(SECONDS)], abs=1e-3)
    part = list(iterate_frames(path, span=range(7, 19)))
    assert np.array_equal(part, shown[7:19])


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate=st.sampled_from(sorted(RATES)),
    suffix=st.sampled_from(["mp4", "mkv"]),
    start_ms=st.integers(0, 5_000),
    late_ms=st.integers(-400, 400),
    codec=st.sampled_from(["aac", "libopus"]),
)
def test_wherever_the_clocks_start(
    tmp_path,
    write_film,
    film_sound,
    spelled_s,
    burst_times_s,
    rate,
    suffix,
    start_ms,
    late_ms,
    codec,
):
    times = times_of(rate, 1)
    start = Fraction(start_ms, 1000)
    sound = film_sound(codec, 48_000, start_s=max(start_ms + late_ms, 0) / 1000)
    path = write_film(tmp_path / f"film.{suffix}", times, start_s=start, sound=sound)
    errors = errors_s(iterate_frames(path), times, spelled_s)
    gap = float(times[1])
    assert np.abs(errors).max() <= gap / 2 + 1e-3
    heard = burst_times_s(read_audio(path, zero="pictures").numpy())
    assert heard == pytest.approx([0.5], abs=1.6e-3)  # mkv rounds three time stamps to 1 ms


SOUNDS = [("m4a", "aac", 48_000), ("opus", "libopus", 48_000), ("flac", "flac", 44_100)]


@pytest.mark.parametrize(("suffix", "codec", "rate_hz"), [*SOUNDS, ("wav", "pcm_s16le", 8_000)])
def test_surround_sound_keeps_its_time(
    tmp_path, write_sound, burst_times_s, suffix, codec, rate_hz
):
    path = write_sound(tmp_path / f"beeps.{suffix}", codec, rate_hz, "5.1", seconds=2)
    assert burst_times_s(read_audio(path, zero="pictures").numpy()) == pytest.approx(
        [0.5, 1.5], abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("rate", [*RATES, "variable"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_no_growth_over_a_minute(
    tmp_path, write_film, film_sound, spelled_s, burst_times_s, rate, suffix
):
    times = times_of(rate, 60)
    path = write_film(tmp_path / f"minute.{suffix}", times, sound=film_sound())
    errors = errors_s(iterate_frames(path), times, spelled_s)
    assert len(errors) >= 1497
    hold_the_bound(errors, times, steady=rate != "variable")
    beeps = np.array(burst_times_s(read_audio(path, zero="pictures").numpy()))
    assert np.abs(beeps - np.arange(60) - 0.5).max() < 1e-3


QUICK = {"preset": "ultrafast", "bf": "2", "g": "30"}
BROADCASTS = {  # form; codec and options of the pictures; codec and rate of the sound
    "mkv": ("matroska", "libx264", QUICK, "aac", 44_100),
    "mp4": ("mp4", "libx264", QUICK, "aac", 48_000),
    "ts": ("mpegts", "libx264", QUICK, "aac", 48_000),
    "m2ts": ("mpegts", "mpeg2video", {"bf": "2"}, "mp2", 48_000),
    "mpg": ("mpeg", "mpeg2video", {"bf": "2"}, "mp2", 48_000),
    "flv": ("flv", "libx264", QUICK, "aac", 44_100),
    "wmv": ("asf", "wmv2", {}, "wmav2", 44_100),
    "webm": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "libopus", 48_000),
    "avi": ("avi", "mpeg4", {"bf": "2"}, "pcm_s16le", 44_100),
    "divx.avi": ("avi", "libx264", QUICK, "pcm_s16le", 44_100),
}


@pytest.fixture
def broadcast(tmp_path, spelling, beeps):
    """Writes 4 s with a beep a second, without the packets of sound that begin in ``hole``."""

    def write(suffix, *, hole=range(0)):
        form, codec, options, sound_codec, rate_hz = BROADCASTS[suffix]
        path, each = tmp_path / f"film.{suffix}", rate_hz // 25
        samples, packets = beeps(rate_hz, 1, from_s=0, seconds=4), []
        with av.open(str(path), "w", format=form) as container:
            pictures = container.add_stream(codec, rate=25, options=options)
            pictures.width, pictures.height, pictures.pix_fmt = 80, 32, "yuv420p"
            sound = container.add_stream(sound_codec, rate=rate_hz, layout="mono")
            sound.bit_rate = 96_000
            for index in range(100):
                picture = av.VideoFrame.from_ndarray(spelling(Fraction(index, 25), 80, 32))
                picture.pts, picture.time_base = index, Fraction(1, 25)
                heard = np.ascontiguousarray(samples[:, index * each : (index + 1) * each])
                heard = av.AudioFrame.from_ndarray(heard, format="fltp", layout="mono")
                heard.sample_rate, heard.pts = rate_hz, index * each
                heard.time_base = Fraction(1, rate_hz)
                packets += [*pictures.encode(picture), *sound.encode(heard)]
            for packet in (*packets, *pictures.encode(), *sound.encode()):
                if packet.stream is pictures or int(packet.pts * packet.time_base) not in hole:
                    container.mux(packet)
        return path

    return write


@pytest.mark.parametrize("suffix", BROADCASTS)
def test_every_container_keeps_its_time(broadcast, spelled_s, burst_times_s, suffix):
    path = broadcast(suffix)
    shown = [spelled_s(frame) for frame in iterate_frames(path)]
    assert shown == pytest.approx([index / 25 for index in range(100)], abs=1e-3)
    heard = burst_times_s(read_audio(path, zero="pictures").numpy())
    assert heard == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=1e-3)


@pytest.mark.parametrize("suffix", [suffix for suffix in BROADCASTS if "avi" not in suffix])
def test_behind_a_hole_in_the_sound_lips_still_fit(broadcast, spelled_s, burst_times_s, suffix):
    path = broadcast(suffix, hole=range(1, 2))
    shown = [spelled_s(frame) for frame in iterate_frames(path)]
    assert shown == pytest.approx([index / 25 for index in range(100)], abs=1e-3)
    samples = read_audio(path, zero="pictures").numpy()
    assert not samples[17_600:30_400].any()
    heard = burst_times_s(samples[:16_000]) + burst_times_s(samples[32_000:])
    assert heard == pytest.approx([0.5, 0.5, 1.5], abs=1e-3)
