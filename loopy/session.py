"""Sound as it is spoken: samples in, in pieces of any length, and frames out.

::

    pushed    [ piece | piece |  piece  | ...        at any rate, as it is spoken
    16 kHz    [f|f|f|f|f|f|f|f|f|f|f|f|f|f| ...      frames of 0.04 s
    clips     |-- 12 frames = 0.48 s --|~~|          made once their look-ahead is there

Whatever is held stays as long: the encoder's window of sound, the past of the video, and less than
a clip of sound that is not spoken yet.
"""

from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from loopy.data.media.sound import Samples, check_piece
from loopy.data.media.sound_blocks import Resampler, check_rate
from loopy.diffusion.clip_loop import ClipLoop
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError
from loopy.models import SpeechEncoder
from loopy.models.latents import Autoencoder, decode_frames
from loopy.models.live_features import FRAME_SAMPLES, LiveFeatures, LiveOptions
from loopy.stopwatch import Stopwatch
from loopy.timing import FPS, SAMPLE_RATE_HZ, AudioWindow
from loopy.typed_values import check_number

Frames = UInt8[Tensor, "f h w 3"]

REMEMBERED = 1000
"""Of so many clips, the latest, the delays are known."""


class Delays(NamedTuple):
    """How long clips take, from the call that brought the last of their sound to their frames.

    Attributes:
        clips: How many were made.
        first_s: Of the first one.
        median_s: Of the latest 1000.
        p95_s: 95 of 100 of these are faster.
        jitter_s: Between both.
        load: Seconds of work per second of video, of these: over 1, the sound is faster.
    """

    clips: int
    first_s: float
    median_s: float
    p95_s: float
    jitter_s: float
    load: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.clips} clips; delay of the first {self.first_s:.2f} s, median "
            f"{self.median_s:.2f} s, 95 % within {self.p95_s:.2f} s; "
            f"{self.load:.2f} s of work per second of video"
        )


class Session:
    """A face that hears: comes from `loopy.LoopyPipeline.session`.

    Frames do not depend on how the sound is cut, to the bit. `push` works until all clips are made
    whose sound is there, and so it holds back whoever speaks too fast for this machine; nothing
    piles up. A session is used by one thread at a time.

    Args:
        loop: The networks, the portrait, and where the video stands.
        encoder: Speech encoder.
        vae: Autoencoder.
        settings: Of the model: its clips, and its size.
        window: Which frames' sound a frame hears.
        rate_hz: Sample rate of what is pushed.
        options: See `LiveOptions`.
        stopwatch: Takes the seconds of audio, denoise and decode.

    Raises:
        MediaError: An impossible rate.
        ConfigurationError: The window of sound is shorter than a clip and what it hears.
    """

    def __init__(
        self,
        loop: ClipLoop,
        encoder: SpeechEncoder,
        vae: Autoencoder,
        *,
        settings: Settings,
        window: AudioWindow,
        rate_hz: int = SAMPLE_RATE_HZ,
        options: LiveOptions | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        check_number("rate_hz", rate_hz, int)
        check_rate(rate_hz := int(rate_hz), "sound that is pushed")
        if not isinstance(options, LiveOptions | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"hearing is LiveOptions, got {type(options).__name__}")
        self._loop, self._vae, self._clip_frames = loop, vae, settings.clip_frames
        self._features = LiveFeatures(
            encoder,
            settings.clip_frames,
            window=window,
            options=options or LiveOptions(),
            device=vae.device,
        )
        self._silence = np.zeros(rate_hz // int(FPS), np.float32)
        self._resampler = Resampler(
            rate_hz=rate_hz, wanted_hz=SAMPLE_RATE_HZ, part_samples=len(self._silence)
        )
        self._rest = torch.zeros(0)  # of a frame, at 16 kHz
        self._none = torch.zeros(0, settings.size_px, settings.size_px, 3, dtype=torch.uint8)
        self._watch = stopwatch or Stopwatch()
        self._delays = deque[float](maxlen=REMEMBERED)
        self._works = deque[float](maxlen=REMEMBERED)
        self._first_s, self._clips = 0.0, 0

    def push(self, samples: Samples) -> Frames:
        """Hears the next samples; makes every clip that is complete by them.

        Args:
            samples: Mono, (samples,), of any length: floats of full scale 1, int16, int32, uint8.

        Returns:
            Frames, often none.

        Raises:
            MediaError: Another type or shape, NaN or infinite samples, or a peak over 2; nothing
                of the piece is heard then.
            ModelError: A clip is not finite.
        """
        return self._heard(check_piece(samples), counts=True)

    def idle(self) -> Frames:
        """Makes a clip though nobody speaks: of the sound that is left, and silence.

        Returns:
            Frames of one clip.
        """
        while not len(frames := self._heard(self._silence, counts=False)):
            pass
        return frames

    def flush(self) -> Frames:
        """The sound is over: makes the frames that are left.

        All frames together are round(seconds x fps). The next sound that is pushed begins a clip,
        and the face goes on from where it is.
        """
        begin = perf_counter()
        parts = [self._none, *self._framed(self._resampler.finish(), begin)]
        self._features.finish(self._rest)
        while self._features.pending:
            parts.append(self._clip(begin))
        self._forget_sound()
        return torch.cat(parts)

    def interrupt(self) -> None:
        """Forgets the sound that is no frames yet: less than a clip and its look-ahead.

        The face goes on from where it is with what is pushed next, or with `idle`.
        """
        self._resampler.drop()
        self._forget_sound()

    @property
    def delays(self) -> Delays:
        """How long clips took until now; zeros before the first."""
        delays = torch.tensor(self._delays or [0.0], dtype=torch.float64)
        median_s, p95_s = delays.quantile(delays.new_tensor([0.5, 0.95])).tolist()
        load = sum(self._works) / max(len(self._works), 1) / (self._clip_frames / float(FPS))
        return Delays(self._clips, self._first_s, median_s, p95_s, p95_s - median_s, load)

    def _heard(self, samples: np.ndarray, *, counts: bool) -> Frames:
        frames = self._framed(self._resampler(samples), perf_counter(), counts=counts)
        return torch.cat([self._none, *frames])

    def _framed(
        self, parts: Iterator[np.ndarray], begin: float, *, counts: bool = True
    ) -> Iterator[Frames]:
        """Hears sound at 16 kHz frame by frame, and makes clips as they are complete."""
        for part in parts:
            samples = torch.cat([self._rest, torch.from_numpy(part)])
            whole = len(samples) - len(samples) % FRAME_SAMPLES
            self._rest = samples[whole:].clone()
            for frame in samples[:whole].view(-1, FRAME_SAMPLES):
                self._features.add(frame, counts=counts)
                if self._features.ready:
                    yield self._clip(begin)

    def _clip(self, begin: float) -> Frames:
        start = perf_counter()
        with self._watch("audio"):
            heard = self._features.clip()
        with self._watch("denoise"):
            latents = self._loop.step(heard.features)
        with self._watch("decode"):
            frames = decode_frames(self._vae, latents[0, : heard.frames])
        if heard.frames < self._clip_frames:
            self._loop.forget(self._clip_frames - heard.frames)
        end = perf_counter()
        if not self._clips:
            self._first_s = end - begin
        self._clips += 1
        self._delays.append(end - begin)
        self._works.append(end - start)
        return frames

    def _forget_sound(self) -> None:
        self._rest = self._rest[:0]
        self._features.drop()
