"""Extractors of people: the sync judge of the package, on points that MediaPipe's networks find.

Without these networks, or the judge, its columns are not available, and say what is missing.
"""

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError, ModelError
from loopy.evaluation.features.extract import ExtractorSet, VideoFeatures, VideoInput
from loopy.faces.mesh import Face, FaceMesh
from loopy.faces.networks import FILES, installed, models_folder
from loopy.metrics.sync_scores import FEWEST_FRAMES, load_people_judge, scores_of
from loopy.models import AudioEncoder
from loopy.models.people_sync import PeopleSyncJudge
from loopy.models.weights import fingerprint

FEATURES = 1
"""Version of the code below: raise it where features change, as they are cached."""
READ_PX = 256
"""Smaller frames are enlarged: MediaPipe's mesh sees faces of 192 px."""
NEEDS = "MediaPipe's networks: pip install loopy-portrait[faces], then loopy faces install"
POINTS, SYNC = "people_points", "people_sync"


def people_extractors() -> ExtractorSet:
    """Points and sync of people, or what they lack.

    Raises:
        ModelError: A file of the face networks is another one.
    """
    if not installed():
        return ExtractorSet({}, missing={SYNC: NEEDS})
    try:
        judge, encoder = load_people_judge()
    except ModelError as error:
        return ExtractorSet({}, missing={SYNC: str(error)})
    record = {
        "judge": fingerprint(judge),
        "audio_encoder": judge.settings.audio_encoder,
        "faces": sorted(known for _, known in FILES.values()),
        "looks": FEATURES,
    }
    mesh = FaceMesh(models_folder(), iris=False)
    derived = {POINTS: partial(_points, mesh), SYNC: partial(_sync, judge, encoder)}
    return ExtractorSet({}, derived=derived, record={"people": record})


def _points(mesh: FaceMesh, video: VideoInput, _: VideoFeatures) -> Float[Tensor, "f 68 2"]:
    """Of the largest face of each frame, in pixels of what is read; NaN where there is none.

    A pass of its own: a face is followed from frame to frame.
    """
    found = (max(faces.values(), key=_area, default=None) for faces in mesh.follow(_read(video)))
    return torch.stack([torch.full((68, 2), torch.nan) if f is None else f.points for f in found])


def _area(face: Face) -> float:
    return face.area


def _read(video: VideoInput) -> Iterator[UInt8[Tensor, "H W 3"]]:
    """Frames whose shorter side has `READ_PX` at least."""
    for part in video.parts():
        height, width = part.shape[1:3]
        scale = READ_PX / min(height, width)
        if scale > 1:
            size = round(height * scale), round(width * scale)
            pictures = part.permute(0, 3, 1, 2)
            part = functional.interpolate(pictures, size, mode="bicubic", antialias=True)
            part = part.permute(0, 2, 3, 1).contiguous()
        yield from part


@torch.no_grad()
def _sync(
    judge: PeopleSyncJudge, encoder: AudioEncoder, video: VideoInput, features: VideoFeatures
) -> Float[Tensor, "3"]:
    """Confidence, distance and offset."""
    points = features.get(POINTS)
    if len(points) < FEWEST_FRAMES:
        raise MetricError(f"{len(points)} frames are too short; give {FEWEST_FRAMES} or more")
    sound = encoder.features(video.sound_of(len(points)))[: len(points)]
    return torch.tensor(scores_of(judge.embed_sound(sound), judge.embed_points(points)))
