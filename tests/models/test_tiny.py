"""Tiny autoencoders of others: real files where they are, the same names where they are not."""

import os
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from loopy.errors import ModelError
from loopy.models.folder import load_part, save_part
from loopy.models.latents import decode_latents, encode_images, latents_shape
from loopy.models.tiny import NormedTiny, read_tiny

REAL = Path(os.environ.get("LOOPY_REAL", Path(__file__).parents[3] / "shared/real")) / "weights"


def files_of(vae, folder):
    """The two files as TAESD has them: numbers of layers, the decoder's with a clamp before."""
    paths = []
    for part, shift in (("encoder", 0), ("decoder", 1)):
        tensors = {}
        for name, tensor in getattr(vae, part).state_dict().items():
            _, place, rest = name.split(".", 2)
            tensors[f"{int(place) + shift}.{rest}"] = tensor.half().contiguous()
        paths.append(folder / f"{part}.safetensors")
        save_file(tensors, paths[-1])
    return paths


@pytest.mark.parametrize(
    "made",
    [lambda: AutoencoderTiny(latent_channels=4), lambda: NormedTiny(latent_channels=8)],
    ids=["TAESD", "TAEF2"],
)
def test_the_files_of_an_autoencoder_are_that_autoencoder(tmp_path, made):
    vae = made().half().float().eval()
    read = read_tiny(*files_of(vae, tmp_path))
    assert type(read) is type(vae)
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = encode_images(vae, pictures)
    assert torch.equal(encode_images(read, pictures), latents)
    assert torch.equal(decode_latents(read, latents), decode_latents(vae, latents))


def test_a_normed_block_sees_the_whole_picture():
    vae = NormedTiny(latent_channels=4).eval()
    pictures = torch.zeros(1, 3, 64, 64, requires_grad=True)
    vae.encode(pictures, return_dict=False)[0][0, :, 0, 0].sum().backward()
    assert pictures.grad[0, :, -8:, -8:].abs().max() > 0  # of the far corner


def test_a_model_folder_holds_it(tmp_path, recwarn):
    vae = NormedTiny(latent_channels=8).eval()
    save_part(vae, tmp_path, "vae")
    read = load_part(tmp_path, "vae")
    assert isinstance(read, NormedTiny)
    state = read.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in vae.state_dict().items())
    assert latents_shape(read, 64) == (8, 8, 8)
    assert not recwarn


def test_other_files_are_refused(tmp_path):
    encoder, decoder = files_of(AutoencoderTiny(latent_channels=4), tmp_path)
    other = tmp_path / "other.safetensors"
    save_file({"conv_in.weight": torch.zeros(2)}, other)
    with pytest.raises(ModelError, match="no file of TAESD's kind has"):
        read_tiny(other, decoder)
    with pytest.raises(ModelError, match="is no encoder of TAESD's kind"):
        read_tiny(decoder, encoder)
    with pytest.raises(ModelError, match="no file"):
        read_tiny(tmp_path / "none.safetensors", decoder)


@pytest.mark.parametrize(("name", "size_px", "least_db"), [("taesd", 256, 25), ("taef2", 128, 29)])
def test_real_faces_come_back(name, size_px, least_db, capsys):
    if not (REAL / f"{name}_encoder.safetensors").exists():
        pytest.skip(f"no {name} in {REAL}; LOOPY_REAL names the folder above")
    data = pytest.importorskip("skimage.data")
    vae = read_tiny(*(REAL / f"{name}_{part}.safetensors" for part in ("encoder", "decoder")))
    face = torch.from_numpy(data.astronaut()[:256, 90:346].copy()).permute(2, 0, 1)[None]
    face = torch.nn.functional.interpolate(face / 127.5 - 1, size=(size_px,) * 2, mode="area")
    latents = encode_images(vae, face)
    error = ((decode_latents(vae, latents) - face) / 2).square().mean()
    db = -10 * error.log10().item()
    with capsys.disabled():
        print(f"\n{name} at {size_px} px: {db:.1f} dB, latents' deviation {latents.std():.2f}")
    assert db > least_db
