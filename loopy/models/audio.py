"""Sound in: wav2vec2's layers per video frame, and their projection to audio tokens.

One rule, the same in preprocessing and inference: the encoder runs at its native
50 Hz, sounds up to 30 s whole and longer ones in 30 s spans with 2 s of context on each side;
vectors 2f and 2f+1 are averaged to frame f; nothing is zero-padded.
"""

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
from loopy.timing import SAMPLE_RATE_HZ, AudioWindow, frame_count, sample_span

SPAN_S, CONTEXT_S = 30, 2


class AudioEncoder(nn.Module):
    """A wav2vec2 network that answers with all its layers, one vector each per video frame.

    Always in eval mode: in train mode wav2vec2 drops layers at random, and their number changes.

    Args:
        network: transformers' model, at 50 vectors a second.
    """

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
        """Feature layers (k): the transformer's input and each layer's output."""
        return self.network.config.num_hidden_layers + 1

    @property
    def width(self) -> int:
        """Width of each (d)."""
        return self.network.config.hidden_size

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
            pooled: Average the two vectors of a frame; False gives both, one behind the other.

        Yields:
            Features of the next frames, 750 at most.

        Raises:
            MediaError: Shorter than one frame (0.04 s).
        """
        if len(audio) < SAMPLE_RATE_HZ // 25:
            raise MediaError(
                f"the sound has {len(audio)} samples; give at least one frame, 0.04 s (640 samples)"
            )
        frames = frame_count(len(audio))
        mean = audio.mean()
        scale = (audio.var(correction=0) + 1e-7).rsqrt()
        step, context = SPAN_S * 25, CONTEXT_S * 25
        for start in range(0, frames, step):
            stop = min(start + step, frames)
            first = max(start - context, 0)
            begin = sample_span(first)[0]
            end = len(audio) if stop + context >= frames else sample_span(stop + context)[0]
            piece = (audio[begin:end] - mean) * scale
            vectors = self._encode(piece)
            pairs = 2 * torch.arange(start - first, stop - first)[:, None] + torch.tensor([0, 1])
            both = vectors[pairs.clamp(max=len(vectors) - 1)]
            yield both.mean(1) if pooled else both.flatten(0, 1)

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

    def _encode(self, piece: Float[Tensor, "samples"]) -> Float[Tensor, "v k d"]:
        parameter = next(self.network.parameters())
        output = self.network(piece[None].to(parameter), output_hidden_states=True)
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
