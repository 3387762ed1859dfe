# ruff: noqa: RUF001 (IPA letters)
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loopy.errors import ConfigurationError, DependencyError, MediaError
from loopy.synthetic.sentences import random_sentence
from loopy.synthetic.visemes import PHONEMES, Phoneme, phoneme_labels, viseme_tracks
from loopy.synthetic.voice import random_voice, speak, to_16_khz
from loopy.timing import frame_count

pytest.importorskip("espeakng_loader")

SENTENCE = "Maybe my mother bought five vivid flowers; who knows?"
OPEN, WIDE, ROUND, TEETH = range(4)


@pytest.fixture(scope="module")
def speech():
    return speak(SENTENCE)


def spans(speech):
    stops = [phoneme.start_s for phoneme in speech.phonemes[1:]] + [speech.duration_s]
    return zip(speech.phonemes, stops, strict=True)


def test_sound_is_audible_and_in_range(speech):
    assert speech.audio.dtype == torch.float32
    assert 0.2 < speech.audio.abs().max() <= 1
    assert 2 < speech.duration_s < 5


def test_phonemes_come_in_order_and_within_the_sound(speech):
    starts = [phoneme.start_s for phoneme in speech.phonemes]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert starts[-1] <= speech.duration_s
    assert [phoneme.name for phoneme in speech.phonemes[:4]] == ["m", "eɪ", "b", "iː"]
    assert {phoneme.stress for phoneme in speech.phonemes} >= {0, 2}


def test_what_was_said_before_does_not_change_the_voice(speech):
    speak("Something else entirely.", voice="en-gb-scotland+f3", rate_wpm=220)
    again = speak(SENTENCE)
    assert torch.equal(again.audio, speech.audio)
    assert again.phonemes == speech.phonemes


def test_voice_parameters_are_heard():
    slow, fast = (speak("One, two, three.", rate_wpm=rate) for rate in (120, 240))
    assert slow.duration_s > 1.3 * fast.duration_s
    low, high = (speak("Ah", pitch=pitch).audio for pitch in (5, 95))
    assert not torch.equal(low, high)


def test_mouth_opens_with_the_sound():
    """Over many voices the opening follows loudness within two frames of 25 fps."""
    generator = torch.Generator().manual_seed(0)
    lags = range(-6, 7)  # frames of 50 Hz
    totals = np.zeros(len(lags))
    for _ in range(15):
        speech = speak(random_sentence(generator), **random_voice(generator))
        opening = viseme_tracks(speech.phonemes, speech.duration_s, fps=50)[:, OPEN].numpy()
        frames = min(len(speech.audio) // 320, len(opening))
        loud = speech.audio[: frames * 320].view(frames, 320).square().mean(1).sqrt().numpy()
        for row, lag in enumerate(lags):
            shifted = np.roll(opening[:frames], -lag)
            totals[row] += np.corrcoef(shifted[6:-6], loud[6:-6])[0, 1] / 15
    assert abs(lags[int(totals.argmax())]) <= 2
    assert totals.max() > 0.45


@pytest.mark.parametrize("fps", [24, 25, 30, 50])
def test_lips_close_in_every_m_b_p(fps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        speech = speak(random_sentence(generator), **random_voice(generator))
        opening = viseme_tracks(speech.phonemes, speech.duration_s, fps=fps)[:, OPEN]
        for phoneme, stop in spans(speech):
            if phoneme.name in ("m", "b", "p"):
                first = max(0, int((phoneme.start_s - 0.06) * fps))
                assert opening[first : int((stop + 0.04) * fps) + 1].min() == 0


def test_shapes_of_single_sounds():
    def shape(name):
        phonemes = (Phoneme(name, 0.0, 2), Phoneme("", 1.0))
        return viseme_tracks(phonemes, 2.0)[12]

    assert shape("ɑː")[OPEN] > 0.9
    assert shape("iː")[WIDE] > 0.8
    assert shape("uː")[ROUND] > 0.9
    assert shape("f")[TEETH] == shape("v")[TEETH] == 1
    assert shape("s")[TEETH] > 0.9
    assert shape("m")[OPEN] == 0


def test_a_diphthong_moves_from_its_first_letter_to_its_second():
    tracks = viseme_tracks((Phoneme("aɪ", 0.0, 2),), 0.8)
    assert tracks[3, OPEN] > tracks[-3, OPEN] + 0.3
    assert tracks[3, WIDE] < tracks[-3, WIDE]


def test_stress_opens_the_mouth_a_little_more():
    weak, strong = (viseme_tracks((Phoneme("a", 0.0, s),), 0.4)[5, OPEN] for s in (0, 2))
    assert 1.05 * weak < strong < 1.3 * weak


def test_silence_is_a_closed_neutral_mouth(speech):
    assert viseme_tracks((), 1.0).eq(0).all()
    tracks = viseme_tracks((Phoneme("ɑː", 1.0), Phoneme("", 1.5)), 3.0)
    assert tracks[:20].eq(0).all()
    assert tracks[45:].eq(0).all()
    assert phoneme_labels((), 1.0).eq(0).all()


def test_labels_name_what_is_spoken(speech):
    labels = phoneme_labels(speech.phonemes, speech.duration_s)
    for phoneme, stop in spans(speech):
        middle = int((phoneme.start_s + stop) / 2 * 50)
        if len(phoneme.name) == 1 and stop - phoneme.start_s > 0.04:
            assert PHONEMES[labels[middle]] == phoneme.name


@settings(deadline=None, max_examples=40)
@given(samples=st.integers(1, 100_000), fps=st.sampled_from([24, 25, 30, 50]))
def test_one_row_per_frame_of_any_length(samples, fps):
    phonemes = (Phoneme("m", 0.0), Phoneme("aɪ", samples / 40_000, 2))
    tracks = viseme_tracks(phonemes, samples / 16_000, fps=fps)
    assert tracks.shape == (frame_count(samples, fps=fps), 4)
    assert ((tracks >= 0) & (tracks <= 1)).all()
    assert len(phoneme_labels(phonemes, samples / 16_000, rate_hz=fps)) == len(tracks)


@pytest.mark.parametrize("voice", ["de", "fr", "es", "it"])
def test_other_languages_have_mouth_shapes(voice):
    speech = speak("Danke, bonjour, gracias, ciao.", voice=voice)
    assert viseme_tracks(speech.phonemes, speech.duration_s)[:, OPEN].max() > 0.3


def test_sentences_and_voices_vary_and_repeat():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return [(random_sentence(generator), random_voice(generator)) for _ in range(20)]

    assert draw(0) == draw(0)
    assert len({sentence for sentence, _ in draw(0)}) > 15
    assert len({voice["voice"] for _, voice in draw(0)}) > 10


def test_bad_requests_say_what_to_do():
    with pytest.raises(ConfigurationError, match="no voice 'martian'"):
        speak("Hello", voice="martian")
    with pytest.raises(MediaError, match="words"):
        speak("")
    with pytest.raises(ConfigurationError, match="mouth shape"):
        viseme_tracks((Phoneme("ǂ", 0.0),), 1.0)


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DependencyError, match=r"loopy-portrait\[synthetic\]"):
        speak("Hello")


def test_torchaudio_that_does_not_load_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", None)
    with pytest.raises(DependencyError, match="torchaudio does not load"):
        to_16_khz(8_000)
