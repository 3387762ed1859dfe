"""An autoencoder with a narrow decoder: the same latents, less work, its own form in a folder."""

import pytest
import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from loopy.errors import ConfigurationError
from loopy.models.folder import load_part, save_part
from loopy.models.latents import (
    decode_latents,
    encode_images,
    latents_fingerprint,
    latents_shape,
)
from loopy.models.narrow import NarrowDecoderKL, with_narrow_decoder
from loopy.training.autoencoder import AutoencoderStage, narrow_decoder, small_autoencoder


def wide():
    vae = small_autoencoder(widths=(8, 8, 16), latent_channels=4, groups=4, size_px=32).eval()
    vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    return vae


def test_latents_and_their_scale_stay_and_pictures_have_their_size():
    vae = wide()
    narrow = with_narrow_decoder(vae, (8, 8)).eval()
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = encode_images(vae, pictures)
    assert torch.equal(encode_images(narrow, pictures), latents)
    assert latents_fingerprint(narrow) == latents_fingerprint(vae)
    assert latents_shape(narrow, 32) == latents_shape(vae, 32) == (4, 8, 8)
    assert decode_latents(narrow, latents).shape == pictures.shape


def test_of_the_toon_model_it_is_a_quarter_of_the_work():
    latents = torch.zeros(1, 8, 16, 16, device="meta")

    def work(vae):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            vae.to("meta").decode(latents)
        return counter.get_total_flops()

    vae = small_autoencoder()
    assert work(with_narrow_decoder(vae, (16, 32, 64))) <= work(vae) / 4


def test_a_model_folder_holds_it(tmp_path, recwarn):
    narrow = with_narrow_decoder(wide(), (8, 8)).eval()
    save_part(narrow, tmp_path, "vae")
    read = load_part(tmp_path, "vae")
    assert isinstance(read, NarrowDecoderKL)
    latents = torch.randn(1, 4, 4, 4)
    assert torch.equal(decode_latents(read, latents), decode_latents(narrow, latents))
    assert read.config["latents_std"] == [1.0, 2.0, 3.0, 4.0]
    assert not recwarn


def test_stages_that_do_not_fit_are_said():
    with pytest.raises(ConfigurationError, match="has 3 stages, expected 2"):
        with_narrow_decoder(wide(), (8, 8, 8))
    with pytest.raises(ConfigurationError, match="use_quant_conv"):
        with_narrow_decoder(AutoencoderKL(block_out_channels=(32,)), ())


def test_training_the_decoder_alone_keeps_the_scale_of_latents(tmp_path):
    vae = wide()
    save_part(vae, tmp_path / "model", "vae")
    network = narrow_decoder(tmp_path / "model", widths=(8, 8))
    stage = AutoencoderStage(network, trained="decoder")
    stage.measure(iter([]))  # no face is asked for
    stage.export(tmp_path / "out", dtype=torch.float32)
    read = load_part(tmp_path / "out", "vae")
    assert latents_fingerprint(read) == latents_fingerprint(vae)
    trained = {name for name, p in stage.named_parameters() if p.requires_grad}
    assert trained == {f"network.{n}" for n, _ in network.named_parameters() if n[:8] == "decoder."}
