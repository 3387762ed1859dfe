"""Pictures to scaled latents and back."""

import pytest
import torch
from diffusers import AutoencoderKL

from loopy.models import decode_latents, encode_images
from loopy.models.latents import latents_fingerprint
from loopy.training.memory import StorageTracker

STATISTICS = {"latents_mean": [1.0, -2.0], "latents_std": [0.5, 4.0]}


@pytest.fixture
def make():
    def build(**config):
        return AutoencoderKL(
            block_out_channels=(4,), norm_num_groups=2, latent_channels=2, **config
        ).eval()

    return build


@pytest.mark.parametrize(
    ("config", "shift", "scale"),
    [
        ({"scaling_factor": 0.18215}, [0.0, 0.0], [1 / 0.18215] * 2),
        (STATISTICS, [1.0, -2.0], [0.5, 4.0]),
    ],
)
def test_latents_are_scaled(make, config, shift, scale):
    vae, images = make(**config), torch.rand(3, 3, 8, 8) * 2 - 1
    shift, scale = (torch.tensor(values)[:, None, None] for values in (shift, scale))
    with torch.no_grad():
        own = vae.encode(images).latent_dist.mean
        torch.testing.assert_close(encode_images(vae, images), (own - shift) / scale)
        pictures = vae.decode(own).sample.clamp(-1, 1)
    torch.testing.assert_close(decode_latents(vae, (own - shift) / scale), pictures)


def test_another_scaling_is_known_by_its_fingerprint(make):
    configs = [{}, {"scaling_factor": 0.5}, STATISTICS, STATISTICS | {"latents_std": [0.5, 5.0]}]
    marks = [latents_fingerprint(make(**config)) for config in configs]
    assert len(set(marks)) == 4
    assert marks[2] == latents_fingerprint(make(**STATISTICS).half())  # on any device, in any type


def test_pictures_stay_in_range(make):
    pictures = decode_latents(make(), 1e3 * torch.randn(2, 2, 8, 8))
    assert (pictures.min(), pictures.max()) == (-1, 1)


def test_many_pictures_are_decoded_in_parts(make, monkeypatch):
    vae, latents = make(), torch.randn(7, 2, 8, 8)
    whole = decode_latents(vae, latents)
    sizes, decode = [], vae.decoder.forward
    monkeypatch.setattr(vae.decoder, "forward", lambda z: sizes.append(len(z)) or decode(z))
    for pixels, expected in ((3 * 64, [3, 3, 1]), (1, [1] * 7), (7 * 64, [7])):
        monkeypatch.setattr("loopy.models.latents.AT_ONCE_PX", pixels)
        torch.testing.assert_close(decode_latents(vae, latents), whole)
        assert sizes == expected
        sizes.clear()


def test_a_clip_of_512_px_is_decoded_in_the_memory_of_four_frames():
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
    )
    vae = vae.to("meta").eval()
    peaks = []
    for frames in (4, 12):
        latents = torch.empty(frames, 4, 64, 64, device="meta")
        with StorageTracker() as ledger:
            ledger.follow(vae.parameters(), "weights")
            decode_latents(vae, latents)
        peaks.append(ledger.most)
    assert peaks[1] < 1.5 * peaks[0]
