import pytest
import torch

from loopy.evaluation.toon.conditions import (
    MismatchedAudio,
    condition_sensitivity,
    held_out_clips,
)
from loopy.evaluation.toon.talks import held_out_talk
from loopy.synthetic.face import CONTROLS


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline(sampling={"steps": 1, "audio_ratio": 1.0, "reference_ratio": 1.0})


def test_held_out_clips_are_those_of_training(pipeline):
    clips = held_out_clips(pipeline, clips=2)
    layout = pipeline.settings.contract.layout
    talk = held_out_talk(0, 1000, seconds=(layout.past_frames + 3) / 25 + 0.56)
    features = pipeline.audio_encoder.features(talk.audio)
    middle = clips.audio[0, 1, 2]  # second frame of the clip, itself
    torch.testing.assert_close(middle, features[layout.past_frames + 1])
    torch.testing.assert_close(clips.audio[0, 1, 4], features[layout.past_frames + 3])
    assert clips.motion_frames.shape[1] == layout.slots
    assert clips.past_present.all()
    whole = talk.controls[:, CONTROLS.index("open")]
    assert len(whole) >= layout.past_frames + 3
    assert 0 < clips.weight.mean() < 1


def test_what_the_network_does_not_use_does_not_change_its_loss(pipeline):
    clips = held_out_clips(pipeline, clips=5)
    grown = condition_sensitivity(pipeline, clips)
    assert set(grown) == {"past", "voice", "keys", "latents"}
    assert all(len(each) == 5 and each.abs().max() > 1e-6 for each in grown.values())
    with torch.no_grad():
        pipeline.network.audio_to_latents.to_time.weight.zero_()
    grown = condition_sensitivity(pipeline, clips)
    assert grown["latents"].abs().max() < 1e-6 < grown["keys"].abs().max()
    with torch.no_grad():
        for name, parameter in pipeline.network.denoiser.named_parameters():
            if "audio_attn.to_out" in name or ("inter_clip" in name and "to_out" in name):
                parameter.zero_()
    grown = condition_sensitivity(pipeline, clips)
    assert grown["keys"].abs().max() < 1e-6
    assert grown["past"].abs().max() < 1e-6


def test_equal_clips_have_nothing_to_mismatch(pipeline):
    one = held_out_clips(pipeline, clips=1)
    grown = condition_sensitivity(pipeline, type(one).cat([one, one]))
    assert all(each.abs().max() < 1e-5 for each in grown.values())


def test_audio_to_latents_is_given_the_row_before():
    tokens = torch.arange(3.0)
    assert MismatchedAudio(torch.nn.Identity(), 1)(tokens).tolist() == [2, 0, 1]
