"""Which shots are left out of training, and why: a table of checks over measurements."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from loopy.preprocess.measurements import Measurements, Sync


@dataclass(frozen=True)
class FilterOptions:
    """The threshold of each check. The paper names what it excludes, but no thresholds.

    Args:
        fewest_frames: 136, a full sample: 124 motion frames and a clip of 12, 5.44 s.
        face_lost: Most frames without a face, as a share.
        several_people: Most frames with several people, as a share; a detector errs now and then.
        outside: Most frames in which the face reaches the picture's edge, as a share.
        fewest_px: Smallest side of the crop in the source.
        yaw: Furthest turn of the head, in radians: 45 degrees, where the far eye begins to hide.
        roll: Furthest tilt, likewise: a rotation flag that is missing lays the head on its side.
        head_motion: Most head motion, px^2 at 512: a nose that spreads 40 px, about the width of a
            face in all.
        need_sound: False lets silent shots in, for the stage that trains on images.
        sync_confidence: Least confidence of lip sync (LatentSync's 3; our own judges draw their
            line there too).
        sync_offset_frames: Most offset of sound and mouth (LatentSync's 6).
    """

    fewest_frames: int = 136
    face_lost: float = 0.2
    several_people: float = 0.05
    outside: float = 0.05
    fewest_px: int = 256
    yaw: float = math.pi / 4
    roll: float = math.pi / 4
    head_motion: float = 1600.0
    need_sound: bool = True
    sync_confidence: float = 3.0
    sync_offset_frames: float = 6.0


class Check(NamedTuple):
    """A row of the table.

    Attributes:
        name: What the report counts.
        passes: Whether a shot is good; never for NaN.
        words: What was found and what was asked for, of ``m`` (measured) and ``o`` (options).
    """

    name: str
    passes: Callable[[Measurements, FilterOptions], bool]
    words: str


CHECKS = (
    Check(
        "too short",
        lambda m, o: m.frames >= o.fewest_frames,
        "{m.frames} frames at 25 a second, fewest {o.fewest_frames}",
    ),
    Check("no sound", lambda m, o: m.has_sound or not o.need_sound, "none in this span"),
    Check(
        "face lost",
        lambda m, o: m.face_lost <= o.face_lost,
        "in {m.face_lost:.1%} of the frames, most {o.face_lost:.1%}",
    ),
    Check(
        "several people",
        lambda m, o: m.several_people <= o.several_people,
        "in {m.several_people:.1%} of the frames, most {o.several_people:.1%}",
    ),
    Check(
        "face leaves the picture",
        lambda m, o: m.outside <= o.outside,
        "in {m.outside:.1%} of the frames, most {o.outside:.1%}",
    ),
    Check(
        "low resolution",
        lambda m, o: m.crop_px >= o.fewest_px,
        "the crop has {m.crop_px} px a side, fewest {o.fewest_px}",
    ),
    Check(
        "extreme rotation",
        lambda m, o: m.yaw <= o.yaw and m.roll <= o.roll,
        "yaw of {m.yaw:.2f} rad, most {o.yaw:.2f}; roll of {m.roll:.2f}, most {o.roll:.2f}",
    ),
    Check(
        "excessive motion",
        lambda m, o: m.head_motion <= o.head_motion,
        "head motion of {m.head_motion:.0f} px^2, most {o.head_motion:.0f}",
    ),
    Check(
        "low sync",
        lambda m, o: (
            m.sync is None
            or (
                m.sync.confidence >= o.sync_confidence
                and abs(m.sync.offset_frames) <= o.sync_offset_frames
            )
        ),
        "{m.sync}, least confidence {o.sync_confidence}, most offset {o.sync_offset_frames}",
    ),
)
"""In this order, the cheap ones first; the first that fails is the reason."""


class Rejection(NamedTuple):
    """Why a shot is left out: name and words of the check."""

    name: str
    words: str


def check_shot(
    measured: Measurements, options: FilterOptions = FilterOptions()
) -> Rejection | None:
    """The first check that a shot fails; None keeps it."""
    for name, passes, words in CHECKS:
        if not passes(measured, options):
            return Rejection(name, words.format(m=measured, o=options))
    return None


def filter_shot(
    measured: Measurements,
    options: FilterOptions = FilterOptions(),
    *,
    score_sync: Callable[[], Sync] | None = None,
) -> tuple[Measurements, Rejection | None]:
    """Checks a shot, and its lip sync where that can be scored.

    Scoring decodes and runs a network, so it is done only for a shot that passes all else.

    Returns:
        The measurements, lip sync among them, and the reason to leave the shot out.
    """
    reason = check_shot(measured, options)
    if reason or score_sync is None:
        return measured, reason
    measured = replace(measured, sync=score_sync())
    return measured, check_shot(measured, options)
