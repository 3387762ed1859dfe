"""Who looks at toon talkers: judges of the package, which need no weights from elsewhere.

Their columns have names of their own, "... (toon)": their figures are in other units, mean nothing
of other faces, and compare with no published ones.
"""

from dataclasses import fields
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError, ModelError
from loopy.evaluation.features.extract import EachFrame, Film, Look
from loopy.evaluation.features.faces import sound_of
from loopy.evaluation.features.networks import Equipment
from loopy.evaluation.toon.tracks import smoothed
from loopy.metrics.sync_judge import FEWEST_FRAMES, load_judge, scores_of
from loopy.metrics.video_features import SEGMENT
from loopy.models import AudioEncoder
from loopy.models.recogniser import Recogniser
from loopy.models.sync import SyncJudge
from loopy.models.tracker import OUTPUTS, Tracker
from loopy.models.weights import fingerprint
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, landmarks, random_identities
from loopy.synthetic.identity import Identity

UNREAD = ("brow",)
"""Outputs that the tracker does not follow (see its card): taken as at rest."""
LOOKS = 1
"""Version of the code below: raise it where what is seen changes, as what was seen is kept."""
EXPRESSION = [OUTPUTS.index(name) for name in ("open", "wide", "round", "teeth", "blink")]
_PEOPLE = 256


def toon_equipment() -> Equipment:
    """The tracker, the recogniser and the sync judge of the package.

    Raises:
        ModelError: Weights of tracker or recogniser are missing or damaged.
    """
    tracker, recogniser = Tracker.from_pretrained(), Recogniser.from_pretrained()
    lookers = {
        "toon_tracks": lambda _: EachFrame(tracker.track),
        "toon_face": lambda _: EachFrame(recogniser.embed),
    }
    later = {
        "toon_points": _points,
        "toon_stretches": _stretches,
        "toon_expression": lambda _, look: look.get("toon_tracks")[:, EXPRESSION],
        "toon_portrait": lambda film, _: recogniser.embed(film.portrait[None])[0],
    }
    record: dict[str, str | int] = {
        "tracker": fingerprint(tracker),
        "recogniser": fingerprint(recogniser),
        "looks": LOOKS,
    }
    missing = {}
    try:
        judge, hearing = load_judge()
    except ModelError as error:
        missing["toon_sync"] = f"the sync judge of the package ({error})"
    else:
        later["toon_sync"] = partial(_synchrony, judge, hearing)
        record |= {"sync": fingerprint(judge), "audio_encoder": fingerprint(hearing)}
    return Equipment(lookers, later, missing, {"toon": record})


def typical() -> Identity:
    """A toon with the mean traits of many."""
    people = random_identities(_PEOPLE, generator("a typical toon"))
    means = {each.name: getattr(people, each.name).mean(0, keepdim=True) for each in fields(people)}
    return Identity(**means)


def _points(_: Film, look: Look) -> Float[Tensor, "f 68 2"]:
    """Points of a typical toon that holds its head as the tracker reads it, smoothed over 5 frames.

    In pixels of the video's shorter side.
    """
    tracks = smoothed(look.get("toon_tracks"))
    controls = tracks.new_zeros(len(tracks), len(CONTROLS))
    for name in set(OUTPUTS).difference(UNREAD):
        controls[:, CONTROLS.index(name)] = tracks[:, OUTPUTS.index(name)]
    size_px = int(look.get("size")[1:].min())
    return landmarks(typical().expand(len(tracks)), controls, size_px=size_px)[0]


def _stretches(_: Film, look: Look) -> Float[Tensor, "22"]:
    """Mean and deviation of the tracks in 16 frames, averaged over stretches.

    Raises:
        MetricError: Fewer frames than a stretch.
    """
    tracks = look.get("toon_tracks")
    whole = tracks[: len(tracks) // SEGMENT * SEGMENT].unflatten(0, (-1, SEGMENT))
    if not len(whole):
        raise MetricError(f"{len(tracks)} frames are fewer than a stretch of {SEGMENT}")
    return torch.cat([whole.mean(1), whole.std(1)], 1).mean(0)


@torch.no_grad()
def _synchrony(judge: SyncJudge, hearing: AudioEncoder, film: Film, look: Look) -> Tensor:
    """Confidence, distance and offset.

    Raises:
        MetricError: Too few frames.
    """
    frames = int(look.get("size")[0])
    if frames < FEWEST_FRAMES:
        raise MetricError(f"{frames} frames are too short for it; give {FEWEST_FRAMES} or more")
    heard = judge.hear(hearing.features(sound_of(film, frames))[:frames])
    return torch.tensor(scores_of(heard, judge.watch(film.parts())))
