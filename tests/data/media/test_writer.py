import os
import resource
import signal
import subprocess
import sys
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from loopy.data.media.sound import read_audio
from loopy.data.media.video_reader import iterate_frames
from loopy.data.media.writer import open_writer
from loopy.errors import MediaError, OutputError
from tests.memory import PEAK

AAC_FRAME = 1024


def moving(frames, *, size=64, seed=0):
    """Coloured blocks that change from frame to frame, on H.264's 16-pixel grid."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(40, 216, (frames, size // 16, size // 16, 3), generator=generator)
    return small.repeat_interleave(16, 1).repeat_interleave(16, 2).to(torch.uint8)


def write_clips(path, frames, *, clip=12, **options):
    with open_writer(path, **options) as writer:
        for start in range(0, len(frames), clip):
            writer.write(frames[start : start + clip])


def sound_of(path):
    """The decoded sound (channels, samples) of a file and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return np.concatenate(
            [frame.to_ndarray() for frame in container.decode(stream)], 1
        ), stream.rate


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "MP4"])
def test_video_comes_back_as_it_was(tmp_path, beeps, write_sound, burst_times_s, suffix):
    frames = moving(75)
    sound = write_sound(tmp_path / "in.wav", beeps(44_100, channels=2), 44_100, "pcm_s16le")
    write_clips(tmp_path / f"out.{suffix}", frames, sound=sound, crf=12)
    back = np.stack(list(iterate_frames(tmp_path / f"out.{suffix}")))
    assert back.shape == frames.shape
    inner = np.s_[:, 4:12, 4:12]  # away from edges, where chroma has half the resolution
    assert np.abs(back[inner].astype(int) - frames.numpy()[inner]).max() <= 8
    samples, rate_hz = sound_of(tmp_path / f"out.{suffix}")
    assert (rate_hz, len(samples)) == (44_100, 2)
    assert abs(samples.shape[1] - 3 * 44_100) <= AAC_FRAME
    assert burst_times_s(samples[0], rate_hz) == pytest.approx([0.5, 1.5, 2.5], abs=1e-3)
    assert sorted(os.listdir(tmp_path)) == ["in.wav", f"out.{suffix}"]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(1, 60),
    rate_hz=st.sampled_from([8_000, 22_050, 44_100, 48_000]),
    seconds=st.floats(0.05, 3),
    fps=st.sampled_from([Fraction(25), Fraction(30_000, 1001), Fraction(12)]),
)
def test_pictures_are_exact_and_sound_within_a_frame(
    tmp_path, write_sound, count, rate_hz, seconds, fps
):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, round(seconds * rate_hz)))
    sound = write_sound(tmp_path / "in.wav", noise, rate_hz, "pcm_s16le")
    write_clips(tmp_path / "out.mp4", moving(count), sound=sound, fps=fps)
    assert len(list(iterate_frames(tmp_path / "out.mp4", fps=fps))) == count
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].frames == count
        assert container.streams.video[0].average_rate == fps
    samples, _ = sound_of(tmp_path / "out.mp4")
    assert -1 <= samples.shape[1] - count / fps * rate_hz <= AAC_FRAME


@pytest.mark.parametrize(
    ("rate_hz", "channels", "kept"),
    [
        (8_000, 2, (8_000, 2)),
        (44_100, 1, (44_100, 1)),
        (96_000, 2, (96_000, 2)),
        (48_000, 6, (48_000, 2)),
        (192_000, 1, (48_000, 1)),
        (22_050, 5, (22_050, 2)),
        (16_000, 8, (16_000, 2)),
    ],
)
def test_sound_keeps_its_rate_and_channels(tmp_path, rate_hz, channels, kept):
    tone = 0.3 * 32_767 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    with wave.open(str(tmp_path / "in.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(tone.astype("<i2")[:, None].repeat(channels, 1).tobytes())
    sound = tmp_path / "in.wav"
    write_clips(tmp_path / "out.mp4", moving(25), sound=sound)
    samples, found_hz = sound_of(tmp_path / "out.mp4")
    assert (found_hz, len(samples)) == kept
    assert samples[0, found_hz // 4 : found_hz // 2].std() == pytest.approx(0.212, rel=0.05)


def test_surround_sound_stays_surround(tmp_path, write_sound):
    six = np.arange(1, 7)[:, None] / 10 * np.sin(np.arange(48_000) / 20)
    sound = write_sound(tmp_path / "in.flac", six, 48_000, "flac", layout="5.1")
    write_clips(tmp_path / "out.mp4", moving(25), sound=sound)
    samples, _ = sound_of(tmp_path / "out.mp4")
    loudness = samples[:, 12_000:24_000].std(1)
    assert loudness[[0, 1, 2, 4, 5]] == pytest.approx(six[[0, 1, 2, 4, 5]].std(1), rel=0.05)


def test_sound_from_memory_and_from_a_late_video(tmp_path, beeps, write_video, burst_times_s):
    samples = torch.from_numpy(beeps(16_000)[0])
    write_clips(tmp_path / "memory.mp4", moving(75), sound=samples)
    late = write_video(
        tmp_path / "late.mp4", [index / 25 for index in range(75)], sound_start_s=0.25
    )
    write_clips(tmp_path / "video.mp4", moving(75), sound=late)
    for name in ("memory", "video"):  # late in its file, but the whole of it is spoken
        heard = read_audio(tmp_path / f"{name}.mp4", zero="pictures").numpy()
        assert burst_times_s(heard, 16_000)[:2] == pytest.approx([0.5, 1.5], abs=0.024)


def test_short_sound_is_followed_by_silence(tmp_path, write_sound):
    sound = write_sound(tmp_path / "in.wav", np.full((1, 16_000), 0.5), 16_000, "pcm_s16le")
    write_clips(tmp_path / "out.mp4", moving(50), sound=sound)
    samples, _ = sound_of(tmp_path / "out.mp4")
    assert abs(samples.shape[1] - 32_000) <= AAC_FRAME
    assert np.abs(samples[0, 18_000:31_000]).max() < 1e-3


def test_index_comes_first_for_the_web(tmp_path):
    write_clips(tmp_path / "out.mp4", moving(5))
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_sound_and_pictures_are_interleaved(tmp_path, beeps, write_sound):
    sound = write_sound(tmp_path / "in.wav", beeps(48_000), 48_000, "pcm_s16le")
    write_clips(tmp_path / "out.mkv", moving(75), sound=sound)
    last = {"video": 0.0, "audio": 0.0}
    with av.open(str(tmp_path / "out.mkv")) as container:
        for packet in container.demux():
            if packet.dts is not None:
                last[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(last["video"] - last["audio"]) < 0.3


def test_png_folder_and_array_are_exact(tmp_path):
    frames = moving(30)
    write_clips(tmp_path / "frames", frames)
    names = sorted(os.listdir(tmp_path / "frames"))
    assert names == [f"{index:06d}.png" for index in range(30)]
    back = [np.array(Image.open(tmp_path / "frames" / name)) for name in names]
    assert np.array_equal(np.stack(back), frames)
    (tmp_path / "there.already").mkdir()
    write_clips(tmp_path / "there.already", frames.numpy())
    assert len(os.listdir(tmp_path / "there.already")) == 30
    write_clips(tmp_path / "out.npy", frames)
    assert np.array_equal(np.load(tmp_path / "out.npy"), frames)
    assert np.array_equal(np.load(tmp_path / "out.npy", mmap_mode="r")[29], frames[29])


def write_and_fail(path, failure):
    with open_writer(path) as writer:
        writer.write(moving(12))
        raise failure


@pytest.mark.parametrize("name", ["out.mp4", "out.npy", "out"])
def test_failure_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    if path.suffix:
        path.write_text("yesterday's result")
    before = sorted(tmp_path.rglob("*"))
    for failure in (RuntimeError("the model broke"), KeyboardInterrupt(), OSError("not ours")):
        with pytest.raises(type(failure)) as raised:
            write_and_fail(path, failure)
        assert raised.value is failure
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(OutputError, match="no frame was written"), open_writer(path):
        pass
    assert sorted(tmp_path.rglob("*")) == before
    if path.suffix:
        assert path.read_text() == "yesterday's result"
    write_clips(path, moving(2))
    assert path.is_dir() or path.stat().st_size > 100


def test_bad_outputs_are_refused_before_any_work(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious.txt").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    for name, words in {
        "out.avi": r"unknown suffix .avi; use .mp4, .mov, .mkv, .npy",
        "nowhere/out.mp4": "nowhere does not exist; make it first",
        "file/out.mp4": "file does not exist",
        "full": "not an empty folder",
        "file": "not an empty folder",
        "folder.mp4": "is a folder",
        f"{'x' * 300}.mp4": "cannot be written|too long",
    }.items():
        with pytest.raises(OutputError, match=words) as raised, open_writer(tmp_path / name):
            pytest.fail("opened")
        assert "\n" not in str(raised.value)
    with pytest.raises(OutputError, match="cannot be written"), open_writer("/proc/out.mp4"):
        pytest.fail("opened")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (torch.zeros(2, 64, 64, 3), "expected uint8"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), r"\(2, 3, 64, 64\), expected"),
        (torch.zeros(64, 64, 3, dtype=torch.uint8), "expected"),
        (torch.zeros(2, 65, 64, 3, dtype=torch.uint8), "64 x 65 px; H.264 needs even sides"),
    ],
)
def test_bad_frames_are_explained(tmp_path, frames, words):
    with pytest.raises(OutputError, match=words):
        write_clips(tmp_path / "out.mp4", frames)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["out.mp4", "out.npy", "out"])
def test_frames_keep_their_size(tmp_path, name):
    with open_writer(tmp_path / name) as writer:
        writer.write(moving(1))
        with pytest.raises(OutputError, match="frames of one size"):
            writer.write(moving(1, size=32))


def test_bad_sound_is_refused_before_any_work(tmp_path, write_sound):
    (tmp_path / "words.wav").write_text("no sound at all")
    for sound in (tmp_path / "missing.wav", tmp_path / "words.wav", torch.zeros(600)):
        with pytest.raises(MediaError), open_writer(tmp_path / "out.mp4", sound=sound):
            pytest.fail("opened")
    assert os.listdir(tmp_path) == ["words.wav"]


def test_sound_damaged_on_the_way_leaves_nothing(tmp_path, write_sound):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 48_000))
    sound = write_sound(tmp_path / "in.flac", noise, 16_000, "flac")
    data = sound.read_bytes()
    sound.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(MediaError, match=r"in.flac cannot be decoded"):
        write_clips(tmp_path / "out.mp4", moving(75), sound=sound)
    assert os.listdir(tmp_path) == ["in.flac"]


def test_full_disk_is_an_output_error(tmp_path):
    """The limit of the process on the size of files stands for the disk."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 128, 128, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        for name in ("out.mp4", "out.npy", "out"):
            with pytest.raises(OutputError, match=r"cannot be written \(File too large\)"):
                write_clips(tmp_path / name, np.concatenate([frames] * 10), crf=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not os.listdir(tmp_path)


def test_memory_is_flat(tmp_path, beeps, write_sound):
    """Ten times the clips and the sound take no more memory."""
    sound = write_sound(tmp_path / "in.wav", beeps(48_000, seconds=60), 48_000, "pcm_s16le")
    script = f"""
import torch
from loopy.data.media.writer import open_writer
{PEAK}
clip = torch.zeros(12, 64, 64, 3, dtype=torch.uint8)
for clips in (12, 120):
    with open_writer("{tmp_path}/out.mp4", sound="{sound}") as writer:
        for _ in range(clips):
            writer.write(clip.clone())
    print(peak_kib())
"""
    before_kib, after_kib = map(int, run(script).split())
    assert after_kib - before_kib < 6 * 1024  # the frames would be 15 MiB, the sound 10 MiB


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
