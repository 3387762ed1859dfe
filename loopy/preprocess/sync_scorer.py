"""The sync judge as a filter: is this toon dubbed?"""

from pathlib import Path

import torch

from loopy.data.media.sound import read_audio
from loopy.faces.framing import Box, crop_frames
from loopy.metrics.sync_scores import FEWEST_FRAMES, load_judge, scores_of
from loopy.models.probe import SIDE_PX
from loopy.preprocess.measurements import Sync
from loopy.preprocess.shot_finder import read_parts
from loopy.timing import sample_span

SURE = 0.2
"""Confidence of the judge from which on sound and mouth belong together: in clips of 5 s, 95 %
of true ones have over 0.44 and 95 % of dubbed ones under 0.12 (docs/evaluation.md)."""
LINE = 3.0
"""Where filters draw that line by default, in SyncNet's unit (`FilterOptions.sync_confidence`)."""


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
            return Sync(float("nan"), float("nan"))
        start, stop = sample_span(span.start)[0], sample_span(span.stop - 1)[1]
        samples = read_audio(video, zero="pictures")[start:stop]
        heard = self.audio_encoder.features(samples)[: len(span)]
        parts = (crop_frames(part, box, size_px=SIDE_PX) for part in read_parts(video, span))
        seen = self.judge.embed_frames(parts)
        together = min(len(seen), len(sound := self.judge.embed_sound(heard)))
        found = scores_of(sound[:together], seen[:together])
        return Sync(LINE * found.confidence / SURE, -float(found.offset))
