"""An export in mid-training: what is being trained stays as it is, to the last bit."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from loopy.training.autoencoder import AutoencoderStage, FaceBatch, small_autoencoder
from loopy.training.module import LoopyModule
from loopy.training.speech import AudioEncoderStage, small_wav2vec2
from loopy.training.start import FrozenParts


def network(make_pipeline):
    parts = make_pipeline()
    stage = LoopyModule(parts.network.train(), parts.scheduler, parts.settings)
    stage.frozen = FrozenParts(parts.vae, parts.audio_encoder)
    return stage, [stage, *stage.frozen]


def autoencoder(_):
    stage = AutoencoderStage(small_autoencoder(widths=(8, 8), groups=4, size_px=16))
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    stage.measure([FaceBatch(pictures, torch.zeros(2, 68, 2), torch.ones(2, 68).bool())])
    return stage, [stage]


def speech(_):
    stage = AudioEncoderStage(small_wav2vec2(width=16, layers=2, heads=2))
    return stage, [stage]


def configurations(stage):
    """Of each network, without diffusers' own notes."""
    found = [module.config for module in stage.modules() if hasattr(module, "register_to_config")]
    return [{k: v for k, v in config.items() if not k.startswith("_")} for config in found]


@pytest.mark.parametrize("make", [network, autoencoder, speech])
def test_an_export_leaves_what_is_trained_as_it_is(make, make_pipeline, tmp_path):
    stage, live = make(make_pipeline)
    before = copy.deepcopy([module.state_dict() for module in live])
    said = configurations(stage)
    stage.export(tmp_path / "model", dtype=torch.float16)
    for old, module in zip(before, live, strict=True):
        for name, value in module.state_dict().items():
            assert value.dtype == old[name].dtype, name
            assert torch.equal(value, old[name]), name
    assert said == configurations(stage)
    files = list((tmp_path / "model").glob("*/*.safetensors"))
    assert files
    for file in files:
        dtypes = {value.dtype for value in load_file(file).values() if value.is_floating_point()}
        assert dtypes == {torch.float16}, file
