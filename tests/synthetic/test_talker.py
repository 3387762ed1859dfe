import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from loopy.errors import ConfigurationError
from loopy.synthetic.face import CONTROLS, random_identities
from loopy.synthetic.movement import POSE_LIMITS
from loopy.synthetic.noise import augment, mix_noise, random_noise
from loopy.synthetic.talker import random_talk
from loopy.timing import frame_count

pytest.importorskip("espeakng_loader")

MOUTH = [CONTROLS.index(name) for name in ("open", "wide", "round", "teeth")]


def column(talk, name):
    return talk.controls[:, CONTROLS.index(name)]


@pytest.mark.parametrize("kind", ["speech", "mixed", "listening", "noise", "silence"])
def test_same_seed_same_talk(kind):
    first = random_talk(7, seconds=3.3, kind=kind)
    random_talk(8, seconds=1.0)
    again = random_talk(7, seconds=3.3, kind=kind)
    assert torch.equal(first.audio, again.audio)
    assert torch.equal(first.controls, again.controls)
    assert torch.equal(first.motion.points, again.motion.points)
    assert torch.equal(first.frames([4], size_px=32), again.frames([4], size_px=32))
    assert not torch.equal(first.controls, random_talk(9, seconds=3.3, kind=kind).controls)


def test_a_given_face_changes_nothing_else():
    face = random_identities(1, torch.Generator().manual_seed(3))
    own, given_face = random_talk(5, seconds=2), random_talk(5, seconds=2, identity=face)
    assert torch.equal(own.audio, given_face.audio)
    assert torch.equal(own.controls, given_face.controls)
    assert torch.equal(given_face.identity.skin, face.skin)


@pytest.mark.parametrize("kind", ["listening", "noise", "silence"])
def test_without_speech_the_mouth_stays_closed_but_the_face_lives(kind):
    talk = random_talk(11, seconds=12, kind=kind)
    assert talk.controls[:, MOUTH].eq(0).all()
    assert talk.phonemes == ()
    assert column(talk, "blink").max() == 1
    assert column(talk, "yaw").std() > 0.005


def test_noise_is_heard_and_silence_is_not():
    for seed in range(5):
        loud = random_talk(seed, seconds=2, kind="noise").audio.square().mean().sqrt()
        assert 0.01 < loud < 0.3
        assert random_talk(seed, seconds=2, kind="silence").audio.eq(0).all()


def test_controls_stay_in_their_ranges():
    for seed in range(10):
        talk = random_talk(seed, seconds=8)
        assert talk.audio.abs().max() <= 1
        for name in CONTROLS:
            values, limit = column(talk, name), POSE_LIMITS.get(name, 1)
            lowest = 0 if name in ("open", "wide", "round", "teeth", "blink") else -limit
            assert values.min() >= lowest
            assert values.max() <= limit


def test_blinks_come_every_two_to_six_seconds():
    shut = column(random_talk(2, seconds=60, kind="listening"), "blink") > 0.9
    starts = (shut[1:] & ~shut[:-1]).nonzero().flatten() / 25
    assert ((starts.diff() > 1.9) & (starts.diff() < 6.1)).all()
    assert len(starts) >= 9


def test_mixed_talk_has_long_rests_and_speech():
    opening = column(random_talk(4, seconds=30, kind="mixed"), "open")
    rests = torch.nn.functional.avg_pool1d(opening[None], 25, stride=1)[0]
    assert rests.min() == 0
    assert opening.max() > 0.5


def test_the_head_moves_more_while_speaking():
    def motion(kind):
        return sum(
            column(random_talk(seed, seconds=20, kind=kind), "yaw").diff().std()
            for seed in range(8)
        )

    assert motion("speech") > 1.3 * motion("listening")


def test_phonemes_are_on_the_clock_of_the_talk():
    talk = random_talk(6, seconds=10.0)
    starts = [phoneme.start_s for phoneme in talk.phonemes]
    assert starts == sorted(starts)
    assert starts[-1] < 10
    assert column(talk, "open")[int(starts[0] * 25) + 1 :].max() > 0.4


def test_some_frames_are_those_of_all_frames():
    talk = random_talk(1, seconds=0.5)
    every = talk.frames(range(len(talk.controls)), size_px=32)
    picked = [11, 0, 5, 5]
    assert every.shape == (13, 3, 32, 32)
    assert torch.equal(talk.frames(picked, size_px=32), every[picked])
    assert torch.equal(talk.frames(torch.tensor(picked), size_px=32), every[picked])


def test_the_true_track_opens_with_the_mouth():
    talk = random_talk(3, seconds=4)
    points = talk.motion.points
    gap = (points[:, 66, 1] - points[:, 62, 1]).abs()
    together = torch.corrcoef(torch.stack([gap, column(talk, "open")]))[0, 1]
    assert together > 0.9
    assert torch.equal(talk.motion.pose[:, 0], column(talk, "yaw"))


@settings(deadline=None, max_examples=25)
@given(
    samples=st.integers(320, 40_000),
    kind=st.sampled_from(["speech", "noise", "silence"]),
)
def test_lengths_are_exact(samples, kind):
    talk = random_talk(0, seconds=samples / 16_000, kind=kind)
    assert len(talk.audio) == samples
    assert len(talk.controls) == len(talk.motion) == frame_count(samples)
    assert all(phoneme.start_s < samples / 16_000 for phoneme in talk.phonemes)


def test_bad_requests_are_refused():
    with pytest.raises(ConfigurationError, match="kinds are speech"):
        random_talk(0, seconds=1, kind="singing")
    with pytest.raises(ConfigurationError, match="one frame"):
        random_talk(0, seconds=0.01)


def test_worker_processes_make_the_same_talks():
    def audio_of(seeds):
        return random_talk(seeds[0], seconds=1).audio

    here = [audio_of([seed]) for seed in range(3)]
    there = DataLoader(
        list(range(3)),
        batch_size=1,
        num_workers=1,
        collate_fn=audio_of,
        multiprocessing_context="fork",
    )
    for mine, theirs in zip(here, there, strict=True):
        assert torch.equal(mine, theirs)


def test_noise_has_the_asked_ratio():
    generator = torch.Generator().manual_seed(0)
    sound = torch.sin(torch.arange(16_000) / 10)
    noise = random_noise(16_000, generator)
    assert noise.square().mean() == pytest.approx(1, rel=1e-3)
    rest = mix_noise(sound, noise, snr_db=20) - sound
    assert sound.square().mean() / rest.square().mean() == pytest.approx(100, rel=1e-3)
    assert mix_noise(torch.zeros(16_000), noise, snr_db=20).abs().max() < 1e-6


def test_augmentation_keeps_length_range_and_time():
    voice = random_talk(0, seconds=3).audio
    for seed in range(12):
        changed = augment(voice, torch.Generator().manual_seed(seed))
        assert changed.shape == voice.shape
        assert changed.abs().max() <= 1
        assert torch.equal(changed, augment(voice, torch.Generator().manual_seed(seed)))
        envelopes = [
            sound[: len(sound) // 320 * 320].view(-1, 320).square().mean(1).sqrt()
            for sound in (voice, changed)
        ]
        lags = [
            float((envelopes[0][10:-10] * envelopes[1].roll(-lag)[10:-10]).sum())
            for lag in range(-5, 6)
        ]
        assert abs(lags.index(max(lags)) - 5) <= 1
    assert augment(torch.zeros(8_000), torch.Generator().manual_seed(0)).isfinite().all()
