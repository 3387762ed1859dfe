"""Extractors of toon talkers: judges of the package, which need no weights from elsewhere.

Their columns have names of their own, "... (toon)": their figures are in other units, mean nothing
of other faces, and compare with no published ones.
"""

from dataclasses import fields
from functools import partial

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError
from loopy.evaluation.features.extract import Derive, ExtractorSet, Start, VideoFeatures, VideoInput
from loopy.evaluation.features.frames import FrameRows
from loopy.metrics.beat import smoothed
from loopy.metrics.sync_scores import FEWEST_FRAMES, load_judge, scores_of
from loopy.metrics.video_features import SEGMENT
from loopy.models import AudioEncoder
from loopy.models.probe import to_pictures
from loopy.models.recogniser import Recogniser
from loopy.models.sync import SyncJudge, mouths_of
from loopy.models.tracker import OUTPUTS, Tracker
from loopy.models.weights import fingerprint
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, landmarks, random_identities
from loopy.synthetic.identity import Identity

UNREAD = ("brow",)
"""Outputs that the tracker does not follow (see its card): taken as at rest."""
FEATURES = 1
"""Version of the code below: raise it where features change, as they are cached."""
EXPRESSION = [OUTPUTS.index(name) for name in ("open", "wide", "round", "teeth", "blink")]
_PEOPLE = 256


def toon_extractors() -> ExtractorSet:
    """The tracker, the recogniser and the sync judge of the package.

    Raises:
        ModelError: Weights of one of them are missing or damaged.
    """
    tracker, recogniser = Tracker.from_pretrained(), Recogniser.from_pretrained()
    judge, encoder = load_judge()
    first: dict[str, Start] = {
        "toon_tracks": lambda *_: FrameRows(tracker.track),
        "toon_face": lambda *_: FrameRows(recogniser.embed),
        "toon_mouths": lambda *_: FrameRows(partial(_mouths, judge)),
    }
    derived: dict[str, Derive] = {
        "toon_points": _points,
        "toon_stretches": _stretches,
        "toon_expression": lambda _, features: features.get("toon_tracks")[:, EXPRESSION],
        "toon_portrait": lambda video, _: recogniser.embed(video.given_portrait()[None])[0],
        "toon_sync": partial(_sync, judge, encoder),
    }
    record = {
        "tracker": fingerprint(tracker),
        "recogniser": fingerprint(recogniser),
        "looks": FEATURES,
        "sync": fingerprint(judge),
        "audio_encoder": fingerprint(encoder),
    }
    return ExtractorSet(first, derived=derived, record={"toon": record})


def _typical() -> Identity:
    """A toon with the mean traits of many."""
    people = random_identities(_PEOPLE, generator("a typical toon"))
    means = {each.name: getattr(people, each.name).mean(0, keepdim=True) for each in fields(people)}
    return Identity(**means)


def _points(_: VideoInput, features: VideoFeatures) -> Float[Tensor, "f 68 2"]:
    """Points of a typical toon that holds its head as the tracker reads it, smoothed over 5 frames.

    In pixels of the video's shorter side.
    """
    tracks = smoothed(features.get("toon_tracks"))
    controls = tracks.new_zeros(len(tracks), len(CONTROLS))
    for name in set(OUTPUTS).difference(UNREAD):
        controls[:, CONTROLS.index(name)] = tracks[:, OUTPUTS.index(name)]
    size_px = int(features.get("size")[1:].min())
    return landmarks(_typical().expand(len(tracks)), controls, size_px=size_px)[0]


def _stretches(_: VideoInput, features: VideoFeatures) -> Float[Tensor, "22"]:
    """Mean and deviation of the tracks in 16 frames, averaged over stretches."""
    tracks = features.get("toon_tracks")
    whole = tracks[: len(tracks) // SEGMENT * SEGMENT].unflatten(0, (-1, SEGMENT))
    if not len(whole):
        raise MetricError(f"{len(tracks)} frames are fewer than a stretch of {SEGMENT}")
    return torch.cat([whole.mean(1), whole.std(1)], 1).mean(0)


@torch.no_grad()
def _mouths(judge: SyncJudge, frames: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n c"]:
    return judge.pictures.code(mouths_of(to_pictures(frames)))


@torch.no_grad()
def _sync(
    judge: SyncJudge, encoder: AudioEncoder, video: VideoInput, features: VideoFeatures
) -> Float[Tensor, "3"]:
    """Confidence, distance and offset."""
    codes = features.get("toon_mouths")
    if len(codes) < FEWEST_FRAMES:
        raise MetricError(f"{len(codes)} frames are too short for it; give {FEWEST_FRAMES} or more")
    sound = encoder.features(video.sound_of(len(codes)))[: len(codes)]
    mouths = judge.pictures.windows(codes[None])[0]
    return torch.tensor(scores_of(judge.embed_sound(sound), mouths))
