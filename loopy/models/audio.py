"""Sound in: wav2vec2's layers per video frame, and their projection to audio tokens.

One rule, the same in preprocessing and inference: an encoder runs at its native rate (wav2vec2:
50 Hz), sounds up to 30 s whole and longer ones in 30 s spans with 2 s of context on each side;
the vectors of a frame (2f and 2f+1) are averaged; nothing is zero-padded.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from loopy.errors import ConfigurationError, MediaError
from loopy.timing import FPS, SAMPLE_RATE_HZ, AudioWindow, frame_count, sample_span

SPAN_S, CONTEXT_S = 30, 2
PER_SECOND = int(FPS)
LEAST_VARIANCE = 1e-7
"""Added to that of a sound, so that silence stays silence."""


class SpeechEncoder(nn.Module, ABC):
    """What a speech encoder is: vectors of a sound at a rate, in some layers of one width.

    A subclass gives these four and `encode`; spans, pooling to frames and clips are here.

    Attributes:
        rate_hz: Vectors a second: a multiple of the 25 frames.
        lookahead_s: How far after its own moment a vector depends on the sound; inf = on all of it.
    """

    rate_hz: int
    lookahead_s: float

    @property
    @abstractmethod
    def layers(self) -> int:
        """Feature layers (k)."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of each (d)."""

    @abstractmethod
    def encode(self, audio: Float[Tensor, "samples"]) -> Float[Tensor, "v k d"]:
        """All layers of one span of sound (16 kHz, mean 0, variance 1 over the whole recording)."""

    def features(self, audio: Float[Tensor, "samples"]) -> Float[Tensor, "f k d"]:
        """All layers for every frame of a sound.

        Raises:
            MediaError: Shorter than one frame (0.04 s).
        """
        return torch.cat(list(self.stream(audio)))

    @torch.no_grad()
    def stream(
        self, audio: Float[Tensor, "samples"], *, pooled: bool = True
    ) -> Iterator[Float[Tensor, "f k d"]]:
        """The same features span by span, in memory that does not grow with the sound.

        Args:
            audio: Mono, 16 kHz, on any device.
            pooled: Average the vectors of a frame; False gives all, in order.

        Yields:
            Features of the next frames, 750 at most.

        Raises:
            MediaError: Shorter than one frame (0.04 s).
        """
        if len(audio) < SAMPLE_RATE_HZ // PER_SECOND:
            raise MediaError(
                f"the sound has {len(audio)} samples; give at least one frame, 0.04 s (640 samples)"
            )
        frames, mean = frame_count(len(audio)), audio.mean()
        scale = (audio.var(correction=0) + LEAST_VARIANCE).rsqrt()
        step, context = SPAN_S * PER_SECOND, CONTEXT_S * PER_SECOND
        after = math.ceil(min(CONTEXT_S, self.lookahead_s) * PER_SECOND)
        for start in range(0, frames, step):
            stop = min(start + step, frames)
            first = max(start - context, 0)
            begin = sample_span(first)[0]
            end = len(audio) if stop + after >= frames else sample_span(stop + after)[0]
            vectors = self.encode((audio[begin:end] - mean) * scale)
            each = self.of_frames(vectors, range(start - first, stop - first))
            yield each.mean(1) if pooled else each.flatten(0, 1)

    def of_frames(self, vectors: Float[Tensor, "v k d"], span: range) -> Float[Tensor, "f r k d"]:
        """The vectors of each frame of a span, by its place in the sound that `encode` was given.

        After the last vector it stands for those that are missing.
        """
        rate = self.rate_hz // PER_SECOND
        places = rate * torch.arange(span.start, span.stop)[:, None] + torch.arange(rate)
        return vectors[places.clamp(max=len(vectors) - 1)]

    def clips(
        self,
        audio: Float[Tensor, "samples"],
        frames: int,
        *,
        window: AudioWindow = AudioWindow(),  # noqa: B008 (frozen)
    ) -> Iterator[Float[Tensor, "1 f n k d"]]:
        """Features of each clip's frames and their neighbours, clip by clip.

        The tail is filled up with its last frame; cut the video back to `frame_count` frames.

        Args:
            audio: Mono, 16 kHz.
            frames: Frames of a clip.
            window: Which neighbours; that of the projection.
        """
        total = frame_count(len(audio))
        neighbours = window.indices(range(-(-total // frames) * frames), total)
        spans, kept, first = self.stream(audio), None, 0
        for wanted in neighbours.split(frames):
            while kept is None or first + len(kept) <= int(wanted.max()):
                span = next(spans)
                kept = span if kept is None else torch.cat([kept, span])
            kept, first = kept[int(wanted.min()) - first :], int(wanted.min())
            yield kept[(wanted - first).to(kept.device)][None]


class AudioEncoder(SpeechEncoder):
    """A wav2vec2 network that answers with all its layers.

    Always in eval mode: in train mode wav2vec2 drops layers at random, and their number changes.

    Args:
        network: transformers' model, at 50 vectors a second.
    """

    rate_hz = 50
    lookahead_s = math.inf

    def __init__(self, network: Wav2Vec2Model) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, config: Wav2Vec2Config) -> Self:
        """Build with random weights."""
        return cls(Wav2Vec2Model(config))

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    @property
    def layers(self) -> int:
        """The transformer's input and each layer's output."""
        return self.network.config.num_hidden_layers + 1

    @property
    def width(self) -> int:
        """Width of each."""
        return self.network.config.hidden_size

    def encode(self, audio: Float[Tensor, "samples"]) -> Float[Tensor, "v k d"]:
        """All hidden states of a span."""
        parameter = next(self.network.parameters())
        output = self.network(audio[None].to(parameter), output_hidden_states=True)
        return torch.stack(output.hidden_states, 2)[0]


def audio_encoder_config(says: Mapping[str, Any]) -> Wav2Vec2Config:
    """The configuration that a ``config.json`` describes.

    Only what wav2vec2 itself knows is taken from it: transformers would ask the hub for an
    implementation of attention that it names, or for code (``auto_map``).
    """
    known = {field.name for field in fields(Wav2Vec2Config)} - {"dtype"}
    built = Wav2Vec2Config(**{name: value for name, value in says.items() if name in known})
    built._attn_implementation = "sdpa"
    return built


class AudioProjection(ModelMixin, ConfigMixin):
    """A frame's features, its neighbours' and all layers, as audio tokens.

    Loopy sec. 3.3 concatenates them; the projection is unstated. The shape here is Hallo's:
    three linear maps with ReLU between, then LayerNorm.

    Args:
        layers: wav2vec2 layers (k).
        width: Their width (d).
        neighbours: Frames of a window (2 before, 2 after, itself): an odd number.
        hidden: Width between the maps.
        tokens: Audio tokens of a frame (a).
        token_width: Width of a token.

    Raises:
        ConfigurationError: An even number of neighbours.
    """

    @register_to_config
    def __init__(
        self,
        *,
        layers: int = 13,
        width: int = 768,
        neighbours: int = 5,
        hidden: int = 512,
        tokens: int = 32,
        token_width: int = 768,
    ) -> None:
        super().__init__()
        AudioWindow.of(neighbours)
        self.proj1 = nn.Linear(neighbours * layers * width, hidden)
        self.proj2 = nn.Linear(hidden, hidden)
        self.proj3 = nn.Linear(hidden, tokens * token_width)
        self.norm = nn.LayerNorm(token_width)

    @property
    def window(self) -> AudioWindow:
        """Which neighbours of a frame it hears."""
        return AudioWindow.of(self.config["neighbours"])

    def forward(self, audio: Float[Tensor, "b f n k d"]) -> Float[Tensor, "b f a s"]:
        """Project the features of each frame and its neighbours to audio tokens.

        Raises:
            ConfigurationError: Another audio window.
        """
        if audio.shape[2] != self.config["neighbours"]:
            raise ConfigurationError(
                f"a frame's audio is that of {audio.shape[2]} frames, the projection takes "
                f"{self.config['neighbours']}; give both the same audio window"
            )
        x = self.proj2(self.proj1(audio.flatten(2)).relu()).relu()
        return self.norm(self.proj3(x).unflatten(-1, (self.config["tokens"], -1)))
