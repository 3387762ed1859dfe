"""Features of a sound that goes on: an encoder that hears a window of it, clip by clip.

::

    heard before                    clip (12 frames)   look-ahead (2)
    [ ...  window_s of sound, at most ... |------------|--]  --encode-->  features of the clip
                                                                          and its neighbours

Offline the encoder hears up to 30 s at once, before and after, and mean and variance are those of
the whole recording. Here nothing after the look-ahead is there yet, and mean and variance are those
of the sound until now; what was silent only because nobody spoke does not count for them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from loopy.errors import ConfigurationError
from loopy.models.audio import LEAST_VARIANCE, PER_SECOND, SpeechEncoder
from loopy.timing import AudioWindow, frame_count, sample_span
from loopy.typed_values import check_fields

FRAME_SAMPLES = sample_span(0)[1]


@dataclass(frozen=True)
class LiveOptions:
    """How a sound that goes on is heard.

    Args:
        lookahead: Frames of sound after a clip that it waits for. Those that a frame hears
            beyond are the last one again; more than it hears help the encoder alone.
        window_s: So many seconds of sound are encoded for a clip, itself and the look-ahead
            included.

    Raises:
        ConfigurationError: Fewer than 0 frames, or a window that is no time.
    """

    lookahead: int = 2
    window_s: float = 4.0

    def __post_init__(self) -> None:
        """Refuse what cannot be heard."""
        check_fields(self)
        if self.lookahead < 0:
            raise ConfigurationError(f"lookahead is 0 frames or more, got {self.lookahead}")
        if not 0 < self.window_s <= 30:
            raise ConfigurationError(f"window_s is more than 0 s and at most 30, got {self}")


class ClipFeatures(NamedTuple):
    """Features (1 f n k d) of a clip's frames and neighbours, and how many frames have sound."""

    features: Tensor
    frames: int


class LiveFeatures:
    """Takes a sound frame by frame, and gives features clip by clip, in memory that stays.

    Args:
        encoder: Speech encoder.
        clip_frames: Frames of a clip.
        window: Which neighbours; that of the projection.
        options: See `LiveOptions`.
        device: Where the encoder is.

    Raises:
        ConfigurationError: The window of sound is shorter than a clip and what it hears.
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        clip_frames: int,
        *,
        window: AudioWindow,
        options: LiveOptions,
        device: torch.device,
    ) -> None:
        self._encoder, self._clip_frames, self._window = encoder, clip_frames, window
        self._lookahead, self._device = options.lookahead, device
        self._context = round(options.window_s * PER_SECOND) - clip_frames - options.lookahead
        if self._context < window.before:
            least = (window.before + clip_frames + options.lookahead) / PER_SECOND
            raise ConfigurationError(
                f"window_s is {options.window_s:g}; a clip, its look-ahead and what it hears "
                f"before take {least:g} s: give that or more"
            )
        self._sound = torch.zeros(0)
        self._before = 0  # frames at the beginning of it whose clips are made
        self._sums = torch.zeros(3, dtype=torch.float64)  # samples, their sum, that of squares

    @property
    def seconds(self) -> float:
        """Length of the sound that is held."""
        return len(self._sound) / (FRAME_SAMPLES * PER_SECOND)

    @property
    def pending(self) -> int:
        """Frames of sound whose clips are not made."""
        return frame_count(len(self._sound)) - self._before

    @property
    def ready(self) -> bool:
        """Whether the sound of a clip and of its look-ahead is there."""
        return self.pending >= self._clip_frames + self._lookahead

    def add(self, frame: Float[Tensor, "640"], *, counts: bool = True) -> None:
        """Takes the sound of one more frame; a silence that is none of the sound counts not."""
        self._sound = torch.cat([self._sound, frame])
        if counts:
            exact = frame.double()
            sums = [exact.new_tensor(len(exact)), exact.sum(), exact.square().sum()]
            self._sums += torch.stack(sums)

    def finish(self, tail: Float[Tensor, "samples"]) -> None:
        """The sound is over, with these samples, which are no whole frame: make what is pending."""
        self._sound = torch.cat([self._sound, tail])

    def drop(self) -> None:
        """Forgets what is pending; the next frame begins a clip."""
        missing = self._before * FRAME_SAMPLES - len(self._sound)
        self._sound = functional.pad(self._sound, (0, missing))  # cuts, where it is less than 0

    def clip(self) -> ClipFeatures:
        """Features of the next clip; of what is there, if it is not `ready`."""
        frames = self._before + self.pending
        made = min(self._clip_frames, self.pending)
        span = range(self._before, self._before + self._clip_frames)
        features = self._encoded(frames)[self._window.indices(span, frames)]
        gone = max(self._before + made - self._context, 0)
        self._sound = self._sound[gone * FRAME_SAMPLES :].clone()
        self._before += made - gone
        return ClipFeatures(features[None], made)

    @torch.no_grad()
    def _encoded(self, frames: int) -> Float[Tensor, "f k d"]:
        """Features of all frames of the sound that is held."""
        count, total, squares = self._sums.tolist()
        mean = total / max(count, 1)
        variance = max(squares / max(count, 1) - mean**2, 0.0) + LEAST_VARIANCE
        sound = ((self._sound.double() - mean) * variance**-0.5).float().to(self._device)
        sound = functional.pad(sound, (0, max(FRAME_SAMPLES - len(sound), 0)))  # half a frame alone
        return self._encoder.of_frames(self._encoder.encode(sound), range(frames)).mean(1)
