"""An autoencoder whose decoder is narrower than its encoder: decoding is most of a quick model."""

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder
from torch import nn

from loopy.errors import ConfigurationError


class NarrowDecoderKL(AutoencoderKL):
    """AutoencoderKL without attention whose last doubling is a rearrangement.

    The decoder works at most at half of the picture's size and gives 12 channels, which become
    2 x 2 pixels of 3 (sub-pixel convolution, arXiv 1609.05158): its widest convolutions of small
    channels, which a CPU does slowest, are gone. Encoder and latents are AutoencoderKL's.

    Args:
        block_out_channels: Channels of the encoder's stages; each but the last halves.
        decoder_out_channels: Channels of the decoder's stages, finest first: one fewer.
        latent_channels: Channels of a latent.
        norm_num_groups: Of the group norms.
        sample_size: Height and width of the pictures it is made for.
        latents_mean: Mean of each latent channel.
        latents_std: Deviation of each.
        scaling_factor: Where there are no such statistics.

    Raises:
        ConfigurationError: Stages that do not fit.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (16, 32, 64, 96),
        decoder_out_channels: Sequence[int] = (16, 32, 64),
        latent_channels: int = 8,
        norm_num_groups: int = 8,
        sample_size: int = 128,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        scaling_factor: float = 1.0,
    ) -> None:
        stages = len(block_out_channels)
        if len(decoder_out_channels) != stages - 1:
            raise ConfigurationError(
                f"decoder_out_channels has {len(decoder_out_channels)} stages, expected "
                f"{stages - 1}: one fewer than block_out_channels"
            )
        config: dict[str, Any] = {
            "block_out_channels": tuple(block_out_channels),
            "down_block_types": ("DownEncoderBlock2D",) * stages,
            "up_block_types": ("UpDecoderBlock2D",) * stages,
            "layers_per_block": 1,
            "latent_channels": latent_channels,
            "norm_num_groups": norm_num_groups,
            "sample_size": sample_size,
            "mid_block_add_attention": False,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "latents_mean": latents_mean,
            "latents_std": latents_std,
            "scaling_factor": scaling_factor,
        }
        super().__init__(**config)
        narrow = Decoder(
            in_channels=latent_channels,
            out_channels=3 * 2 * 2,
            up_block_types=("UpDecoderBlock2D",) * (stages - 1),
            block_out_channels=tuple(decoder_out_channels),
            layers_per_block=1,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=False,
        )
        self.decoder = nn.Sequential(narrow, nn.PixelShuffle(2))


def with_narrow_decoder(vae: AutoencoderKL, widths: Sequence[int]) -> NarrowDecoderKL:
    """The same encoder and latents with a decoder that has learned nothing yet.

    Args:
        vae: Without attention and with one layer a block, as `small_autoencoder` builds them.
        widths: Channels of the decoder's stages, finest first.

    Raises:
        ConfigurationError: An autoencoder of another shape, whose latents would become others.
    """
    built = {"use_quant_conv": False, "mid_block_add_attention": False, "layers_per_block": 1}
    if any(vae.config.get(name) != value for name, value in built.items()):
        raise ConfigurationError(
            f"a narrow decoder is for an AutoencoderKL with {built}; train such a one "
            "(configs/toon/vae.yaml)"
        )
    names = ("block_out_channels", "latent_channels", "norm_num_groups", "sample_size")
    names += ("latents_mean", "latents_std", "scaling_factor")
    narrow = NarrowDecoderKL(
        **{name: vae.config[name] for name in names}, decoder_out_channels=tuple(widths)
    )
    narrow.encoder.load_state_dict(vae.encoder.state_dict())
    return narrow
