"""A further condition of each frame: values that a vector on the time embedding is made of."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn


class FrameCondition(ModelMixin, ConfigMixin):
    """Values of a frame (a pose, an emotion) to a vector that is added to the time embedding.

    That is where motion latents enter (Loopy sec. 3.3), and like them it is dropped: in training by
    `ConditionMask.motion_latents`, in guidance with the sound. Silent at birth: the last map is 0.
    The null form of a frame is NaN, which adds nothing.

    Args:
        width: Values of a frame.
        time_dim: Width of the time embedding: four times the denoiser's first width.
        hidden: Width between the two maps.
    """

    @register_to_config
    def __init__(self, *, width: int, time_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.proj1 = nn.Linear(width, hidden)
        self.proj2 = nn.Linear(hidden, time_dim)
        nn.init.zeros_(self.proj2.weight)
        nn.init.zeros_(self.proj2.bias)

    def forward(self, values: Float[Tensor, "b f v"]) -> Float[Tensor, "b f e"]:
        """The vectors of frames; zero where a value is NaN."""
        given = values.isfinite().all(-1, keepdim=True)
        values = torch.where(given, values, 0).to(self.proj1.weight.dtype)
        return self.proj2(nn.functional.silu(self.proj1(values))) * given
