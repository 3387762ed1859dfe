"""The parts of a clip, put together."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from loopy.data.store.shots import Provenance, ShotRecord
from loopy.motion import MotionSequence
from loopy.preprocess.crop import crop_points
from loopy.preprocess.measurements import fill_gaps
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.plan import Plan, Take
from loopy.preprocess.tracks import Track
from loopy.timing import FPS


def assemble(
    plan: Plan,
    take: Take,
    parts: Mapping[str, Mapping[str, Tensor]],
    options: PreprocessOptions,
    config: Mapping[str, Any],
    audio_shape: tuple[int, int],
) -> ShotRecord:
    """Makes a clip for the store of what the stages have left of it.

    Args:
        plan: Of its video.
        take: The clip.
        parts: ``track``, ``pictures-...`` in their order, and ``audio`` if the video has sound.
        options: How.
        config: All that has shaped the clip.
        audio_shape: Layers and width of the audio encoder, for silence.
    """
    track = Track(**parts["track"])
    points = fill_gaps(track.points, longest=options.longest_gap)
    valid = ~points.isnan().any(-1)
    crop = crop_points(points, take.box, size_px=options.size_px).nan_to_num()
    pictures = [part for name, part in parts.items() if name.startswith("pictures")]
    silence = torch.zeros(take.frames * options.audio_rate_hz // int(FPS), *audio_shape)
    outcome = next(clip for clip in plan.ledger.clips if clip.clip == take.clip)
    return ShotRecord(
        take.clip,
        audio=parts["audio"]["audio"] if plan.has_sound else silence,
        motion=MotionSequence(crop, track.pose, valid, options.size_px),
        provenance=Provenance(
            plan.ledger.source,
            plan.sha256,
            outcome.start_s,
            outcome.stop_s,
            take.box,
            plan.fps,
            plan.identity,
            config,
        ),
        **{name: torch.cat([part[name] for part in pictures]) for name in pictures[0]},
    )
