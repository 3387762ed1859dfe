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

from loopy.drafts import existing_folder
from loopy.errors import (
    ConfigurationError,
    DependencyError,
    LoopyError,
    MediaError,
    MetricError,
    OutputError,
)
from loopy.evaluation.features.cache import cached_features, cached_tensor
from loopy.evaluation.features.extract import ExtractorSet, VideoFeatures, VideoInput
from loopy.evaluation.table.columns import Column
from loopy.evaluation.table.frechet import Rows, distance_of_frames, distance_of_videos
from loopy.evaluation.table.results import Results, SetFigure, VideoResult
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, bootstrap, mean
from loopy.evaluation.table.strips import curves_of, write_strip

MADE, REAL = "made", "real"

OF_ALL = (OutputError, ConfigurationError, DependencyError)
"""Errors that are not of one video: the next one would meet them too."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A made video and the real one.

    Attributes:
        name: Of the video.
        made: The file.
        real: The real one; None where there is none.
        portrait: The picture that it was made from; without one its identity has no figure.
        seeds: Videos of other seeds, of the same portrait and sound.
        problem: Why it cannot be evaluated.
    """

    name: str
    made: Path
    real: Path | None = None
    portrait: UInt8[Tensor, "h w 3"] | None = None
    seeds: tuple[Path, ...] = ()
    problem: str = ""


@dataclass(frozen=True, eq=False)
class VideoEvaluator:
    """Evaluates videos, one after the other. Features are cached.

    Attributes:
        out: The folder of the results, which exists.
        extractors: Of the features.
        columns: Of the table.
        real_out: The folder for features of the real videos; None: `out` too.
        gaps: By column: the videos without a figure, with the reasons.
    """

    out: Path
    extractors: ExtractorSet
    columns: Sequence[Column]
    real_out: Path | None = None
    gaps: dict[str, dict[str, str]] = field(default_factory=dict)

    def results(self, pairs: Iterable[Pair], *, model: str, test_set: str, seed: int) -> Results:
        """Evaluates a set of videos.

        Warns where a figure is of fewer videos than were evaluated.

        Args:
            pairs: The videos; one that is made when it is asked for is evaluated at once.
            model: What made them.
            test_set: Which set.
            seed: Of the intervals.

        Raises:
            LoopyError: One of `OF_ALL`.
        """
        videos, seeded = list[VideoResult](), False
        for pair in pairs:
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
        return replace(result, curves=curves_of(made, real), strip=strip)

    def set_figure(
        self, column: Column, videos: Sequence[VideoResult], seed: int
    ) -> SetFigure | None:
        """The figure of a set; None where it has none by its nature.

        Args:
            column: Which figure.
            videos: Of the set, evaluated by this evaluator, without those that have a problem.
            seed: Of the interval.

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
            write_strip(path, pair.made, pair.real, frames=frames)
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
