"""What a small file may cost: hours of sound are bounded, and take their own size of memory."""

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from loopy.data.media.sound import read_audio
from loopy.errors import MediaError
from tests.memory import PEAK

RATE_HZ = 8_000


def write_silence(path, minutes):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE_HZ, layout="mono")
        for minute in range(minutes):
            block = np.zeros((1, 60 * RATE_HZ), np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            frame.pts = minute * 60 * RATE_HZ
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_jumps(path, jumps, each_s):
    """Packets of 10 ms, each a long time behind the one before."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        for number in range(jumps):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 80), np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            frame.pts = number * each_s * RATE_HZ
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_sound_has_a_longest_length_that_can_be_raised(tmp_path):
    path = write_silence(tmp_path / "long.flac", 3)
    words = r"the sound of .*long\.flac lasts longer than 0\.04 h; cut it, or raise longest_s"
    with pytest.raises(MediaError, match=words):
        read_audio(path, longest_s=144)
    assert len(read_audio(path, longest_s=181)) == 180 * 16_000


def test_gaps_count_in_sum(tmp_path):
    """None of them is over an hour."""
    path = write_jumps(tmp_path / "jumps.mkv", 8, 900)
    with pytest.raises(MediaError, match=r"jumps\.mkv jumps from .* s to 4500\.00 s"):
        read_audio(path)
    assert len(read_audio(write_jumps(tmp_path / "few.mkv", 4, 900))) == 2700 * 16_000 + 160


@pytest.mark.slow
def test_hours_of_sound_take_their_own_size_of_memory(tmp_path):
    path = write_silence(tmp_path / "hours.flac", 180)
    script = f"""
from loopy.data.media.sound import read_audio
{PEAK}
peak = lambda: peak_kib() / 1024
read_audio("{write_silence(tmp_path / "short.flac", 1)}")
before = peak()
print(read_audio("{path}").nbytes / 2**20, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size_mib, more_mib = map(float, done.stdout.split())
    assert size_mib == pytest.approx(659, abs=1)
    assert more_mib < 1.25 * size_mib
