"""The table of the toon benchmark: what each row measures, and where its figure should lie.

A figure is a function of a talk and of the features of one film of it, the same for every source.
Row values are those of all talks, one row a talk, in one group of talks or two; None where a source
has no film.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.evaluation.features.extract import VideoFeatures
from loopy.evaluation.table.statistics import (
    Statistic,
    bootstrap,
    mean,
    median,
    ratio_of_means,
    ratio_of_medians,
    ratio_of_sums,
)
from loopy.evaluation.toon.measure import MeasuredTalk
from loopy.evaluation.toon.talks import nearest_is_own
from loopy.evaluation.toon.thresholds import RowResult, Threshold
from loopy.evaluation.toon.tracks import (
    STILL,
    best_lag,
    correlation,
    mismatched_correlation,
    position_jumps,
    speed_jumps,
    variance,
)
from loopy.metrics.beat import smoothed
from loopy.metrics.drift import palette_distance
from loopy.models.tracker import OUTPUTS
from loopy.synthetic.face import CONTROLS
from loopy.timing import FPS

SECOND, WINDOW, REACH = int(FPS), 12, 5
POSE = ("yaw", "pitch", "roll", "shift_x", "shift_y")
SOURCES = ("made", "truth", "vae", "still", "mismatched", "no_past")
"""The model, two ceilings, three floors."""


@dataclass(frozen=True, eq=False)
class ToonMeasurements:
    """All that was measured: talks by set, and `condition_sensitivity`."""

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


def lag(talk: MeasuredTalk, film: VideoFeatures) -> float:
    """Frames between mouth and truth where they match best; 1 more than was tried if nowhere."""
    frames = best_lag(_truth(talk, "open"), _track(film, "open"), reach=REACH)
    return abs(frames) if frames == frames else REACH + 1


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


def unrest(_: MeasuredTalk, film: VideoFeatures) -> float:
    """Of the face, mean over the film."""
    return float(film.get("unrest").mean())


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

        def change(_: MeasuredTalk, film: VideoFeatures) -> float:
            moves = variance(smoothed(_tracks(film, names)), window=window)
            return float((moves / scale).sum())

        return per_talk(change, "speech", truth=True)(measurements, source)

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
    return lambda measurements, source: (
        (measurements.sensitivity[part][:, None],)
        if source == "made" and part in measurements.sensitivity
        else None
    )


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


class ToonRow(NamedTuple):
    """A row of the table.

    `statistic` makes one figure of the values of each talk; without a threshold it is for
    information. Where the tracker does not follow what it `reads`, it says nothing.
    """

    name: str
    values: RowValues
    statistic: Statistic
    threshold: Threshold | None = None
    reads: str = ""


CLOSE, OWN, CALM = Threshold(low=0.8), Threshold(low=0.95), Threshold(high=0.2)
DRIFT, LIFE, LIPS = Threshold(high=3), Threshold(low=0.5, high=1.5), Threshold(low=0.6)
BORDER, SURE = Threshold(high=1.5, below="no_past"), Threshold(low=0, sure=True)

_OPEN = per_talk(follows("open"), "speech")
_IN_TIME = per_talk(lambda talk, film: float(lag(talk, film) <= 1), "speech")
_WIDE, _ROUND, _GAIN = (
    per_talk(figure, "speech", truth=True) for figure in (follows("wide"), follows("round"), gain)
)

ROWS = (
    ToonRow("opening: r with truth", _OPEN, median, CLOSE),
    ToonRow("opening: frames of lag", per_talk(lag, "speech"), median, Threshold(high=1)),
    ToonRow("opening: talks in time", _IN_TIME, mean),
    ToonRow("opening: r with other voices", opening_of_others, median, Threshold(high=0.15)),
    ToonRow("opening: gain", _GAIN, ratio_of_medians),
    ToonRow("lip width: share of ceiling", _WIDE, ratio_of_medians, LIPS),
    ToonRow("rounding: share of ceiling", _ROUND, ratio_of_medians, LIPS),
    ToonRow("silence: mouth against speech", calm("silence"), ratio_of_means, CALM),
    ToonRow("silence: mouth ajar", per_talk(ajar, "silence"), mean),
    ToonRow("noise: mouth against speech", calm("noise"), ratio_of_means, CALM),
    ToonRow("identity: nearest of 32", per_talk(recognised()), mean, OWN),
    ToonRow("identity: last second of 20 s", per_talk(recognised(last=25), "long"), mean, OWN),
    ToonRow("drift over 20 s, delta-E", per_talk(drift, "long"), median, DRIFT),
    ToonRow("life: head, 12 frames", life(POSE, window=WINDOW), ratio_of_sums, LIFE),
    ToonRow("life: head, 8 s", life(POSE), ratio_of_sums, LIFE),
    ToonRow("life: brow, 12 frames", life(("brow",), window=WINDOW), ratio_of_sums, LIFE, "brow"),
    ToonRow("life: brow, 8 s", life(("brow",)), ratio_of_sums, LIFE, "brow"),
    ToonRow("steady background, 1/255", background, median, Threshold(high=1)),
    ToonRow("steady silent face, x truth", per_talk(unrest, "silence", truth=True), ratio_of_sums,
            Threshold(high=2)),
    ToonRow("past: loss when mismatched", sensitivity("past"), mean, SURE),
    ToonRow("clip border: head position", borders(speed=False), ratio_of_sums, BORDER),
    ToonRow("clip border: head speed", borders(speed=True), ratio_of_sums, BORDER),
    ToonRow("sound, keys: loss when mismatched", sensitivity("keys"), mean, SURE),
    ToonRow("sound, latents: the same", sensitivity("latents"), mean, SURE),
)  # fmt: skip

ENDLESS_ROWS = (
    ToonRow("10 min: opening r", per_talk(follows("open"), "endless"), median, CLOSE),
    ToonRow("10 min: identity, last second", per_talk(recognised(last=25), "endless"), mean, OWN),
    ToonRow("10 min: drift, delta-E", per_talk(drift, "endless"), median, DRIFT),
)


def row_results(
    measurements: ToonMeasurements, *, seed: int = 0, unread: Collection[str] = ()
) -> list[RowResult]:
    """Every row of the table for every source; rows about `unread` outputs say nothing."""
    results = []
    for row in (*ROWS, *(ENDLESS_ROWS if "endless" in measurements.talks else ())):
        found = {source: row.values(measurements, source) for source in SOURCES}
        known = {source: groups for source, groups in found.items() if groups is not None}
        figures = {s: bootstrap(row.statistic, *groups, seed=seed) for s, groups in known.items()}
        values = {s: [group.tolist() for group in groups] for s, groups in known.items()}
        results.append(RowResult(row.name, row.threshold, figures, values, row.reads in unread))
    return results
