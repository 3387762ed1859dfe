"""Every figure of the toon benchmark as a function of readings, the same for every source.

A column takes the evidence and a source, and gives one row of values a talk, in one group of
talks or two; None where the source was not filmed. A statistic of `evaluation.table.statistics`
makes one figure of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.evaluation.toon.filming import Take
from loopy.evaluation.toon.gallery import nearest_is_own
from loopy.evaluation.toon.measure import Reading
from loopy.evaluation.toon.tracks import (
    STILL,
    best_lag,
    correlation,
    correlation_with_others,
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

Values = tuple[Float[Tensor, "_n _k"], ...] | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that was filmed and measured.

    Attributes:
        takes: By set.
        clip_frames: Frames of the model's clips.
        swaps: See `loopy.evaluation.toon.conditions.swaps`.
    """

    takes: dict[str, list[Take]]
    clip_frames: int
    swaps: dict[str, Float[Tensor, "b"]] = field(default_factory=dict)

    def films(self, source: str, *groups: str) -> list[tuple[Take, Reading]]:
        """Takes of some sets (of all but the endless one, if none is named) that have a source."""
        names = groups or [name for name in self.takes if name != "endless"]
        return [
            (take, take.readings[source])
            for name in names
            for take in self.takes.get(name, [])
            if source in take.readings
        ]


Column = Callable[[Evidence, str], Values]


def opening(group: str = "speech") -> Column:
    """Correlation of the mouth's opening with the truth; a still mouth counts as 0."""

    def column(evidence: Evidence, source: str) -> Values:
        films = evidence.films(source, group)
        return _rows([[_r(take, reading, "open")] for take, reading in films])

    return column


def lag(evidence: Evidence, source: str) -> Values:
    """Frames between mouth and truth where they match best; 1 more than was tried if nowhere."""
    found = [
        best_lag(_truth(take, "open"), _track(reading, "open"), reach=REACH).frames
        for take, reading in evidence.films(source, "speech")
    ]
    return _rows([[abs(frames) if frames == frames else REACH + 1] for frames in found])


def in_time(evidence: Evidence, source: str) -> Values:
    """1 where that is at most a frame."""
    late = lag(evidence, source)
    return late and tuple((column <= 1).float() for column in late)


def others(evidence: Evidence, source: str) -> Values:
    """Correlation of the mouth's opening with the true ones of all other voices, mean."""
    films = evidence.films(source, "speech")
    if len(films) < 2:
        return None
    truths = torch.stack([_truth(take, "open") for take, _ in films])
    rows = [
        [correlation_with_others(truths, _track(reading, "open"), own)]
        for own, (_, reading) in enumerate(films)
    ]
    return (torch.tensor(rows).nan_to_num(0.0),)


def lips(name: str) -> Column:
    """Correlation of a lip trait with the truth; beside it the tracker's own in true frames."""

    def column(evidence: Evidence, source: str) -> Values:
        films = evidence.films(source, "speech")
        return _rows(
            [[_r(t, reading, name), _r(t, t.readings["truth"], name)] for t, reading in films]
        )

    return column


def gain(evidence: Evidence, source: str) -> Values:
    """How far the mouth opens, as the slope of what is read on the truth; beside it the truth's."""
    films = evidence.films(source, "speech")
    return _rows([[_slope(t, reading), _slope(t, t.readings["truth"])] for t, reading in films])


def ajar(evidence: Evidence, source: str) -> Values:
    """How far the mouth hangs open in silence, beyond the truth as read."""
    return _rows(
        [
            [float((_track(reading, "open") - _track(take.readings["truth"], "open")).mean())]
            for take, reading in evidence.films(source, "silence")
        ]
    )


def calm(group: str) -> Column:
    """How much the mouth moves in silence or noise; and in the same source's speech."""

    def column(evidence: Evidence, source: str) -> Values:
        quiet, speech = (
            _rows([[_motion(_track(reading, "open"))] for _, reading in films])
            for films in (evidence.films(source, group), evidence.films(source, "speech"))
        )
        return quiet and speech and (*quiet, *speech)

    return column


def identity(evidence: Evidence, source: str) -> Values:
    """Share of frames whose face is nearest to its own among the look-alikes."""
    films = evidence.films(source)
    return _rows([[_own(take, reading.whose)] for take, reading in films])


def identity_at_the_end(group: str = "long") -> Column:
    """The same in the last second."""

    def column(evidence: Evidence, source: str) -> Values:
        films = evidence.films(source, group)
        return _rows([[_own(take, reading.whose[-SECOND:])] for take, reading in films])

    return column


def drift(group: str = "long") -> Column:
    """Colours of the last second against those of the first, wherever they are: delta-E."""

    def column(evidence: Evidence, source: str) -> Values:
        films = evidence.films(source, group)
        return _rows([[float(_drift(reading))] for _, reading in films])

    return column


def life(names: tuple[str, ...], *, window: int | None = None) -> Column:
    """Variance over time of tracks, in parts of their usual one; beside it that of the truth.

    Of smoothed tracks: in single frames the tracker's noise is larger than what a head moves.
    """

    def column(evidence: Evidence, source: str) -> Values:
        films = evidence.films(source, "speech")
        scale = _scale(evidence, names)
        return _rows(
            [
                [
                    float(
                        (
                            variance(smoothed(_tracks(film, names)), window=window) / scale.square()
                        ).sum()
                    )
                    for film in (reading, take.readings["truth"])
                ]
                for take, reading in films
            ]
        )

    return column


def background(evidence: Evidence, source: str) -> Values:
    """Flicker of the background, in 1/255; talks without visible background are left out."""
    if source == "another":  # its background is not where ours is
        return None
    means = [float(reading.flicker.mean()) for _, reading in evidence.films(source)]
    return _rows([[each] for each in means if each == each])


def face(evidence: Evidence, source: str) -> Values:
    """Unrest of a silent face; beside it that of the truth."""
    return _rows(
        [
            [float(film.unrest.mean()) for film in (reading, take.readings["truth"])]
            for take, reading in evidence.films(source, "silence")
        ]
    )


def borders(*, speed: bool) -> Column:
    """Jumps of the head's position, or speed, at borders of clips; beside them those inside."""
    jumps = speed_jumps if speed else position_jumps

    def column(evidence: Evidence, source: str) -> Values:
        scale = _scale(evidence, POSE)
        return _rows(
            [
                [*jumps(_tracks(reading, POSE) / scale, clip_frames=evidence.clip_frames)]
                for _, reading in evidence.films(source, "long")
            ]
        )

    return column


def swapped(part: str) -> Column:
    """Growth of the loss on held-out clips; of the model alone."""

    def column(evidence: Evidence, source: str) -> Values:
        if source != "made" or part not in evidence.swaps:
            return None
        return (evidence.swaps[part][:, None],)

    return column


def _rows(values: list[list[float]]) -> Values:
    return (torch.tensor(values, dtype=torch.float32),) if values else None


def _truth(take: Take, name: str) -> Float[Tensor, "f"]:
    return take.controls[:, CONTROLS.index(name)]


def _tracks(reading: Reading, names: tuple[str, ...]) -> Float[Tensor, "f k"]:
    return reading.tracks[:, [OUTPUTS.index(name) for name in names]]


def _track(reading: Reading, name: str) -> Float[Tensor, "f"]:
    return _tracks(reading, (name,))[:, 0]


def _r(take: Take, reading: Reading, name: str) -> float:
    return float(correlation(_truth(take, name), _track(reading, name)).nan_to_num(0.0))


def _slope(take: Take, reading: Reading) -> float:
    truth = _truth(take, "open") - _truth(take, "open").mean()
    return float((truth * _track(reading, "open")).sum() / truth.square().sum().clamp(min=STILL))


def _motion(track: Float[Tensor, "f"]) -> float:
    """Deviation over time; 0 where only the arithmetic moves."""
    deviation = float(track.std(correction=0))
    return deviation if deviation >= STILL else 0.0


def _own(take: Take, whose: Float[Tensor, "f d"]) -> float:
    return float(nearest_is_own(whose, take.people).float().mean())


def _drift(reading: Reading) -> Float[Tensor, ""]:
    first, last = reading.colours[:SECOND], reading.colours[-SECOND:]
    return palette_distance(first.flatten(0, 1), last.flatten(0, 1))


def _scale(evidence: Evidence, names: tuple[str, ...]) -> Float[Tensor, "k"]:
    """Usual deviation over time of each track in true films, so that yaw and shift count alike."""
    films = evidence.films("truth")
    variances = torch.stack([variance(smoothed(_tracks(reading, names))) for _, reading in films])
    return variances.mean(0).sqrt().clamp(min=1e-6)
