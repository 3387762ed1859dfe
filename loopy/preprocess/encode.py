"""What the networks of a store make of pictures and sound."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from loopy.data.media.sound import read_audio
from loopy.errors import MediaError
from loopy.models import AudioEncoder
from loopy.models.latents import Autoencoder, encode_posterior
from loopy.pixels import from_pixels
from loopy.preprocess.options import PreprocessOptions
from loopy.timing import FPS


class Networks(NamedTuple):
    """What turns pictures and sound into what is stored."""

    vae: Autoencoder
    audio_encoder: AudioEncoder

    def latents(
        self, pictures: UInt8[Tensor, "f h w 3"], options: PreprocessOptions
    ) -> dict[str, Float[Tensor, "f c h w"]]:
        """Mean of the posterior, and the other tensors that the options ask for, in half precision.

        Args:
            pictures: One batch of crops.
            options: Which tensors.
        """
        images = from_pixels(pictures.to(self.vae.device).permute(0, 3, 1, 2))
        mean, log_variance = encode_posterior(self.vae, images)
        tensors = {"latents": mean}
        if options.log_variance:
            tensors["log_variance"] = log_variance
        if options.mirrored:
            tensors["latents_mirrored"], _ = encode_posterior(self.vae, images.flip(-1))
        return {name: tensor.half().cpu() for name, tensor in tensors.items()}

    def features(self, video: Path, *, rate_hz: int) -> Iterator[Float[Tensor, "s k d"]]:
        """Features of the whole sound of a video, on the clock of its pictures, a part at a time.

        Args:
            video: The video; it is read when the first part is asked for.
            rate_hz: 25 or 50 rows a second.
        """
        samples = read_audio(video, zero="pictures").to(self.audio_encoder.network.device)
        for part in self.audio_encoder.stream(samples, pooled=rate_hz == int(FPS)):
            yield part.half().cpu()


class RowStream:
    """Spans of rows out of a stream, which is held no further than to the end of a span.

    Args:
        stream: All rows from the first on, some at a time.
    """

    def __init__(self, stream: Iterable[Shaped[Tensor, "n ..."]]) -> None:
        self._stream, self._held, self._first = iter(stream), list[Tensor](), 0

    def __call__(self, span: range) -> Shaped[Tensor, "rows ..."]:
        """The rows of a span, zeros after the end of the stream.

        Args:
            span: It begins where the last one ended, or later.

        Raises:
            MediaError: The stream is empty, so that the shape of a row is not known.
        """
        end = self._first + sum(map(len, self._held))
        while (end < span.stop or not self._held) and (
            part := next(self._stream, None)
        ) is not None:
            self._held.append(part)
            end += len(part)
            while len(self._held) > 1 and self._first + len(self._held[0]) <= span.start:
                self._first += len(self._held.pop(0))
        if not self._held:
            raise MediaError("the sound gives no rows of features; give a longer one")
        start, stop = (max(place - self._first, 0) for place in (span.start, span.stop))
        rows = torch.cat(self._held)[start:stop]
        return torch.cat([rows, rows.new_zeros(len(span) - len(rows), *rows.shape[1:])])
