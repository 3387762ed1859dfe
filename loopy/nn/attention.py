"""One attention for every use, with SD1.5's parameter names.

Keys and values are a value of their own (`KeyValue`): what does not depend on the diffusion
timestep is projected once and passed in again at each step.

Letters: n rows (any folded batch), l query tokens, s context tokens, d context width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Float
from torch import Tensor, nn

from loopy.nn.layers import Layers


class KeyValue(NamedTuple):
    """Projected keys and values of a context, split into heads."""

    key: Float[Tensor, "n heads s width"]
    value: Float[Tensor, "n heads s width"]

    def expand(self, branches: int, frames: int, *, rows: int = -1) -> "ExpandedKV":
        """View the rows of ``b`` videos as ``(branches b frames)`` rows, without a copy.

        Args:
            branches: Runs of guidance that see them.
            frames: Frames of each video.
            rows: How many rows a single one stands for; -1 leaves them as they are.
        """
        shape = (branches, rows, frames, -1, -1, -1)
        return ExpandedKV(*(x[None, :, None].expand(shape) for x in self))


class ExpandedKV(NamedTuple):
    """A view of `KeyValue` for each branch and frame; `folded` makes plain rows of it."""

    key: Float[Tensor, "branches b frames heads s width"]
    value: Float[Tensor, "branches b frames heads s width"]

    def folded(self) -> KeyValue:
        """Keys and values of the rows (branches b frames)."""
        return KeyValue(*(x.flatten(0, 2) for x in self))


class Attention(nn.Module):
    """Multi-head attention: softmax(Q K^T / sqrt(width)) V, then a linear map.

    Args:
        dim: Width of the query tokens and of the output.
        context_dim: Width of the context tokens; None for self-attention.
        heads: Number of heads.
        zero_output: Start with the output map at zero, so that a branch added to a trained
            network is silent at birth.
    """

    def __init__(
        self, dim: int, *, context_dim: int | None = None, heads: int = 8, zero_output: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim or dim, dim, bias=False)
        self.to_out = Layers([nn.Linear(dim, dim)])
        if zero_output:
            nn.init.zeros_(self.to_out[0].weight)
            nn.init.zeros_(self.to_out[0].bias)

    def project(self, context: Float[Tensor, "n s d"]) -> KeyValue:
        """Keys and values of a context."""
        return KeyValue(self._split(self.to_k(context)), self._split(self.to_v(context)))

    @property
    def nothing(self) -> Float[Tensor, "c"]:
        """The answer of a row that sees nothing, or only zeros: the output map's bias."""
        return self.to_out[0].bias

    def forward(
        self,
        query: Float[Tensor, "n l c"],
        context: KeyValue | None = None,
        *,
        extra: ExpandedKV | None = None,
        mask: Tensor | None = None,
    ) -> Float[Tensor, "n l c"]:
        """Attend from ``query`` to its own tokens, or to ``context`` where one is given.

        ``extra`` is appended to the keys and values of the first rows only: of as many as it
        has. Rows that see more come first, so two calls on slices serve all (no boolean data).

        Args:
            query: Tokens that ask.
            context: What they attend to; of itself (self-attention) when None. With fewer rows
                than ``query``, the rows behind see nothing and get `nothing`.
            extra: More keys and values, as `KeyValue.expand` gives them.
            mask: Over own and extra keys: bool (True = seen) or float (added to the scores),
                broadcastable to (rows heads l s). Own keys are treated alike in all rows, so rows
                without extra use the first columns of its first row.
        """
        asked = self._split(self.to_q(query))
        own = self.project(query) if context is None else context
        if extra is None:
            rows = own.key.shape[0]
            answer = F.scaled_dot_product_attention(asked[:rows], *own, attn_mask=mask)
            if rows < len(asked):
                answer = torch.cat([answer, torch.zeros_like(asked[rows:])])
        else:
            answer = self._with_extra(asked, own, extra, mask)
        return self.to_out[0](answer.transpose(1, 2).flatten(2))

    def _with_extra(
        self, asked: Tensor, own: KeyValue, extra: ExpandedKV, mask: Tensor | None
    ) -> Tensor:
        lead = extra.key.shape[:3]
        rows, length = lead.numel(), own.key.shape[2]
        seen = [
            torch.cat([mine[:rows].unflatten(0, lead), more], 4).flatten(0, 2)
            for mine, more in zip(own, extra, strict=True)
        ]
        answer = F.scaled_dot_product_attention(asked[:rows], *seen, attn_mask=mask)
        if rows == len(asked):
            return answer
        alone = None if mask is None else mask[:1, ..., :length]
        rest = F.scaled_dot_product_attention(
            asked[rows:], own.key[rows:], own.value[rows:], attn_mask=alone
        )
        return torch.cat([answer, rest])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def extend_mask(present: Bool[Tensor, "n s"], own: int) -> Bool[Tensor, "n 1 1 own_and_extra"]:
    """Key mask over ``own`` tokens, always seen, and extra ones, seen where ``present``."""
    return F.pad(present, (own, 0), value=True)[:, None, None]
