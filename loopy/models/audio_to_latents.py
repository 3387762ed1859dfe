"""Audio-to-latents: sound or movement -> motion latents on the time embedding (sec. 3.3).

A learned set of embeddings is shared by all conditions. Each condition is mapped to a query by
a linear map of its own; the embeddings are keys and values; the answer is mapped to the width
of the time embedding. In training one condition is drawn; at inference it is the audio.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from loopy.nn.attention import Attention

CONDITIONS = ("audio", "landmarks", "head", "expression")
LANDMARK_WIDTH = 204


class AudioToLatents(ModelMixin, ConfigMixin):
    """Motion latents from one of four conditions (Loopy sec. 3.3).

    Number, width and heads are unstated in the paper; defaults are ours.

    Args:
        audio_width: Numbers of a frame's audio tokens (tokens x width).
        time_dim: Width of the denoiser's time embedding.
        num_embeddings: Size of the shared set.
        dim: Its width.
        heads: Attention heads.
        log_mean: Mean of log(1 + head motion) and of log(1 + expression) over the training data.
        log_std: Their standard deviations.
    """

    @register_to_config
    def __init__(
        self,
        *,
        audio_width: int,
        time_dim: int,
        num_embeddings: int = 64,
        dim: int = 512,
        heads: int = 8,
        log_mean: tuple[float, float] = (0.0, 0.0),
        log_std: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(num_embeddings, dim))
        self.from_audio = nn.Linear(audio_width, dim)
        self.from_landmarks = nn.Linear(LANDMARK_WIDTH, dim)
        self.from_head = nn.Linear(1, dim)
        self.from_expression = nn.Linear(1, dim)
        self.attention = Attention(dim, heads=heads)
        self.to_time = nn.Linear(dim, time_dim)
        nn.init.zeros_(self.to_time.weight)
        nn.init.zeros_(self.to_time.bias)

    def forward(
        self,
        audio: Float[Tensor, "b f a d"],
        *,
        landmarks: Float[Tensor, "b f 204"] | None = None,
        measures: Float[Tensor, "b 2"] | None = None,
        choice: Int[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b f e"]:
        """Turn each frame's condition into motion latents.

        All four queries are computed and one is picked, so that every parameter has a gradient
        on every rank.

        Args:
            audio: Audio tokens.
            landmarks: `MotionSequence.normalised` of the clip (training).
            measures: Variances in px^2 at 512, NaN read as 0; one pair a clip (training).
            choice: Index into `CONDITIONS` for each sample; None = audio.
        """
        query = self.from_audio(audio.flatten(2))
        if choice is not None:
            known = self._standardised(measures)  # pyright: ignore[reportArgumentType]  # with choice
            head, expression = known.to(audio)[:, None].split(1, -1)
            queries = torch.stack(
                [
                    query,
                    self.from_landmarks(landmarks),
                    self.from_head(head).expand_as(query),
                    self.from_expression(expression).expand_as(query),
                ]
            )
            query = queries[choice, torch.arange(len(choice), device=choice.device)]
        shared = self.attention.project(self.embeddings[None])
        rows = query.flatten(0, 1)[None]
        return self.to_time(self.attention(rows, shared))[0].unflatten(0, query.shape[:2])

    def _standardised(self, measures: Float[Tensor, "b 2"]) -> Float[Tensor, "b 2"]:
        mean = measures.new_tensor(self.config["log_mean"])
        std = measures.new_tensor(self.config["log_std"])
        return ((measures.nan_to_num(0.0)).log1p() - mean) / std
