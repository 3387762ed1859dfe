"""What is shown of a judged video: curves over time, and frames above those of the real one."""

from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional

from loopy.data.media.video import contact_sheet, evenly_spread
from loopy.data.media.video_reader import read_frames
from loopy.drafts import writing
from loopy.evaluation.features.extract import VideoFeatures
from loopy.evaluation.table.columns import mouth_curve
from loopy.timing import FPS

SHOWN, HEIGHT_PX = 10, 96
"""Frames in a row, and how high they are shown."""


def curves_of(made: VideoFeatures, real: VideoFeatures | None) -> dict[str, list[float]]:
    """Mouth, colours against the first second, and likeness to the portrait, frame by frame."""
    curves = dict[str, list[float]]()
    for features, mark in ((made, ""), (real, ", real")):
        if features is None:
            continue
        if (mouth := mouth_curve(features)) is not None:
            curves[f"mouth{mark}"] = mouth.tolist()
        if (colours := features.tensors.get("colours")) is not None:
            first = colours[: int(FPS)].mean(0)
            curves[f"colour drift{mark}"] = (colours - first).norm(dim=1).tolist()
        for rows, portrait in (("face", "portrait"), ("toon_face", "toon_portrait")):
            if rows in (known := features.tensors) and portrait in known:
                alike = torch.cosine_similarity(known[rows], known[portrait][None])
                curves[f"identity{mark}"] = alike.tolist()
    return curves


def write_strip(path: Path, made: Path, real: Path | None, *, frames: int) -> None:
    """Writes a picture: frames of the real video in a row, those of the made one below.

    Raises:
        MediaError: A video ends before `frames`.
        OutputError: It cannot be written.
    """
    places = evenly_spread(frames, SHOWN).tolist()
    rows = [_small(read_frames(video, places)) for video in (real, made) if video is not None]
    width = min(row.shape[2] for row in rows)
    rows = [row[:, :, (over := (row.shape[2] - width) // 2) : over + width] for row in rows]
    with writing(path) as hidden:
        contact_sheet(torch.cat(rows), columns=len(places)).save(hidden)


def _small(frames: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "n 96 w 3"]:
    height, width = frames.shape[1:3]
    size = (HEIGHT_PX, max(1, round(width * HEIGHT_PX / height)))
    shown = functional.interpolate(
        frames.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True
    )
    return shown.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
