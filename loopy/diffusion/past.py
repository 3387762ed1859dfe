"""Motion frames pass the reference net once: what later clips read again is kept until then.

Distances from the clip at which the default layout reads, and, below, where the frame was when
its own clip of 12 had just been made::

    0 1 2 3 5 7 9 11 | 15 19 23 | 27 35 | 43 | 51 59 | 75 | 91 | 107 | 123
          new        |  3  7 11 |  3 11 |  7 |  3 11 |  3 |  7 |  11 |   3

So a clip has 8 new frames among its 20 slots, and 25 are kept between clips. What is kept are the
tokens before the slot's position is added; keys and values are projected once a clip.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.models.dual import DualUNet, SiteTokens


class SeenFrame(NamedTuple):
    """A motion frame that the reference net has seen.

    Attributes:
        tokens: `DualUNet.frame_tokens` of it, (bhw c) at each site.
        clips: So many more clips may read it.
    """

    tokens: SiteTokens
    clips: int


class PastCache:
    """Motion frames of a video that the reference net has seen, for as long as they are read.

    A frame is known by its latents, to the bit. So portraits held still are one frame, and a cache
    that has seen another video, or another part of this one, only saves less. It belongs to
    weights that do not change.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, SeenFrame] = {}

    @property
    def frames(self) -> int:
        """How many are kept."""
        return len(self._seen)

    def tokens(
        self,
        network: DualUNet,
        slots: Float[Tensor, "b m c h w"],
        present: Sequence[bool],
        readings: Sequence[tuple[int, int]],
    ) -> SiteTokens:
        """Tokens (bhw m c) of the slots at each site; zero where no frame is.

        Args:
            network: Whose reference net sees those frames that are new.
            slots: The squeezed past, in the network's precision.
            present: Which slots hold a frame; one at least.
            readings: `SegmentLayout.readings`.
        """
        names = _names(slots)
        places = {name: i for i, name in enumerate(names) if present[i]}
        new = [i for name, i in places.items() if name not in self._seen]
        seen = {name: frame.tokens for name, frame in self._seen.items()}
        if new:
            made = network.frame_tokens(slots[:, new])
            for j, i in enumerate(new):
                seen[names[i]] = {site: tokens[:, j].clone() for site, tokens in made.items()}
        due = {name: frame.clips - 1 for name, frame in self._seen.items()}
        for name, there, (_, clips) in zip(names, present, readings, strict=True):
            if there:
                due[name] = max(due.get(name, 0), clips)
        self._seen = {n: SeenFrame(seen[n], clips) for n, clips in due.items() if clips > 0}
        nothing = {site: torch.zeros_like(x) for site, x in seen[next(iter(places))].items()}
        slot_tokens = [
            seen[n] if there else nothing for n, there in zip(names, present, strict=True)
        ]
        return {site: torch.stack([each[site] for each in slot_tokens], 1) for site in nothing}


def _names(frames: Float[Tensor, "b m c h w"]) -> list[bytes]:
    """What a frame of all videos is known by."""
    rows = frames.transpose(0, 1).contiguous().view(torch.uint8).flatten(1)
    return [row.numpy().tobytes() for row in rows.cpu()]
