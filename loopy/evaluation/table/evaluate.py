"""Videos to results: features of the made video and the real one, figures of each, of the set."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from os.path import relpath
from pathlib import Path
from typing import cast

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from loopy.data.media.video import contact_sheet, evenly_spread
from loopy.data.media.video_reader import read_frames
from loopy.drafts import existing_folder, writing
from loopy.errors import (
    ConfigurationError,
    DependencyError,
    LoopyError,
    MediaError,
    MetricError,
    OutputError,
)
from loopy.evaluation.features.extract import (
    ExtractorSet,
    VideoFeatures,
    VideoInput,
    cached_features,
    cached_tensor,
)
from loopy.evaluation.table.columns import Column
from loopy.evaluation.table.results import Results, SetFigure, VideoResult
from loopy.evaluation.table.statistics import (
    FEWEST_VIDEOS,
    Rows,
    bootstrap,
    distance_of_frames,
    distance_of_videos,
    mean,
)
from loopy.models.tracker import OUTPUTS
from loopy.timing import FPS

MADE, REAL = "made", "real"

SHOWN, HEIGHT_PX = 10, 96
"""Frames in a row, and how high they are shown."""

OF_ALL = (OutputError, ConfigurationError, DependencyError)
"""Errors that are not of one video: the next one would meet them too."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A made video and the real one, if there is one.

    `portrait` is what it was made from; without one its identity has no figure. `seeds` are videos
    of other noise; `problem` says why it cannot be evaluated.
    """

    name: str
    made: Path
    real: Path | None = None
    portrait: UInt8[Tensor, "h w 3"] | None = None
    seeds: tuple[Path, ...] = ()
    problem: str = ""


@dataclass(frozen=True, eq=False)
class VideoEvaluator:
    """Evaluates videos, one after the other, into a folder that exists. Features are cached.

    Those of the real videos in `real_out`, if it is given. `gaps` are by column the videos without
    a figure, with the reasons.
    """

    out: Path
    extractors: ExtractorSet
    columns: Sequence[Column]
    real_out: Path | None = None
    gaps: dict[str, dict[str, str]] = field(default_factory=dict)

    def results(
        self,
        pairs: Iterable[Pair],
        *,
        model: str,
        test_set: str,
        seed: int,
        total: int | None = None,
    ) -> Results:
        """Evaluates a set of videos; one that is made when it is asked for is evaluated at once.

        Shows progress, of a total where the pairs have no length. Warns where a figure is of fewer
        videos than were evaluated.

        Raises:
            LoopyError: One of `OF_ALL`.
        """
        videos, seeded = list[VideoResult](), False
        for pair in tqdm(pairs, total=total, desc=model, unit="video"):
            videos.append(self.video(pair))
            seeded = seeded or bool(pair.seeds)
        fit = [video for video in videos if not video.problem]
        figures, real_figures = dict[str, SetFigure](), dict[str, SetFigure]()
        missing = dict[str, str]()
        for column in self.columns:
            name = column.name
            with self._noting(name, "all"):
                if figure := self.set_figure(column, fit, seed):
                    figures[name] = figure
            if figure := mean_figure([video.real for video in fit], name, seed):
                real_figures[name] = figure
            if name not in figures:
                missing[name] = f"not available: {self._reason(column, videos, seeded=seeded)}"
            elif gaps := self.gaps.get(name):
                video, reason = next(iter(gaps.items()))
                warnings.warn(
                    f"{name}: {len(gaps)} of {len(fit)} videos have no figure; for one, {video}: "
                    f"{reason}",
                    stacklevel=2,
                )
        return Results(
            model,
            test_set,
            seed,
            tuple(column.info for column in self.columns),
            tuple(videos),
            figures,
            real_figures,
            missing,
            dict(self.extractors.record),
        )

    def video(self, pair: Pair) -> VideoResult:
        """Evaluates one video, alone and against the real one.

        A video that cannot be read has a problem; a figure that fails is absent, and the reason is
        in `gaps`.

        Raises:
            LoopyError: One of `OF_ALL`.
        """
        shown = [relpath(p, self.out) if p and p.is_file() else "" for p in (pair.made, pair.real)]
        result = VideoResult(pair.name, video=shown[0], real_video=shown[1])
        if pair.problem:
            return replace(result, problem=pair.problem)
        try:
            made, real = self._features(pair, pair.made, MADE), None
            if pair.real is not None:
                real = self._features(pair, pair.real, REAL)
            others = [self._features(pair, p, f"seed{i}") for i, p in enumerate(pair.seeds, 1)]
        except OF_ALL:
            raise
        except LoopyError as error:
            return replace(result, problem=str(error))
        for column in self.columns:
            if self.lacking(column):
                continue
            with self._noting(column.name, pair.name):
                if (value := _figure(column, made, real, others)) is not None:
                    result.values[column.name] = value
            if real is not None and column.kind == "video":
                with self._noting(f"{column.name}, real", pair.name):
                    result.real[column.name] = _finite(column, real)
        strip = self._strip(pair, [made] if real is None else [made, real])
        return replace(result, curves=_curves_of(made, real), strip=strip)

    def set_figure(
        self, column: Column, videos: Sequence[VideoResult], seed: int
    ) -> SetFigure | None:
        """The figure of a set, of videos without a problem; None where it has none by its nature.

        Raises:
            MetricError: It cannot be computed.
        """
        if column.kind not in ("frames", "rows"):
            return mean_figure([video.values for video in videos], column.name, seed)
        if not videos or not all(video.real_video for video in videos) or self.lacking(column):
            return None
        distance = distance_of_frames if column.kind == "frames" else distance_of_videos
        return distance(self._rows(column, videos))

    def _rows(self, column: Column, videos: Sequence[VideoResult]) -> Iterator[tuple[Rows, Rows]]:
        """What a column needs of the real and the made video; those without it are noted."""
        for video in videos:
            with self._noting(column.name, video.name):
                real, made = (
                    cached_tensor(self.cache_path(what, video.name), column.needs[0])
                    for what in (REAL, MADE)
                )
                yield real, made

    def lacking(self, column: Column) -> str:
        """What a column needs and no extractor gives; empty if nothing."""
        missing = self.extractors.missing
        return next((missing[need] for need in column.needs if need in missing), "")

    def cache_path(self, what: str, name: str) -> Path:
        """The file of the features of a video, `MADE` or `REAL`."""
        root = self.real_out if what == REAL and self.real_out is not None else self.out
        return root / "features" / what / f"{name}.safetensors"

    @contextmanager
    def _noting(self, column: str, name: str) -> Iterator[None]:
        """Records why a video has no figure."""
        try:
            yield
        except MetricError as error:
            self.gaps.setdefault(column, {})[name] = str(error)

    def _features(self, pair: Pair, path: Path, what: str) -> VideoFeatures:
        video = VideoInput(path, pair.portrait)
        return cached_features(video, self.extractors, self.cache_path(what, pair.name))

    def _strip(self, pair: Pair, videos: Sequence[VideoFeatures]) -> str:
        path = existing_folder(self.out / "strips") / f"{pair.name}.jpg"
        frames = min(int(video.get("size")[0]) for video in videos)
        try:
            _write_strip(path, pair.made, pair.real, frames=frames)
        except MediaError as error:  # the figures stand without it
            warnings.warn(f"{pair.name} has no strip of frames: {error}", stacklevel=2)
            return ""
        return relpath(path, self.out)

    def _reason(self, column: Column, videos: Sequence[VideoResult], *, seeded: bool) -> str:
        """Why a column has no figure."""
        lacking = self.lacking(column)
        if column.kind == "seeds" and not seeded:
            needs = "needs videos of several seeds, by --seeds 2 or more"
            return f"{needs}; and {lacking}" if lacking else needs
        if lacking:
            return f"needs {lacking}"
        real = any(video.real_video for video in videos)
        if column.kind in ("apart", "frames", "rows") and not real:
            return "needs real videos"
        gaps = self.gaps.get(column.name, {}).values()
        reasons = [*gaps, *(video.problem for video in videos if video.problem)]
        return reasons[0] if reasons else "no video was judged"


def mean_figure(videos: Sequence[dict[str, float]], name: str, seed: int) -> SetFigure | None:
    """Mean of a column over the videos that have it, with its interval; None where none has."""
    values = [values[name] for values in videos if name in values]
    if not values:
        return None
    rows = torch.tensor(values, dtype=torch.float64)[:, None]
    figure = bootstrap(mean, rows, seed=seed, fewest=FEWEST_VIDEOS)
    return SetFigure(*figure, n=len(values))


def _figure(
    column: Column, made: VideoFeatures, real: VideoFeatures | None, others: list[VideoFeatures]
) -> float | None:
    """Of one video; None where a column has none by its nature."""
    if column.kind == "seeds" and others:
        return _finite(column, [made, *others])
    if column.kind == "apart" and real is not None:
        return abs(_finite(column, made) - _finite(column, real))
    return _finite(column, made) if column.kind == "video" else None


def _finite(column: Column, features: VideoFeatures | list[VideoFeatures]) -> float:
    value = cast(Callable[..., float], column.figure)(features)
    if not isfinite(value):
        raise MetricError(f"{column.name} is {value}")
    return value


def _mouth_curve(features: VideoFeatures) -> Tensor | None:
    """How open the mouth is in each frame: of toons as read, else lips over eyes' distance."""
    if "toon_tracks" in features.tensors:
        return features.tensors["toon_tracks"][:, OUTPUTS.index("open")]
    if "points" not in features.tensors:
        return None
    points = features.tensors["points"]
    between = (points[:, 36] - points[:, 45]).norm(dim=1)
    return (points[:, 62] - points[:, 66]).norm(dim=1) / between


def _curves_of(made: VideoFeatures, real: VideoFeatures | None) -> dict[str, list[float]]:
    """Mouth, colours against the first second, and likeness to the portrait, frame by frame."""
    curves = dict[str, list[float]]()
    for features, mark in ((made, ""), (real, ", real")):
        if features is None:
            continue
        if (mouth := _mouth_curve(features)) is not None:
            curves[f"mouth{mark}"] = mouth.tolist()
        if (colours := features.tensors.get("colours")) is not None:
            first = colours[: int(FPS)].mean(0)
            curves[f"colour drift{mark}"] = (colours - first).norm(dim=1).tolist()
        for rows, portrait in (("face", "portrait"), ("toon_face", "toon_portrait")):
            if rows in (known := features.tensors) and portrait in known:
                alike = torch.cosine_similarity(known[rows], known[portrait][None])
                curves[f"identity{mark}"] = alike.tolist()
    return curves


def _write_strip(path: Path, made: Path, real: Path | None, *, frames: int) -> None:
    """Writes a picture: frames of the real video in a row, those of the made one below.

    Raises:
        MediaError: A video ends before `frames`.
        OutputError: It cannot be written.
    """
    places = evenly_spread(frames, SHOWN).tolist()
    rows = [_small(read_frames(video, places)) for video in (real, made) if video is not None]
    width = min(row.shape[2] for row in rows)
    rows = [row[:, :, (over := (row.shape[2] - width) // 2) : over + width] for row in rows]
    with writing(path) as hidden:
        contact_sheet(torch.cat(rows), columns=len(places)).save(hidden)


def _small(frames: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "n 96 w 3"]:
    height, width = frames.shape[1:3]
    size = (HEIGHT_PX, max(1, round(width * HEIGHT_PX / height)))
    shown = functional.interpolate(
        frames.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True
    )
    return shown.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
