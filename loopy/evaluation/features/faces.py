"""Who needs a face's points before he can look: SyncNet, recognition, expression coefficients."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.evaluation.features.crops import aligned, cut, filled, in_step, sync_boxes, with_features
from loopy.evaluation.features.extract import Film, Look
from loopy.metrics.beat import speech_energy
from loopy.metrics.frechet import EXPRESSIONS
from loopy.metrics.sync_scores import sync_scores
from loopy.metrics.syncnet import FRAMES, SIZE_PX, SyncNet
from loopy.timing import FPS, SAMPLE_RATE_HZ

STRETCH = 200
"""Frames that SyncNet sees at a time."""
EXPRESSION_PX = 224
_SAMPLES = SAMPLE_RATE_HZ // int(FPS)

FindPoints = Callable[[UInt8[Tensor, "n h w 3"]], Float[Tensor, "n 68 2"]]
"""Frames of one video, in order, to their points in pixels; NaN where one is missing."""
Points = Callable[[Path | None], FindPoints]
"""Who finds the points of a video; None: of single pictures."""


def sound_of(film: Film, frames: int) -> Float[Tensor, " samples"]:
    """The sound of a video, with silence for what a codec has cut from its end."""
    samples = film.sound[: frames * _SAMPLES]
    return functional.pad(samples, (0, frames * _SAMPLES - len(samples)))


def energy(film: Film, look: Look) -> Float[Tensor, "f"]:
    """Energy of the sound of each frame."""
    frames = int(look.get("size")[0])
    return speech_energy(sound_of(film, frames), frames=frames)


@torch.no_grad()
def synchrony(
    network: SyncNet, device: str, film: Film, look: Look, *, stretch: int = STRETCH
) -> Float[Tensor, "3"]:
    """Sync-C, Sync-D and offset; the video goes through the network stretch by stretch.

    Raises:
        MetricError: No face, or too few frames.
    """
    boxes = sync_boxes(look.get("points"))
    sound, kept = sound_of(film, len(boxes)), torch.zeros(0, SIZE_PX, SIZE_PX, 3).byte()
    seen, heard, first = list[Tensor](), list[Tensor](), 0
    crops = (cut(part, box, size_px=SIZE_PX) for part, box in in_step(film.parts(), boxes))
    for part in chain(crops, [None]):
        kept = kept if part is None else torch.cat([kept, part])
        rest = len(kept) - FRAMES
        if (part is not None and len(kept) < stretch) or (seen and rest < 1):
            continue
        samples = sound[first * _SAMPLES : (first + len(kept) + FRAMES) * _SAMPLES]
        pictures, sounds = network(kept.to(device), samples.to(device))
        seen.append(pictures)
        heard.append(sounds)
        first, kept = first + rest, kept[rest:]
    return torch.tensor(sync_scores(torch.cat(seen), torch.cat(heard)))


@torch.no_grad()
def faces(network: Any, device: str, film: Film, look: Look) -> Float[Tensor, "f d"]:
    """An embedding of the face in each frame.

    Raises:
        MetricError: No face.
    """
    points = look.get("points")
    track = filled(points, with_features(points))
    rows = [
        network(aligned(part, points).to(device)).float().cpu()
        for part, points in in_step(film.parts(), track)
    ]
    return torch.cat(rows)


@torch.no_grad()
def portrait_face(
    network: Any, device: str, points: Points, film: Film, _: Look
) -> Float[Tensor, "d"]:
    """The embedding of the portrait's face.

    Raises:
        MetricError: No face.
    """
    portrait = film.portrait[None]
    found = points(None)(portrait)
    face = aligned(portrait, filled(found, with_features(found)))
    return network(face.to(device)).float().cpu()[0]


@torch.no_grad()
def expressions(network: Any, device: str, film: Film, look: Look) -> Float[Tensor, "f 64"]:
    """Coefficients of the expression in each frame.

    Raises:
        MetricError: No face, or a network of another number of coefficients.
    """
    boxes = sync_boxes(look.get("points"))
    rows = []
    for part, box in in_step(film.parts(), boxes):
        pictures = cut(part, box, size_px=EXPRESSION_PX).permute(0, 3, 1, 2).float() / 255
        rows.append(network(pictures.to(device)).float().cpu())
    if rows[0].shape[1:] != (EXPRESSIONS,):
        got = tuple(rows[0].shape[1:])
        raise MetricError(
            f"E-FID is of {EXPRESSIONS} coefficients a frame, the network gives {got}"
        )
    return torch.cat(rows)
