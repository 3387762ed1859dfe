"""Pictures <-> scaled latents, in the units of the autoencoder's own configuration.

Scaled = (z - mean) / std where the configuration has channel statistics, else z x
scaling_factor (SD1.5: 0.18215).
"""

import hashlib

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.pixels import to_pixels

Autoencoder = AutoencoderKL | AutoencoderTiny
"""The autoencoders of pictures; the tiny one has latents without a posterior."""
NO_VARIANCE = -30.0
"""Log-variance of latents that are no distribution: the least that diffusers' Gaussian knows."""
AT_ONCE_PX = 2**20
"""Pixels that are decoded in one call: four frames of 512 px, 3 GiB in float32; 64 toons of 128 px.
More at once was not faster on a CPU."""


@torch.no_grad()
def encode_images(vae: Autoencoder, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
    """Mean of the posterior, scaled.

    Args:
        vae: The autoencoder.
        images: In [-1, 1].
    """
    return encode_posterior(vae, images)[0]


@torch.no_grad()
def encode_posterior(
    vae: Autoencoder, images: Float[Tensor, "n 3 H W"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
    """Mean and log-variance of the posterior, both of scaled latents.

    Args:
        vae: The autoencoder.
        images: In [-1, 1].
    """
    encoded = vae.encode(images.to(vae.dtype), return_dict=False)[0]  # pyright: ignore[reportArgumentType]  # any Tensor will do
    if isinstance(encoded, Tensor):
        mean, log_variance = encoded, torch.full_like(encoded, NO_VARIANCE)
    else:
        mean, log_variance = encoded.mode(), encoded.logvar
    shift, scale = _affine(vae, mean)
    return (mean - shift) / scale, log_variance - 2 * scale.log()


@torch.no_grad()
def decode_latents(vae: Autoencoder, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
    """Pictures in [-1, 1]; `AT_ONCE_PX` in a call: but for them, memory does not grow."""
    latents = latents.to(vae.dtype)
    shift, scale = _affine(vae, latents)
    side = 2 ** (len(vae.config["block_out_channels"]) - 1)
    at_once = max(1, AT_ONCE_PX // (latents.shape[-2:].numel() * side**2))
    parts = (latents * scale + shift).split(at_once)
    return torch.cat([vae.decode(part, return_dict=False)[0].clamp_(-1, 1) for part in parts])  # pyright: ignore[reportArgumentType]  # any Tensor will do


def decode_frames(vae: Autoencoder, latents: Float[Tensor, "f c h w"]) -> UInt8[Tensor, "f H W 3"]:
    """Frames of a video, on the CPU."""
    return to_pixels(decode_latents(vae, latents)).permute(0, 2, 3, 1).cpu()


def latents_shape(vae: Autoencoder, size_px: int) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a square picture."""
    side = size_px // 2 ** (len(vae.config["block_out_channels"]) - 1)
    return vae.config["latent_channels"], side, side


def latents_fingerprint(vae: Autoencoder) -> str:
    """A short hash of how latents are scaled; that of the weights does not tell."""
    values = [each.flatten().tolist() for each in _affine(vae, torch.zeros(1))]
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


def _affine(vae: Autoencoder, like: Tensor) -> tuple[Tensor, Tensor]:
    """Shift and scale that turn scaled latents into the autoencoder's own, (1 c 1 1) or (1)."""
    if vae.config.get("latents_mean") is None:
        return like.new_zeros(1), like.new_full((1,), 1 / vae.config["scaling_factor"])
    mean, std = (like.new_tensor(vae.config[f"latents_{k}"]) for k in ("mean", "std"))
    return mean[None, :, None, None], std[None, :, None, None]
