"""Tiny autoencoders that others have trained (TAESD and its kin), read from their own files."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from jaxtyping import Float
from torch import Tensor, nn

from loopy.errors import ModelError
from loopy.models.tensor_files import read_tensors
from loopy.models.weights import load_by_name
from loopy.paths import AnyPath

GROUPS, WIDER = 4, 4
NORMED = ("layers.11.pool.1.weight", "layers.2.pool.1.weight")
"""Names that only files with normed blocks have, of the encoder and of the decoder."""


class NormedBlock(AutoencoderTinyBlock):
    """A block in front of which stands a residual one with a group norm: it sees the whole picture.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, "relu")
        self.pool = nn.Sequential(
            nn.Conv2d(width, width * WIDER, 1, bias=False),
            nn.GroupNorm(GROUPS, width * WIDER),
            nn.ReLU(),
            nn.Conv2d(width * WIDER, width, 1, bias=False),
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The normed residual, then the block."""
        return super().forward(x + self.pool(x))


class NormedTiny(AutoencoderTiny):
    """AutoencoderTiny with `NormedBlock` where latents are smallest: the form of TAEF2.

    Args:
        latent_channels: 32 in TAEF2.
    """

    @register_to_config
    def __init__(self, latent_channels: int = 32) -> None:
        super().__init__(latent_channels=latent_channels)
        width = self.config["block_out_channels"][-1]
        for layers, first in ((self.encoder.layers, 11), (self.decoder.layers, 2)):
            for place in range(first, first + 3):
                layers[place] = NormedBlock(width)


def read_tiny(encoder: AnyPath, decoder: AnyPath) -> AutoencoderTiny:
    """An autoencoder out of the two files of TAESD, TAESD3, TAEF1 or TAEF2.

    TAESD's latents are those of Stable Diffusion 1.5, so that it encodes and decodes for any model
    of these: ``LoopyPipeline.from_pretrained(model, vae=read_tiny(encoder, decoder))``.

    Args:
        encoder: ``taesd_encoder.safetensors`` or ``.pth``, or that of one of the others.
        decoder: Likewise.

    Raises:
        ModelError: No such files, damaged ones, or other networks.
    """
    parts = {
        "encoder": _layers(encoder, shift=0),
        "decoder": _layers(decoder, shift=1),  # theirs counts the clamp that comes first
    }
    tensors = {f"{part}.{name}": each for part, of in parts.items() for name, each in of.items()}
    last = tensors.get("encoder.layers.14.weight", torch.empty(0))
    if last.ndim != 4:
        raise ModelError(f"{encoder} is no encoder of TAESD's kind; give taesd_encoder.safetensors")
    normed = all(name in part for name, part in zip(NORMED, parts.values(), strict=True))
    vae = (NormedTiny if normed else AutoencoderTiny)(latent_channels=len(last))
    if broken := next((name for name, each in tensors.items() if not each.isfinite().all()), None):
        raise ModelError(f"{broken} of {encoder} and {decoder} is not finite; copy them again")
    load_by_name(vae, tensors)
    return vae.eval().requires_grad_(False)


def _layers(path: AnyPath, *, shift: int) -> Mapping[str, Tensor]:
    """Tensors of a file by diffusers' names, in float32."""
    found = {}
    for name, tensor in read_tensors(Path(path)).tensors.items():
        numbered = re.fullmatch(r"(\d{1,3})\.(.+)", name)
        if numbered is None:
            raise ModelError(f"{path} has a tensor {name!r:.80}, which no file of TAESD's kind has")
        found[f"layers.{int(numbered[1]) - shift}.{numbered[2]}"] = tensor.float()
    return found
