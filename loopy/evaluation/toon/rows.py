"""What the rows of the toon benchmark are made of: values of each talk, the same for every source.

A figure is a function of a talk and of the features of one film of it. Row values are those of all
talks, one row a talk, in one group of talks or two; None where a source has no film.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.evaluation.features.extract import VideoFeatures
from loopy.evaluation.toon.gallery import nearest_is_own
from loopy.evaluation.toon.measure import MeasuredTalk
from loopy.evaluation.toon.tracks import (
    STILL,
    best_lag,
    correlation,
    mismatched_correlation,
    position_jumps,
    smoothed,
    speed_jumps,
    variance,
)
from loopy.metrics.colour import palette_distance
from loopy.models.tracker import OUTPUTS
from loopy.synthetic.face import CONTROLS
from loopy.timing import FPS

SECOND, WINDOW, REACH = int(FPS), 12, 5
POSE = ("yaw", "pitch", "roll", "shift_x", "shift_y")


@dataclass(frozen=True, eq=False)
class ToonMeasurements:
    """All that was measured.

    Attributes:
        talks: By set.
        clip_frames: Frames of the model's clips.
        sensitivity: See `loopy.evaluation.toon.conditions.condition_sensitivity`.
    """

    talks: dict[str, list[MeasuredTalk]]
    clip_frames: int
    sensitivity: dict[str, Float[Tensor, "b"]] = field(default_factory=dict)

    def films(self, source: str, *groups: str) -> list[tuple[MeasuredTalk, VideoFeatures]]:
        """Talks of some sets (if none is named, of all but the endless one) and their films."""
        names = groups or [name for name in self.talks if name != "endless"]
        return [
            (talk, talk.films[source])
            for name in names
            for talk in self.talks.get(name, [])
            if source in talk.films
        ]


Values = tuple[Float[Tensor, "_n _k"], ...] | None
RowValues = Callable[[ToonMeasurements, str], Values]
TalkFigure = Callable[[MeasuredTalk, VideoFeatures], float]


def per_talk(figure: TalkFigure, *groups: str, truth: bool = False) -> RowValues:
    """A figure of each talk of some sets; with `truth` a second column of its true film."""
    return lambda measurements, source: _values(
        [
            [figure(talk, film) for film in (film, talk.films["truth"])[: 1 + truth]]
            for talk, film in measurements.films(source, *groups)
        ]
    )


def follows(name: str) -> TalkFigure:
    """Correlation of a track with the truth; 0 where either does not move."""
    return lambda talk, film: float(
        correlation(_truth(talk, name), _track(film, name)).nan_to_num(0.0)
    )


def lips(name: str) -> RowValues:
    """Correlation of a lip trait with the truth; in a second column that of the true frames."""
    return per_talk(follows(name), "speech", truth=True)


def lag(talk: MeasuredTalk, film: VideoFeatures) -> float:
    """Frames between mouth and truth where they match best; 1 more than was tried if nowhere."""
    frames = best_lag(_truth(talk, "open"), _track(film, "open"), reach=REACH)
    return abs(frames) if frames == frames else REACH + 1


def in_time(talk: MeasuredTalk, film: VideoFeatures) -> float:
    """1 where that is at most a frame."""
    return float(lag(talk, film) <= 1)


def opening_of_others(measurements: ToonMeasurements, source: str) -> Values:
    """Correlation of the mouth's opening with the true ones of all other voices, mean."""
    films = measurements.films(source, "speech")
    if len(films) < 2:
        return None
    truths = torch.stack([_truth(talk, "open") for talk, _ in films])
    tracks = [_track(film, "open") for _, film in films]
    r = [mismatched_correlation(truths, track, own) for own, track in enumerate(tracks)]
    return (torch.tensor(r)[:, None].nan_to_num(0.0),)


def gain(talk: MeasuredTalk, film: VideoFeatures) -> float:
    """How far the mouth opens: slope of the measured opening on the true one."""
    truth = _truth(talk, "open") - _truth(talk, "open").mean()
    return float((truth * _track(film, "open")).sum() / truth.square().sum().clamp(min=STILL))


def ajar(talk: MeasuredTalk, film: VideoFeatures) -> float:
    """How far the mouth is open beyond the measured truth, mean."""
    return float((_track(film, "open") - _track(talk.films["truth"], "open")).mean())


def mouth_motion(_: MeasuredTalk, film: VideoFeatures) -> float:
    """Deviation of the opening over time; 0 where only the arithmetic moves."""
    deviation = float(_track(film, "open").std(correction=0))
    return deviation if deviation >= STILL else 0.0


def calm(group: str) -> RowValues:
    """How much the mouth moves in silence or noise; in a second group, in speech."""

    def values(measurements: ToonMeasurements, source: str) -> Values:
        quiet, speech = (per_talk(mouth_motion, g)(measurements, source) for g in (group, "speech"))
        return quiet and speech and (*quiet, *speech)

    return values


silent_face = per_talk(lambda _, film: float(film.get("unrest").mean()), "silence", truth=True)
"""Unrest of a silent face; in a second column the truth's."""


def recognised(*, last: int = 0) -> TalkFigure:
    """Share of frames, or of the last ones alone, whose face is nearest to its own."""
    return lambda talk, film: float(
        nearest_is_own(film.get("identity")[-last:], talk.people).float().mean()
    )


def drift(_: MeasuredTalk, film: VideoFeatures) -> float:
    """Colours of the last second against those of the first, wherever they are: delta-E."""
    colours = film.get("colours")
    return float(palette_distance(colours[:SECOND].flatten(0, 1), colours[-SECOND:].flatten(0, 1)))


def life(names: tuple[str, ...], *, window: int | None = None) -> RowValues:
    """Variance over time of tracks relative to their usual one; in a second column the truth's.

    Of smoothed tracks: in single frames the tracker's noise is larger than the head's motion.
    """

    def values(measurements: ToonMeasurements, source: str) -> Values:
        scale = _scale(measurements, names).square()
        changes = per_talk(
            lambda _, film: float(
                (variance(smoothed(_tracks(film, names)), window=window) / scale).sum()
            ),
            "speech",
            truth=True,
        )
        return changes(measurements, source)

    return values


def background(measurements: ToonMeasurements, source: str) -> Values:
    """Flicker of the background, in 1/255; without the talks that show none."""
    if source == "mismatched":  # its background lies elsewhere
        return None
    means = [float(film.get("flicker").mean()) for _, film in measurements.films(source)]
    return _values([[mean] for mean in means if mean == mean])


def borders(*, speed: bool) -> RowValues:
    """Jumps of the head's position, or speed, at borders of clips; in a second column inside."""
    jumps = speed_jumps if speed else position_jumps

    def values(measurements: ToonMeasurements, source: str) -> Values:
        scale, films = _scale(measurements, POSE), measurements.films(source, "long")
        tracks = [_tracks(film, POSE) / scale for _, film in films]
        return _values([[*jumps(each, clip_frames=measurements.clip_frames)] for each in tracks])

    return values


def sensitivity(part: str) -> RowValues:
    """Growth of the loss on held-out clips when a condition is mismatched; of the model alone."""

    def values(measurements: ToonMeasurements, source: str) -> Values:
        if source != "made" or part not in measurements.sensitivity:
            return None
        return (measurements.sensitivity[part][:, None],)

    return values


def _values(rows: list[list[float]]) -> Values:
    return (torch.tensor(rows, dtype=torch.float32),) if rows else None


def _truth(talk: MeasuredTalk, name: str) -> Float[Tensor, "f"]:
    return talk.controls[:, CONTROLS.index(name)]


def _tracks(film: VideoFeatures, names: tuple[str, ...]) -> Float[Tensor, "f k"]:
    return film.get("tracks")[:, [OUTPUTS.index(name) for name in names]]


def _track(film: VideoFeatures, name: str) -> Float[Tensor, "f"]:
    return _tracks(film, (name,))[:, 0]


def _scale(measurements: ToonMeasurements, names: tuple[str, ...]) -> Float[Tensor, "k"]:
    """Usual deviation over time of each track in true films, so that yaw and shift count alike."""
    films = measurements.films("truth")
    variances = torch.stack([variance(smoothed(_tracks(film, names))) for _, film in films])
    return variances.mean(0).sqrt().clamp(min=1e-6)
