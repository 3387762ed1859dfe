"""The spatial transformer of a site: self-attention with the reference, audio, feed-forward.

Loopy sec. 3.1: the reference net's tokens are appended to the keys and values of the spatial
self-attention; the audio's cross-attention is added to what self-attention gives.
"""

import torch
from diffusers.models.attention import FeedForward
from jaxtyping import Float
from torch import Tensor, nn

from loopy.nn.attention import Attention, ExpandedKV, KeyValue
from loopy.nn.layers import Layers


class SpatialBlock(nn.Module):
    """SD1.5's transformer block, with audio beside (or in place of) the text.

    Args:
        dim: Token width.
        heads: Attention heads.
        text_dim: Width of the text tokens; None leaves SD1.5's text attention out.
        audio_dim: Width of the audio tokens; None leaves the audio attention out.
    """

    def __init__(
        self, dim: int, *, heads: int, text_dim: int | None, audio_dim: int | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = Attention(dim, heads=heads)
        self.norm2 = nn.LayerNorm(dim) if text_dim or audio_dim else None
        self.attn2 = Attention(dim, context_dim=text_dim, heads=heads) if text_dim else None
        self.audio_attn = (
            Attention(dim, context_dim=audio_dim, heads=heads, zero_output=True)
            if audio_dim
            else None
        )
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, activation_fn="geglu")

    def forward(
        self,
        x: Float[Tensor, "n l c"],
        normalised: Float[Tensor, "n l c"],
        *,
        text: Tensor | None,
        audio: KeyValue | None,
        reference: ExpandedKV | None,
        mask: Tensor | None,
    ) -> Float[Tensor, "n l c"]:
        """Run the block; ``normalised`` is ``norm1(x)``, which the caller has at hand."""
        x = self.attn1(normalised, extra=reference, mask=mask) + x
        if self.norm2 is not None:
            asked = self.norm2(x)
            if self.attn2 is not None:
                x = self.attn2(asked, self.attn2.project(text)) + x  # pyright: ignore[reportArgumentType]  # given where built
            if self.audio_attn is not None:
                heard = self.audio_attn.nothing if audio is None else self.audio_attn(asked, audio)
                x = heard + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    """One SD1.5 spatial transformer (``Transformer2DModel`` with convolutional projections).

    Args:
        dim: Channels of the feature map.
        heads: Attention heads.
        groups: Groups of the normalisation.
        text_dim: See `SpatialBlock`.
        audio_dim: See `SpatialBlock`.
        locality: Start of a learned bias towards tokens at the same place, own and of the
            reference: score -= slope x distance / image side, one slope a head. None (the
            paper) builds none.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        groups: int,
        text_dim: int | None,
        audio_dim: int | None,
        locality: float | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, dim, eps=1e-6)
        self.proj_in = nn.Conv2d(dim, dim, 1)
        self.transformer_blocks = Layers(
            [SpatialBlock(dim, heads=heads, text_dim=text_dim, audio_dim=audio_dim)]
        )
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.slopes = None if locality is None else nn.Parameter(torch.full((heads,), locality))

    @property
    def block(self) -> SpatialBlock:
        """The transformer's only block."""
        return self.transformer_blocks[0]

    def tokens(self, x: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
        """Tokens (n hw c) before and after the first norm; the latter is what is attended to."""
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        return tokens, self.block.norm1(tokens)

    def project_reference(self, tokens: Float[Tensor, "n l c"]) -> KeyValue:
        """Keys and values that self-attention sees of a reference's normalised tokens."""
        return self.block.attn1.project(tokens)

    def penalty(self, height: int, width: int) -> Float[Tensor, "heads l own_and_reference"]:
        """What distance takes off the scores, of maps of a size; for a layer with ``slopes``.

        Over own tokens and then the reference's, which lie at the same places.
        """
        weight = self.proj_in.weight
        device, dtype = weight.device, weight.dtype
        rows, columns = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        places = torch.stack([rows.flatten() / height, columns.flatten() / width], 1)
        # In float32: there is no cdist of halves, and a penalty adds up over many places.
        slopes = self.slopes.float()  # pyright: ignore[reportOptionalMemberAccess]  # asked before
        penalty = (-slopes[:, None, None] * torch.cdist(places, places)).to(dtype)
        return torch.cat([penalty, penalty], -1)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        *,
        text: Float[Tensor, "n s d"] | None = None,
        audio: KeyValue | None = None,
        reference: ExpandedKV | None = None,
        mask: Tensor | None = None,
        penalty: Float[Tensor, "heads l own_and_reference"] | None = None,
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n l c"]]:
        """Transform a feature map.

        Args:
            x: Feature map.
            text: SD1.5's text tokens, where the network was built with them.
            audio: Keys and values of the audio tokens.
            reference: Keys and values of the reference's tokens, expanded to rows.
            mask: Over own and reference tokens, see `Attention`.
            penalty: `penalty` of this size, where it is at hand; else it is computed.

        Returns:
            The new map, and the normalised tokens that self-attention saw (for a reference net).
        """
        height, width = x.shape[-2:]
        tokens, normalised = SpatialTransformer.tokens(self, x)  # see `DualUNet`
        if self.slopes is not None:
            if penalty is None:
                penalty = SpatialTransformer.penalty(self, height, width)
            mask = _with_penalty(penalty if reference else penalty[..., : height * width], mask)
        tokens = self.block(
            tokens, normalised, text=text, audio=audio, reference=reference, mask=mask
        )
        y = tokens.transpose(1, 2).unflatten(2, (height, width)).contiguous()
        return self.proj_out(y) + x, normalised


def _with_penalty(penalty: Tensor, mask: Tensor | None) -> Tensor:
    """A penalty (1 heads l s), joined with a bool key mask where one is given."""
    if mask is None:
        return penalty[None]
    return penalty.masked_fill(~mask, torch.finfo(penalty.dtype).min)
