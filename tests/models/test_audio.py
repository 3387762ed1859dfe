"""Sound to features: which samples a frame hears, spans, the rule of two vectors a frame."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from loopy.errors import MediaError
from loopy.models import AudioEncoder
from loopy.models.folder import save_part
from loopy.timing import AudioWindow

CONFIG = Wav2Vec2Config(
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=16,
    conv_dim=(4,) * 7,
    feat_extract_norm="layer",
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2,
)
LOCAL = 0  # the layer before the transformer: it hears its own samples and a few neighbours


def build():
    torch.manual_seed(0)
    return AudioEncoder.from_config(CONFIG)


@pytest.fixture(scope="module")
def encoder():
    return build()


@pytest.fixture(scope="module")
def pointwise():
    """Without the positional convolution: layer 0 hears nothing but the vector's own samples."""
    encoder = build()
    with torch.no_grad():
        convolution = encoder.network.encoder.pos_conv_embed.conv
        convolution.bias.zero_()
        convolution.parametrizations.weight.original0.zero_()  # the length of the weight norm
    return encoder


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def test_it_answers_with_all_layers(encoder):
    assert (encoder.layers, encoder.width) == (3, 8)
    assert encoder.features(noise(16_000)).shape == (25, 3, 8)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(640, 20_000))
@example(640)
@example(959)
@example(960)
def test_frames_are_seconds_times_25(samples):
    features = build().features(noise(samples))
    assert len(features) == int(samples / 640 + 0.5)
    assert features.isfinite().all()


def test_two_of_transformers_vectors_make_a_frame(encoder):
    audio = noise(640 * 10 + 80)  # 20 vectors exactly
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    values = extractor(audio.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        theirs = encoder.network(values, output_hidden_states=True).hidden_states
    expected = torch.stack(theirs, 2)[0].unflatten(0, (10, 2)).mean(1)
    torch.testing.assert_close(encoder.features(audio), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frame", [0, 1, 7, 23])
def test_a_frame_hears_its_own_samples(pointwise, frame):
    """Shuffling sound inside a frame changes neither mean nor variance, only that frame."""
    audio = noise(16_000)
    inside = slice(640 * frame + 80, 640 * frame + 640)
    changed = audio.clone()
    changed[inside] = changed[inside].flip(0)
    before, after = (pointwise.features(sound)[:, LOCAL] for sound in (audio, changed))
    difference = (after - before).abs().amax(1)
    assert (difference > 1e-3).nonzero().flatten().tolist() == [frame]


def test_loudness_and_offset_do_not_matter(encoder):
    audio = noise(16_000)
    louder = encoder.features(3 * audio + 0.2)
    torch.testing.assert_close(louder, encoder.features(audio), atol=1e-3, rtol=1e-3)


def test_silence_is_finite(encoder):
    assert encoder.features(torch.zeros(8_000)).isfinite().all()


def test_one_frame_is_enough_and_less_is_an_error(encoder):
    assert encoder.features(noise(640)).shape == (1, 3, 8)
    with pytest.raises(MediaError, match=r"639 samples.*0\.04 s"):
        encoder.features(noise(639))


def test_it_stays_in_eval_mode(encoder):
    assert not any(module.training for module in encoder.train().modules())
    assert not any(module.training for module in torch.nn.Sequential(encoder).train()[0].modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder.train().features(noise(3200)), encoder.features(noise(3200)))


@pytest.fixture(scope="module")
def minute():
    return noise(16_000 * 61 + 200)


def test_a_long_sound_in_spans(encoder, minute):
    spans = list(encoder.stream(minute))
    assert [len(span) for span in spans] == [750, 750, 25]
    features = torch.cat(spans)
    assert torch.equal(encoder.features(minute), features)
    with torch.no_grad():
        values = (minute - minute.mean()) / minute.std(correction=0)
        whole = encoder.network(values[None], output_hidden_states=True).hidden_states
    whole = torch.stack(whole, 2)[0][: 2 * 1525].unflatten(0, (-1, 2)).mean(1)
    # Two seconds of context are more than the local layer needs: no border is heard.
    torch.testing.assert_close(features[:1524, LOCAL], whole[:1524, LOCAL], atol=1e-4, rtol=1e-3)
    jumps = features.diff(dim=0).norm(dim=(1, 2))
    assert jumps[[749, 1499]].max() < jumps.quantile(0.99)


def test_thirty_seconds_are_one_span(encoder):
    assert [len(span) for span in encoder.stream(noise(16_000 * 30))] == [750]
    assert [len(span) for span in encoder.stream(noise(16_000 * 30 + 320))] == [750, 1]


def test_streaming_is_lazy(encoder, minute):
    calls = []
    hook = encoder.network.register_forward_hook(lambda *_: calls.append(1))
    spans = encoder.stream(minute)
    assert not calls
    next(spans)
    hook.remove()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("samples", "frames"), [(16_000, 12), (640, 12), (640 * 24, 12), (9_999, 5)]
)
@pytest.mark.parametrize("window", [AudioWindow(), AudioWindow(0, 0), AudioWindow(3, 1)])
def test_clips_hold_each_frame_and_its_neighbours(encoder, samples, frames, window):
    features, around = encoder.features(noise(samples)), range(-window.before, window.after + 1)
    clips = torch.cat(list(encoder.clips(noise(samples), frames, window=window)), 1)[0]
    assert len(clips) == -(-len(features) // frames) * frames
    last = len(features) - 1
    for frame, heard in enumerate(clips):
        own = [min(max(frame + offset, 0), last) for offset in around]
        assert torch.equal(heard, features[own])


def test_clips_cross_spans(encoder, minute):
    features = encoder.features(minute)
    clips = [clip[0] for clip in encoder.clips(minute, 12)]
    assert {clip.shape for clip in clips} == {(12, 5, 3, 8)}
    assert torch.equal(torch.cat(clips)[:1525], features[AudioWindow().indices(range(1525), 1525)])


def test_save_in_transformers_form(encoder, tmp_path):
    save_part(encoder, tmp_path, "audio_encoder")
    again = AudioEncoder(Wav2Vec2Model.from_pretrained(tmp_path / "audio_encoder"))
    assert torch.equal(again.features(noise(3200)), encoder.features(noise(3200)))
