"""What is read in a video, frame by frame, by the same functions whoever made it."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.evaluation.toon.steadiness import differences, rigid_differences
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import Tracker

CELLS = 16
"""Cells along each side of the picture, for its colours."""


@dataclass(frozen=True, eq=False)
class Eyes:
    """Who reads, and where in the pictures of one talk.

    Attributes:
        tracker: Reads mouth, lids, brows and pose.
        recogniser: Says whose face it is.
        background: Pixels that show nothing but background.
        face: Pixels of the face's box.
    """

    tracker: Tracker
    recogniser: Recogniser
    background: Bool[Tensor, "H W"]
    face: Bool[Tensor, "H W"]


@dataclass(frozen=True, eq=False)
class Reading:
    """A video as numbers.

    Attributes:
        tracks: What the tracker reads; columns as in `loopy.models.tracker.OUTPUTS`.
        whose: The recogniser's unit vectors.
        colours: Mean sRGB colour of each cell, in [0, 1].
        flicker: Mean absolute difference to the frame before over the background, in 1/255.
        unrest: The same over the face after rigid alignment.
        shown: Frames kept to look at.
    """

    tracks: Float[Tensor, "f o"]
    whose: Float[Tensor, "f d"]
    colours: Float[Tensor, "f k 3"]
    flicker: Float[Tensor, "f-1"]
    unrest: Float[Tensor, "f-1"]
    shown: UInt8[Tensor, "s H W 3"]


def read(
    parts: Iterable[UInt8[Tensor, "_n H W 3"]], eyes: Eyes, *, shown: tuple[int, ...] = ()
) -> Reading:
    """Read a video part by part, in memory that grows only with the numbers.

    Args:
        parts: The frames, in order.
        eyes: Who reads.
        shown: Which frames to keep, in ascending order.
    """
    pieces: list[Reading] = []
    before, start = None, 0
    for part in parts:
        kept = [number - start for number in shown if start <= number < start + len(part)]
        pieces.append(_read(part, part[:1] if before is None else before, eyes, kept))
        before, start = part[-1:], start + len(part)
    joined = {
        field.name: torch.cat([getattr(piece, field.name) for piece in pieces])
        for field in fields(Reading)
    }
    # the first frame was compared with itself
    return Reading(**joined | {name: joined[name][1:] for name in ("flicker", "unrest")})


def _read(part: Tensor, before: Tensor, eyes: Eyes, kept: list[int]) -> Reading:
    pictures = torch.cat([before, part]).permute(0, 3, 1, 2).float()
    earlier, later = pictures[:-1], pictures[1:]
    colours = functional.adaptive_avg_pool2d(later / 255, CELLS)
    return Reading(
        tracks=eyes.tracker.track(part),
        whose=eyes.recogniser.embed(part),
        colours=colours.flatten(2).mT,
        flicker=differences(earlier, later, eyes.background),
        unrest=rigid_differences(earlier, later, eyes.face),
        shown=part[kept],
    )
