"""Sound as it is spoken: the same frames however it is cut, and memory that stays."""

import io
import subprocess
import sys
import wave
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from loopy.cli import main
from loopy.data.media.live_sound import AT_ONCE_BYTES, open_pipe
from loopy.data.media.sound_blocks import Resampler, resampled
from loopy.diffusion.options import SamplingOptions
from loopy.errors import ConfigurationError, MediaError
from loopy.models import SpeechEncoder
from loopy.models.latents import decode_frames
from loopy.models.live_features import LiveFeatures, LiveOptions
from loopy.timing import AudioWindow, frame_count

FRAMES, FRAME = 3, 640
CLIP = (FRAMES + 2) * FRAME  # a clip and its look-ahead
FAST = SamplingOptions(steps=1, audio_ratio=1, reference_ratio=1)


@pytest.fixture
def pipe(make_pipeline):
    return make_pipeline()


@pytest.fixture
def subject(pipe):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    return pipe.prepare(Image.fromarray(pixels))


@pytest.fixture
def begin(pipe, subject):
    def session(**options):
        return pipe.session(subject, options=FAST, **options)

    return session


def sound(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def spoken(session, voice, cuts=()):
    """All frames of a sound, pushed in pieces that end at the cuts."""
    ends = [0, *sorted(cuts), len(voice)]
    pieces = [voice[a:b] for a, b in pairwise(ends)]
    return torch.cat([*map(session.push, pieces), session.flush()])


class Nearby(SpeechEncoder):
    """Hears each frame by itself, and when it is loudest: no level, no context."""

    rate_hz, lookahead_s, layers, width = 50, 0.0, 3, 8

    def encode(self, audio):
        halves = audio[: len(audio) // 320 * 320].view(-1, 320)
        places = halves.topk(self.layers * self.width, dim=1).indices
        return places.float().view(len(halves), self.layers, self.width) / 320


@pytest.mark.parametrize("samples", [CLIP, 5 * FRAME + 320, 9_000])
def test_with_an_encoder_that_hears_nearby_it_is_the_offline_video(pipe, begin, subject, samples):
    """To the bit: clips, neighbours, the tail and the past are those of `stream`."""
    pipe.audio_encoder, voice = Nearby(), sound(samples)
    offline = torch.cat(list(pipe.stream(subject, voice, options=FAST)))
    assert torch.equal(spoken(begin(), voice, [1, 4_000]), offline)


@given(cuts=st.lists(st.integers(0, 6_000), max_size=6), rate_hz=st.sampled_from([16_000, 22_050]))
@example(cuts=list(range(1, 6_000, 61)), rate_hz=48_000)
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_frames_do_not_depend_on_the_pieces(begin, cuts, rate_hz):
    voice = sound(6_000)
    whole = spoken(begin(rate_hz=rate_hz), voice)
    assert torch.equal(spoken(begin(rate_hz=rate_hz), voice, cuts), whole)
    assert len(whole) == frame_count(6_000, rate_hz=rate_hz)


def test_a_wave_comes_out_of_the_filter_however_it_is_cut():
    voice = sound(9_001).numpy()
    whole = resampled(voice, rate_hz=44_100, wanted_hz=16_000)
    filter_ = Resampler(rate_hz=44_100, wanted_hz=16_000, part_samples=1764)
    pieces = [*(x for part in np.array_split(voice, 17) for x in filter_(part)), *filter_.finish()]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_a_clip_comes_with_the_last_sample_it_hears(begin):
    session, voice = begin(), sound(CLIP)
    assert session.push(voice[:-1]).shape == (0, 16, 16, 3)
    assert session.push(voice[-1:]).shape == (FRAMES, 16, 16, 3)
    early = begin(hearing=LiveOptions(lookahead=0))
    assert len(early.push(voice[: FRAMES * FRAME])) == FRAMES


def test_an_interrupted_voice_is_not_heard(begin):
    """The face goes on from where it is; the sound before the cut has been spoken."""
    first, dropped, second = sound(CLIP), sound(CLIP - FRAME, 1), sound(CLIP, 2)
    session, other = begin(), begin()
    session.push(first)
    session.push(dropped[:FRAME])
    session.interrupt()
    other.push(first)
    other.interrupt()
    made = session.push(second)
    assert len(made) == FRAMES
    assert torch.equal(made, other.push(second))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_it_lives_on_in_silence(begin, rate_hz):
    session = begin(rate_hz=rate_hz)
    assert len(session.push(sound(rate_hz // 50))) == 0
    clips = [session.idle() for _ in range(3)]
    assert all(len(clip) == FRAMES for clip in clips)
    assert not torch.equal(clips[1], clips[2])
    assert len(session.push(torch.zeros(rate_hz))) > 0


def test_a_silence_that_nobody_spoke_is_not_of_the_level(pipe):
    features = LiveFeatures(
        pipe.audio_encoder, FRAMES, window=AudioWindow(), options=LiveOptions(),
        device=torch.device("cpu"),
    )  # fmt: skip
    features.add(sound(FRAME))
    before = features._sums.clone()
    features.add(torch.zeros(FRAME), counts=False)
    assert torch.equal(features._sums, before)


def test_the_sound_may_be_over_more_than_once(pipe, begin):
    """What was not shown of a clip is no past, and the next sound begins a clip."""
    session = begin()
    shown = spoken(session, sound(5_000))
    assert len(shown) == 8
    past = session._loop._state.past
    assert past.shape[1] == pipe.settings.contract.layout.past_frames
    assert torch.equal(decode_frames(pipe.vae, past[0, -1:])[0], shown[-1])
    assert len(session.flush()) == 0
    assert len(session.push(sound(CLIP))) == FRAMES
    assert len(spoken(begin(), sound(320))) == 1  # half a frame is one
    assert len(spoken(begin(), sound(319))) == 0


def test_what_is_held_stays(begin):
    session = begin(hearing=LiveOptions(window_s=0.4))
    held = []
    for _ in range(12):
        session.push(sound(FRAMES * FRAME))
        held.append((session._features.seconds, session._loop._state.past.shape[1]))
    assert max(held[6:]) == held[5]
    assert held[-1][0] <= 0.4
    storage = session._features._sound.untyped_storage().nbytes()
    assert storage <= 0.4 * 16_000 * 4
    assert session.delays.clips == 11
    assert 0 < session.delays.median_s <= session.delays.p95_s


@pytest.mark.parametrize(
    ("piece", "told"),
    [
        ([0.0], "is of type list; give samples"),
        (torch.tensor([0.0, torch.nan]), "has NaN or infinite samples"),
        (np.zeros(4, np.int64), "is int64, expected floating point"),
        (torch.zeros(4, 2), r"shape \(4, 2\), expected \(samples,\); mix channels first"),
        (torch.tensor([900.0]), "full scale is 1; divide by 32768"),
    ],
)
def test_a_wrong_piece_is_not_heard(begin, piece, told):
    session, voice = begin(), sound(4_000)
    first = session.push(voice[:2_000])
    with pytest.raises(MediaError, match=told):
        session.push(piece)
    rest = session.push(voice[2_000:])
    assert torch.equal(torch.cat([first, rest, session.flush()]), spoken(begin(), voice))


def test_wrong_options(begin):
    with pytest.raises(MediaError, match="has 0 samples a second"):
        begin(rate_hz=0)
    with pytest.raises(ConfigurationError, match=r"take 0\.28 s: give that or more"):
        begin(hearing=LiveOptions(window_s=0.2))
    with pytest.raises(ConfigurationError, match="lookahead is 0 frames or more"):
        LiveOptions(lookahead=-1)
    with pytest.raises(ConfigurationError, match="at most 30"):
        LiveOptions(window_s=31.0)


def test_integers_are_taken(begin):
    voice = (sound(CLIP) * 32_767).to(torch.int16)
    assert torch.equal(begin().push(voice), begin().push(voice.float() / 32_768))


class TestAPipe:
    """`loopy animate portrait.png -`."""

    WORDS = ("animate", "portrait.png", "-", "--model", "tiny", "--steps", "1")

    def test_speaks_as_it_comes(self, desk, write_speech):
        """A header that knows no length, and frames before the sound is over."""
        write_speech(desk / "speech.wav", 0.9)
        data = (desk / "speech.wav").read_bytes()
        data = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
        words = [sys.executable, "-m", "loopy", *self.WORDS, "-o", "out.mp4"]
        done = subprocess.run(words, input=data, capture_output=True, check=True)
        assert done.stdout.startswith(b"out.mp4: 23 frames; ")
        with av.open("out.mp4") as video:
            assert sum(1 for _ in video.decode(video=0)) == 23
        with av.open("out.mp4") as video:
            heard = np.concatenate([f.to_ndarray()[0] for f in video.decode(audio=0)])
            assert (video.streams.audio[0].rate, video.streams.audio[0].channels) == (16_000, 1)
        with wave.open("speech.wav") as file:
            given_ = np.frombuffer(file.readframes(-1), np.int16) / 32_768
        assert np.corrcoef(heard[2_000:14_000], given_[2_000:14_000])[0, 1] > 0.9

    def test_is_the_session(self, desk, capsys, monkeypatch):
        monkeypatch.setattr(
            "sys.stdin", io.TextIOWrapper(io.BytesIO((desk / "speech.wav").read_bytes()))
        )
        assert main([*self.WORDS, "-o", "out.npy"]) == 0
        assert capsys.readouterr().out.startswith("out.npy: 8 frames; ")
        assert np.load("out.npy").shape == (8, 16, 16, 3)

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "standard input is empty (0 bytes); pipe a sound into it"),
            (b"no sound at all " * 99, "standard input cannot be decoded"),
            (b"RIFFabc", "standard input cannot be decoded"),
        ],
    )
    def test_garbage(self, desk, capsys, monkeypatch, data, told):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        before = sorted(desk.rglob("*"))
        assert main([*self.WORDS, "-o", "out.mp4"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
        assert sorted(desk.rglob("*")) == before

    def test_under_a_frame(self, desk, capsys, monkeypatch, write_speech):
        write_speech(desk / "speech.wav", 0.015)
        monkeypatch.setattr(
            "sys.stdin", io.TextIOWrapper(io.BytesIO((desk / "speech.wav").read_bytes()))
        )
        assert main([*self.WORDS, "-o", "out.mp4"]) == 2
        assert "give at least 0.04 s" in capsys.readouterr().err
        assert not (desk / "out.mp4").exists()

    def test_nobody_pipes(self, desk, capsys, monkeypatch):
        assert main([*self.WORDS, "-o", "out.mp4", "--sheet", "sheet.png"]) == 2
        assert "no contact sheet of a sound that comes through a pipe" in capsys.readouterr().err
        monkeypatch.setattr("sys.stdin", None)
        assert main([*self.WORDS, "-o", "out.mp4"]) == 2
        assert "standard input is closed" in capsys.readouterr().err

    def test_a_terminal(self):
        terminal = io.BytesIO(b"RIFF")
        terminal.isatty = lambda: True
        with pytest.raises(MediaError, match="standard input is a terminal"), open_pipe(terminal):
            pass

    def test_no_more_is_read_than_is_there(self, write_speech, tmp_path):
        """The first samples are heard while the writer of the pipe has not written the rest."""
        write_speech(tmp_path / "speech.wav", 1.0)
        data = (tmp_path / "speech.wav").read_bytes()

        class Slow(io.RawIOBase):
            given = 0

            def readable(self):
                return True

            def readinto(self, buffer):
                size = min(len(buffer), 640, len(data) - self.given)
                buffer[:size] = data[self.given :][:size]
                self.given += size
                return size

        slow = Slow()
        with open_pipe(io.BufferedReader(slow, 640)) as live:
            next(iter(live.blocks(longest_s=9)))
        assert slow.given <= 4 * AT_ONCE_BYTES
