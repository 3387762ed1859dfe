"""The sync judges as filters: is this toon, or this person, dubbed?"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.data.media.sound import read_audio
from loopy.errors import MetricError
from loopy.faces.framing import Box, crop_frames
from loopy.metrics.sync_scores import FEWEST_FRAMES, load_judge, load_people_judge, scores_of
from loopy.models.probe import SIDE_PX
from loopy.preprocess.landmarks.mediapipe import MediaPipe
from loopy.preprocess.measurements import Sync
from loopy.preprocess.shot_finder import read_parts
from loopy.timing import sample_span

SURE = 0.2
"""Confidence of the toons' judge from which on sound and mouth belong together: in clips of 5 s,
95 % of true ones have over 0.44 and 95 % of dubbed ones under 0.12 (docs/evaluation.md)."""
LINE = 3.0
"""Where filters draw that line by default, in SyncNet's unit (`FilterOptions.sync_confidence`)."""
FACE_PX = 256
"""Side of the crops in which MediaPipe looks for points: a little over what its mesh sees."""
UNKNOWN = Sync(float("nan"), float("nan"))
"""Of a span that is too short, or without a face."""


class ToonSyncScorer:
    """Judges the lip sync of toons whose faces fill the crop, as in their own pictures."""

    def __init__(self) -> None:
        self.judge, self.audio_encoder = load_judge()

    @torch.no_grad()
    def __call__(self, video: Path, span: range, box: Box) -> Sync:
        """Judge a span of a video, in the square that holds the face; NaN for one too short.

        The confidence is in a unit in which the judge's line is at 3, where filters expect
        SyncNet's. A video without sound, or a damaged one, is a MediaError.
        """
        if len(span) < FEWEST_FRAMES:
            return UNKNOWN
        heard = self.audio_encoder.features(_sound(video, span))[: len(span)]
        parts = (crop_frames(part, box, size_px=SIDE_PX) for part in read_parts(video, span))
        seen = self.judge.embed_frames(parts)
        return _score(self.judge.embed_sound(heard), seen, sure=SURE)


class PeopleSyncScorer:
    """Judges the lip sync of people by points that MediaPipe's networks find in the crop.

    Raises:
        ModelError: The judge, its audio encoder or a network of faces is missing, or another one.
        DependencyError: ai-edge-litert is not installed.
    """

    def __init__(self) -> None:
        self.judge, self.audio_encoder = load_people_judge()
        self.landmarks = MediaPipe()

    @torch.no_grad()
    def __call__(self, video: Path, span: range, box: Box) -> Sync:
        """Judge a span of a video, as `ToonSyncScorer` does; NaN where no face is found."""
        if len(span) < FEWEST_FRAMES:
            return UNKNOWN
        heard = self.audio_encoder.features(_sound(video, span))[: len(span)]
        parts = (crop_frames(part, box, size_px=FACE_PX) for part in read_parts(video, span))
        seen = self.judge.embed_points(self.landmarks.follow(parts).points)
        try:
            return _score(self.judge.embed_sound(heard), seen, sure=self.judge.settings.sure)
        except MetricError:  # hardly a frame with a face
            return UNKNOWN


def _sound(video: Path, span: range) -> Float[Tensor, " samples"]:
    """What is heard in a span of frames."""
    start, stop = sample_span(span.start)[0], sample_span(span.stop - 1)[1]
    return read_audio(video, zero="pictures")[start:stop]


def _score(sound: Float[Tensor, "g d"], mouth: Float[Tensor, "h d"], *, sure: float) -> Sync:
    """Of as many windows as both have, in the unit in which `sure` is `LINE`."""
    together = min(len(sound), len(mouth))
    found = scores_of(sound[:together], mouth[:together])
    return Sync(LINE * found.confidence / sure, -float(found.offset))
