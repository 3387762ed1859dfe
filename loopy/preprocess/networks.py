"""What the networks of a store make of pictures and sound."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.models import AudioEncoder
from loopy.models.latents import encode_posterior
from loopy.pixels import from_pixels
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.work import rows_of
from loopy.timing import FPS

AT_ONCE = 8
"""Frames in a batch of the autoencoder."""


class Networks(NamedTuple):
    """What turns pictures and sound into what is stored."""

    vae: AutoencoderKL
    audio_encoder: AudioEncoder

    def latents(
        self, pictures: UInt8[Tensor, "f h w 3"], options: PreprocessOptions
    ) -> dict[str, Float[Tensor, "f c h w"]]:
        """Mean, and what else the store shall hold of pictures, in half precision."""
        parts = dict[str, list[Tensor]]()
        for some in pictures.split(AT_ONCE):
            images = from_pixels(some.to(self.vae.device).permute(0, 3, 1, 2))
            mean, log_variance = encode_posterior(self.vae, images)
            made = {"latents": mean}
            if options.log_variance:
                made["log_variance"] = log_variance
            if options.mirrored:
                made["latents_mirrored"], _ = encode_posterior(self.vae, images.flip(-1))
            for name, values in made.items():
                parts.setdefault(name, []).append(values.half().cpu())
        return {name: torch.cat(values) for name, values in parts.items()}

    def features(
        self, samples: Float[Tensor, " samples"], spans: Sequence[range], *, rate_hz: int
    ) -> Iterator[Float[Tensor, "s k d"]]:
        """What wav2vec2 hears in spans of a sound, each with all that was said before it.

        Args:
            samples: The whole sound at 16 kHz.
            spans: Frames, in ascending order.
            rate_hz: 25 or 50 rows a second.

        Yields:
            Rows of each span in half precision, zeros behind the end of the sound.
        """
        each = rate_hz // int(FPS)
        heard = self.audio_encoder.stream(samples.to(self._device), pooled=each == 1)
        rows = [range(span.start * each, span.stop * each) for span in spans]
        for wanted, found in zip(
            rows, rows_of(rows, (part.half().cpu() for part in heard)), strict=True
        ):
            silence = found.new_zeros(len(wanted) - len(found), *found.shape[1:])
            yield torch.cat([found, silence])

    @property
    def _device(self) -> torch.device:
        return self.audio_encoder.network.device
