"""The columns of the tables: what each is made of, and how.

First the paper's, then ours, then those of toon talkers and of people, which need no weights from
elsewhere but MediaPipe's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loopy.evaluation.features.extract import VideoFeatures
from loopy.evaluation.table.results import ColumnInfo
from loopy.metrics.beat import beat_alignment, head_speed
from loopy.metrics.blinks import blink_rate, eye_openness
from loopy.metrics.drift import colour_slope, sharpness_slope
from loopy.metrics.identity import identity_similarity
from loopy.metrics.motion_variance import motion_diversity, motion_variances
from loopy.models.tracker import OUTPUTS
from loopy.motion import MotionSequence

Kind = Literal["video", "apart", "seeds", "frames", "rows"]


@dataclass(frozen=True, eq=False)
class Column:
    """A column of the table.

    Attributes:
        info: Its name and what it means.
        needs: Features that it is made of (see `loopy.evaluation.features.networks`).
        kind: "video": a figure of each video; "apart": its distance from the real video's, mean
            over videos; "seeds": of the videos that several seeds make of one portrait and sound;
            "frames" and "rows": Frechet distance of the real set, of rows a frame or one a video.
        figure: Of one video; for "seeds" of several; not for sets.
    """

    info: ColumnInfo
    needs: tuple[str, ...]
    kind: Kind = "video"
    figure: Callable[[VideoFeatures], float] | Callable[[Sequence[VideoFeatures]], float] | None = (
        None
    )

    @property
    def name(self) -> str:
        """As in the table's head."""
        return self.info.name


def motion_of(features: VideoFeatures, points: str) -> MotionSequence:
    """A face track in a square of the video's shorter side.

    Raises:
        MetricError: Nobody has found it.
    """
    track, (_, height, width) = features.get(points), features.get("size").tolist()
    pose = track.new_zeros(len(track), 3)  # the figures do not ask for it
    return MotionSequence(track, pose, ~track.isnan().any(-1), min(height, width))


GLO = "variance of the nose tip inside windows of 12 frames, x and y summed"
EXP = "variance of 37 upper-face points relative to the nose tip, windows of 12 frames"
APART = "mean distance of a video from its real one; our definition"
SYNC = "at the best of shifts of -15 to 15 frames; a still head is rewarded: aim at the real figure"
OFFSET = "frames between sound and lips, before or behind alike: the sign would cancel in a mean"
SEEDS = "mean distance of points between videos of other noise, same portrait and sound"
BEATS = "beat alignment of head and voice less chance"


def _column(
    name: str,
    better: Literal["higher", "lower", "truth", ""],
    about: str,
    needs: str,
    figure: Callable[..., float] | None = None,
    *,
    unit: str = "",
    kind: Kind = "video",
) -> Column:
    return Column(ColumnInfo(name, better, unit, about), tuple(needs.split()), kind, figure)


def _set(name: str, about: str, needs: str, kind: Kind) -> Column:
    return _column(name, "lower", f"Frechet distance, {about}", needs, kind=kind)


def _mean(name: str) -> Callable[[VideoFeatures], float]:
    return lambda features: float(features.get(name).double().mean())


def _talking(
    *, sync: str, judge: str, points: str, found: str, face: str, portrait: str, alike: str
) -> tuple[Column, ...]:
    """What faces and toons both have, of features with these names; the other words are for abouts.

    `sync` has Sync-C, Sync-D and offset, which `judge` computes; `points` are landmarks, `found` as
    it says; `face` and `portrait` are embeddings, `alike` is what their cosine is.
    """

    def motion(features: VideoFeatures) -> MotionSequence:
        return motion_of(features, points)

    def variance(field: str) -> Callable[[VideoFeatures], float]:
        return lambda features: getattr(motion_variances(motion(features)), field)

    unit, eyes = "px^2 at 512", f"over the squared distance of the eyes; {found}"
    return (
        _column("Sync-C", "higher", f"{judge}, {SYNC}", sync,
                lambda features: float(features.get(sync)[0])),
        _column("Sync-D", "lower", f"{judge}, {SYNC}", sync,
                lambda features: float(features.get(sync)[1])),
        _column("Offset", "truth", f"{judge}, {OFFSET}", sync,
                lambda features: abs(float(features.get(sync)[2])), unit="frames"),
        _column("Glo", "truth", f"{GLO}; {found}", points, variance("glo"), unit=unit),
        _column("Exp", "truth", f"{EXP}; {found}", points, variance("exp"), unit=unit),
        _column("DGlo", "lower", f"Glo, {APART}; {found}", points, variance("glo"), unit=unit,
                kind="apart"),
        _column("DExp", "lower", f"Exp, {APART}; {found}", points, variance("exp"), unit=unit,
                kind="apart"),
        _column("Glo/eyes", "truth", f"{GLO}, {eyes}", points, variance("glo_interocular")),
        _column("Exp/eyes", "truth", f"{EXP}, {eyes}", points, variance("exp_interocular")),
        _column("Identity", "higher", alike, f"{face} {portrait}", lambda features:
                identity_similarity(features.get(face), features.get(portrait))),
        _column("Beats", "truth", f"{BEATS}; {found}", f"{points} energy", lambda features:
                beat_alignment(head_speed(motion(features)), features.get("energy")).gain),
        _column("Diversity", "", f"{SEEDS}; {found}", points,
                lambda videos: motion_diversity([motion(each) for each in videos]),
                unit="px at 512", kind="seeds"),
    )  # fmt: skip


def _ordered(order: str, *columns: Column, mark: str = "") -> tuple[Column, ...]:
    known = {column.name: column for column in columns}
    return tuple(
        replace(known[name], info=replace(known[name].info, name=name + mark))
        for name in order.split(" | ")
    )


COLUMNS = _ordered(
    "IQA | Sync-C | Sync-D | FVD-R | FVD-I | FID | Smooth | Glo | Exp | E-FID | DGlo | DExp | "
    "Glo/eyes | Exp/eyes | Offset | Identity | Colour drift | Sharpness drift | Smooth, linear | "
    "Blinks | Beats | Diversity",
    *_talking(sync="syncnet", judge="SyncNet v2", points="points", found="iBUG-68 points",
              face="face", portrait="portrait",
              alike="cosine of face embeddings with the portrait's"),
    _column("IQA", "higher", "Q-Align, 1 to 5, mean over frames", "quality", _mean("quality")),
    _set("FVD-R", "3D ResNet-50, stretches of 16 frames, a row a video", "resnet_3d", "rows"),
    _set("FVD-I", "I3D, stretches of 16 frames, a row a video", "i3d", "rows"),
    _set("FID", "Inception v3, 2048 numbers, all frames", "inception", "frames"),
    _set("E-FID", "64 expression coefficients, all frames", "expression", "frames"),
    _column("Smooth", "truth", "VBench, AMT-S, every second frame", "amt", _mean("amt")),
    _column("Smooth, linear", "truth", "as Smooth, by the mean of two frames", "linear",
            _mean("linear")),
    _column("Colour drift", "truth", "slope of the mean colour, CIE76", "colours",
            lambda features: colour_slope(features.get("colours")), unit="delta-E/s"),
    _column("Sharpness drift", "truth", "slope of the log of the Laplacian's variance", "sharpness",
            lambda features: sharpness_slope(features.get("sharpness")), unit="1/s"),
    _column("Blinks", "truth", "closures of the eyes; iBUG-68 points", "points",
            lambda features: blink_rate(eye_openness(motion_of(features, "points"))), unit="1/min"),
)  # fmt: skip
"""The paper's twelve and ours."""

TOON_COLUMNS = _ordered(
    "Sync-C | Sync-D | Offset | FVD | FID | E-FID | Glo | Exp | DGlo | DExp | Glo/eyes | "
    "Exp/eyes | Identity | Blinks | Beats | Diversity",
    *_talking(sync="toon_sync", judge="sync judge of the package", points="toon_points",
              found="a typical toon posed as the package's tracker reads it, 5 frames smoothed",
              face="toon_face", portrait="toon_portrait",
              alike="cosine of the package's recogniser with the portrait"),
    _set("FVD", "tracks of the package's tracker, mean and deviation in 16 frames, a row a video",
         "toon_stretches", "rows"),
    _set("FID", "the package's recogniser, 64 numbers, all frames", "toon_face", "frames"),
    _set("E-FID", "mouth and lids as the package's tracker reads them, all frames",
         "toon_expression", "frames"),
    _column("Blinks", "truth", "closures of the lids as the package's tracker reads them",
            "toon_tracks", lambda features: blink_rate(1 - features.get("toon_tracks")
            [:, OUTPUTS.index("blink")].clamp(0, 1)), unit="1/min"),
    mark=" (toon)",
)  # fmt: skip
"""Of toon talkers alone."""

PEOPLE_COLUMNS = (
    _column("Sync (real)", "higher", f"sync judge of the package for people, confidence {SYNC}",
            "people_sync", lambda features: float(features.get("people_sync")[0])),
    _column("Offset (real)", "truth", f"sync judge of the package for people, {OFFSET}",
            "people_sync", lambda features: abs(float(features.get("people_sync")[2])),
            unit="frames"),
)  # fmt: skip
"""Of people alone."""
