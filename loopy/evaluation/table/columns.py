"""The columns of the tables: what each is made of, and how.

First the paper's, then ours, then those of toon talkers, which need no weights from elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from loopy.evaluation.features.extract import VideoFeatures
from loopy.evaluation.table.results import ColumnInfo
from loopy.metrics.beat import beat_alignment, head_speed
from loopy.metrics.blinks import blink_rate, eye_openness
from loopy.metrics.diversity import motion_diversity
from loopy.metrics.drift import colour_slope, sharpness_slope
from loopy.metrics.identity import identity_similarity
from loopy.metrics.motion_variance import motion_variances
from loopy.models.tracker import OUTPUTS
from loopy.motion import MotionSequence

OfOne = Callable[[VideoFeatures], float]
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


def mouth_curve(features: VideoFeatures) -> Tensor | None:
    """How open the mouth is in each frame: of toons as read, else lips over eyes' distance."""
    if "toon_tracks" in features.tensors:
        return features.tensors["toon_tracks"][:, OUTPUTS.index("open")]
    if "points" not in features.tensors:
        return None
    points = features.tensors["points"]
    between = (points[:, 36] - points[:, 45]).norm(dim=1)
    return (points[:, 62] - points[:, 66]).norm(dim=1) / between


def _mean(name: str) -> OfOne:
    return lambda features: float(features.get(name).double().mean())


def _place(name: str, place: int) -> OfOne:
    return lambda features: float(features.get(name)[place])


def _size(name: str, place: int) -> OfOne:
    return lambda features: abs(float(features.get(name)[place]))


def _variance(points: str, name: str) -> OfOne:
    return lambda features: getattr(motion_variances(motion_of(features, points)), name)


def _similarity(rows: str, portrait: str) -> OfOne:
    return lambda features: identity_similarity(features.get(rows), features.get(portrait))


def _beats(points: str) -> OfOne:
    def gain(features: VideoFeatures) -> float:
        return beat_alignment(head_speed(motion_of(features, points)), features.get("energy")).gain

    return gain


def _toon_blinks(features: VideoFeatures) -> float:
    return blink_rate(1 - features.get("toon_tracks")[:, OUTPUTS.index("blink")].clamp(0, 1))


def _diversity(points: str) -> Callable[[Sequence[VideoFeatures]], float]:
    return lambda videos: motion_diversity([motion_of(each, points) for each in videos])


DWPOSE = "iBUG-68 points"
GLO = "variance of the nose tip inside windows of 12 frames, x and y summed"
EXP = "variance of 37 upper-face points relative to the nose tip, windows of 12 frames"
TRACKER = "a typical toon posed as the package's tracker reads it, 5 frames smoothed"
APART = "mean distance of a video from its real one; our definition"
SYNC = "at the best of shifts of -15 to 15 frames; a still head is rewarded: aim at the real figure"
OFFSET = "frames between sound and lips, before or behind alike: the sign would cancel in a mean"
SEEDS = "mean distance of points between videos of other noise, same portrait and sound"


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


def _moving(points: str, how: str, mark: str = "") -> tuple[Column, ...]:
    """Glo, Exp and what follows from them."""
    names: Mapping[str, tuple[str, str]] = {
        "Glo": ("glo", GLO), "Exp": ("exp", EXP),
        "Glo/eyes": ("glo_interocular", f"{GLO}, over the squared distance of the eyes"),
        "Exp/eyes": ("exp_interocular", f"{EXP}, over the squared distance of the eyes"),
    }  # fmt: skip
    own, apart = list[Column](), list[Column]()
    for name, (field, about) in names.items():
        figure = _variance(points, field)
        unit = "" if "/" in name else "px^2 at 512"
        about = f"{about}; {how}"
        own.append(_column(name + mark, "truth", about, points, figure, unit=unit))
        if not unit:
            continue
        about = f"{name}, {APART}; {how}"
        apart.append(
            _column(f"D{name}{mark}", "lower", about, points, figure, unit=unit, kind="apart")
        )
    return (*own[:2], *apart, *own[2:])


def _set(name: str, about: str, needs: str, kind: Kind) -> Column:
    return _column(name, "lower", f"Frechet distance, {about}", needs, kind=kind)


COLUMNS: tuple[Column, ...] = (
    _column("IQA", "higher", "Q-Align, 1 to 5, mean over frames", "quality", _mean("quality")),
    _column("Sync-C", "higher", f"SyncNet v2, {SYNC}", "syncnet", _place("syncnet", 0)),
    _column("Sync-D", "lower", f"SyncNet v2, {SYNC}", "syncnet", _place("syncnet", 1)),
    _set("FVD-R", "3D ResNet-50, stretches of 16 frames, a row a video", "resnet_3d", "rows"),
    _set("FVD-I", "I3D, stretches of 16 frames, a row a video", "i3d", "rows"),
    _set("FID", "Inception v3, 2048 numbers, all frames", "inception", "frames"),
    _column("Smooth", "truth", "VBench, AMT-S, every second frame", "amt", _mean("amt")),
    *_moving("points", DWPOSE)[:2],
    _set("E-FID", "64 expression coefficients, all frames", "expression", "frames"),
    *_moving("points", DWPOSE)[2:],
    _column("Offset", "truth", f"SyncNet v2, {OFFSET}", "syncnet", _size("syncnet", 2),
            unit="frames"),
    _column("Identity", "higher", "cosine of face embeddings with the portrait's", "face portrait",
            _similarity("face", "portrait")),
    _column("Colour drift", "truth", "slope of the mean colour, CIE76", "colours",
            lambda features: colour_slope(features.get("colours")), unit="delta-E/s"),
    _column("Sharpness drift", "truth", "slope of the log of the Laplacian's variance", "sharpness",
            lambda features: sharpness_slope(features.get("sharpness")), unit="1/s"),
    _column("Smooth, linear", "truth", "as Smooth, by the mean of two frames", "linear",
            _mean("linear")),
    _column("Blinks", "truth", f"closures of the eyes; {DWPOSE}", "points",
            lambda features: blink_rate(eye_openness(motion_of(features, "points"))), unit="1/min"),
    _column("Beats", "truth", f"beat alignment of head and voice less chance; {DWPOSE}",
            "points energy", _beats("points")),
    _column("Diversity", "", f"{SEEDS}; {DWPOSE}", "points", _diversity("points"),
            unit="px at 512", kind="seeds"),
)  # fmt: skip
"""The paper's twelve and ours."""

TOON_COLUMNS: tuple[Column, ...] = (
    _column("Sync-C (toon)", "higher", f"sync judge of the package, {SYNC}", "toon_sync",
            _place("toon_sync", 0)),
    _column("Sync-D (toon)", "lower", f"sync judge of the package, {SYNC}", "toon_sync",
            _place("toon_sync", 1)),
    _column("Offset (toon)", "truth", f"sync judge of the package, {OFFSET}", "toon_sync",
            _size("toon_sync", 2), unit="frames"),
    _set("FVD (toon)", "tracks of the package's tracker, mean and deviation in 16 frames, a row a "
         "video", "toon_stretches", "rows"),
    _set("FID (toon)", "the package's recogniser, 64 numbers, all frames", "toon_face", "frames"),
    _set("E-FID (toon)", "mouth and lids as the package's tracker reads them, all frames",
         "toon_expression", "frames"),
    *_moving("toon_points", TRACKER, " (toon)"),
    _column("Identity (toon)", "higher", "cosine of the package's recogniser with the portrait",
            "toon_face toon_portrait", _similarity("toon_face", "toon_portrait")),
    _column("Blinks (toon)", "truth", "closures of the lids as the package's tracker reads them",
            "toon_tracks", _toon_blinks, unit="1/min"),
    _column("Beats (toon)", "truth", f"beat alignment of head and voice less chance; {TRACKER}",
            "toon_points energy", _beats("toon_points")),
    _column("Diversity (toon)", "", f"{SEEDS}; {TRACKER}", "toon_points",
            _diversity("toon_points"), unit="px at 512", kind="seeds"),
)  # fmt: skip
"""Of toon talkers alone."""
