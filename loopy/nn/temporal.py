"""Inter-clip and intra-clip attention over time, per pixel (Loopy sec. 3.2).

Both keep the shape of AnimateDiff's module: norm, project in, attention, feed-forward, project
out (zero at birth). Inter-clip lets the clip look at the motion frames and at itself; only the
clip asks, since answers for past frames would be thrown away. Intra-clip sees the clip alone.

Departure (docs/decisions.md): AnimateDiff normalises over all frames jointly. Here each motion
frame is normalised by itself, apart from the clip, so that the keys and values of the past do
not depend on the diffusion timestep and are computed once a clip. Up to its place among the slots
(`TemporalLayer.frame_tokens`) a motion frame depends on nothing but itself.
"""

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid
from jaxtyping import Bool, Float
from torch import Tensor, nn

from loopy.errors import ConfigurationError
from loopy.nn.attention import Attention, ExpandedKV, KeyValue, extend_mask


class TemporalLayer(nn.Module):
    """Self-attention over time at each pixel, with an optional past.

    Args:
        dim: Channels of the feature map.
        heads: Attention heads.
        groups: Groups of the normalisation.
        clip_frames: Longest clip (f).
        motion_slots: Motion frames before it (m); 0 builds an intra-clip layer.
        attentions: Self-attentions in a row: 1, or 2 as in AnimateDiff's module. The past is seen
            by the first one: its answer carries it on.

    Raises:
        ConfigurationError: Another number of attentions.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        groups: int,
        clip_frames: int,
        motion_slots: int = 0,
        attentions: int = 1,
    ) -> None:
        super().__init__()
        if attentions not in (1, 2):
            raise ConfigurationError(f"temporal_attentions is 1 or 2, got {attentions}")
        self.motion_slots = motion_slots
        self.norm = nn.GroupNorm(groups, dim, eps=1e-6)
        self.proj_in = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads=heads)
        self.attn2_norm = nn.LayerNorm(dim) if attentions == 2 else None
        self.attn2 = Attention(dim, heads=heads) if attentions == 2 else None
        self.norm2 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")
        self.proj_out = nn.Linear(dim, dim)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        positions = torch.arange(motion_slots + clip_frames)
        table = get_1d_sincos_pos_embed_from_grid(dim, positions, output_type="pt")
        self.positions = nn.Parameter(table.float())
        # Tells motion frames (0) from the clip (1).
        self.kinds = nn.Parameter(torch.zeros(2, dim)) if motion_slots else None

    def frame_tokens(self, past: Float[Tensor, "b m c h w"]) -> Float[Tensor, "bhw m c"]:
        """Tokens of motion frames, each of its own map alone, whatever slot it will take."""
        frames = self.norm(past.flatten(0, 1)).unflatten(0, past.shape[:2])
        return self.norm1(self.proj_in(frames.permute(0, 3, 4, 1, 2).flatten(0, 2)))

    def project_tokens(self, tokens: Float[Tensor, "bhw m c"]) -> KeyValue:
        """Keys and values of the slots' `frame_tokens`, oldest first: rows (b h w), tokens m."""
        return self.attn1.project(tokens + self.positions[: self.motion_slots] + self.kinds[0])  # pyright: ignore[reportOptionalSubscript]  # inter-clip only

    def project_past(self, past: Float[Tensor, "b m c h w"]) -> KeyValue:
        """Keys and values of the motion frames, oldest first: rows (b h w), tokens m."""
        tokens = TemporalLayer.frame_tokens(self, past)  # see `DualUNet`
        return TemporalLayer.project_tokens(self, tokens)

    def null_past(self) -> KeyValue:
        """Keys and values of "no past yet", the state of a first clip: one row for all places.

        They are those of all-zero maps, alike at each place.
        """
        here, width = self.positions.device, self.positions.shape[1]
        zeros = torch.zeros(1, self.motion_slots, width, 1, 1, device=here)
        return TemporalLayer.project_past(self, zeros.to(self.proj_in.weight))

    def forward(
        self,
        x: Float[Tensor, "b f c h w"],
        *,
        past: ExpandedKV | None = None,
        past_present: Bool[Tensor, "rows m"] | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """Mix over time.

        Args:
            x: The clip's maps; rows are (branches b) videos.
            past: From `project_past`, expanded to branches; None = nobody sees a past.
            past_present: Which motion frames may be seen, for the rows that see a past.
        """
        videos, frames, _, height, width = x.shape
        joint = self.norm(x.transpose(1, 2))
        tokens = self.proj_in(joint.permute(0, 3, 4, 2, 1).flatten(0, 2))
        here = self.positions[self.motion_slots : self.motion_slots + frames]
        if self.kinds is not None:
            here = here + self.kinds[1]
        mask = None
        if past is not None and past_present is not None:
            mask = extend_mask(past_present, frames).repeat_interleave(height * width, 0)
        tokens = tokens + self.attn1(self.norm1(tokens) + here, extra=past, mask=mask)
        if self.attn2 is not None and self.attn2_norm is not None:
            tokens = tokens + self.attn2(self.attn2_norm(tokens) + here)
        tokens = tokens + self.ff(self.norm2(tokens))
        y = self.proj_out(tokens).unflatten(0, (videos, height, width))
        return x + y.permute(0, 3, 4, 1, 2)
