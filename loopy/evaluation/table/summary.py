"""Judged videos to the figures of their set, each with N and interval, or with what is missing."""

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch

from loopy.errors import MetricError
from loopy.evaluation.features.cache import kept_tensor
from loopy.evaluation.table.columns import Column
from loopy.evaluation.table.evaluate import MADE, REAL, Judge, Pair
from loopy.evaluation.table.frechet import Rows, distance_of_frames, distance_of_videos
from loopy.evaluation.table.results import Results, SetFigure, VideoResult
from loopy.evaluation.table.statistics import FEWEST_VIDEOS, bootstrap, mean

NOT = "not available: "
NEEDS_REAL = "needs real videos"
NEEDS_SEEDS = "needs videos of several seeds, by --seeds 2 or more"


def judged(judge: Judge, pairs: Iterable[Pair], *, model: str, test_set: str, seed: int) -> Results:
    """Judges a set of videos.

    Warns where a figure is of fewer videos than were judged.

    Args:
        judge: Who judges.
        pairs: The videos; one that is made when it is asked for is judged at once.
        model: Whose they are.
        test_set: Which set.
        seed: Of the intervals.

    Raises:
        OutputError: The folder cannot be written.
    """
    results, seeded = [], False
    for pair in pairs:
        results.append(judge.video(pair))
        seeded = seeded or bool(pair.seeds)
    videos = tuple(results)
    fit = [video for video in videos if not video.problem]
    figures, real_figures, missing = dict[str, SetFigure](), dict[str, SetFigure](), {}
    for column in judge.columns:
        name = column.name
        if not judge.lacking(column) and fit:
            with judge.gap(name, "all"):
                if (figure := set_figure(judge, column, fit, seed)) is not None:
                    figures[name] = figure
            if (figure := mean_figure([video.real for video in fit], name, seed)) is not None:
                real_figures[name] = figure
        if name not in figures:
            missing[name] = NOT + _reason(judge, column, videos, seeded=seeded)
        elif name in judge.gaps:
            _warn(name, judge.gaps[name], len(fit))
    infos = tuple(column.info for column in judge.columns)
    who = judge.equipment.record
    return Results(model, test_set, seed, infos, videos, figures, real_figures, missing, who)


def set_figure(
    judge: Judge, column: Column, videos: Sequence[VideoResult], seed: int
) -> SetFigure | None:
    """The figure of a set; None where it has none by its nature.

    Args:
        judge: Who has judged the videos.
        column: Which figure.
        videos: Of the set, without those that have a problem.
        seed: Of the interval.

    Raises:
        MetricError: It cannot be told.
    """
    if column.kind not in ("frames", "rows"):
        return mean_figure([video.values for video in videos], column.name, seed)
    if not all(video.real_video for video in videos):
        return None
    (need,) = column.needs
    usable = []
    for video in videos:
        rows = partial(_rows, judge.kept(REAL, video.name), judge.kept(MADE, video.name), need)
        with judge.gap(column.name, video.name):
            rows()
            usable.append(rows)
    if len(usable) < 2:
        raise MetricError(f"{len(usable)} video has no spread; give 2 or more")
    if column.kind == "frames":
        return distance_of_frames(usable)
    real, made = zip(*(rows() for rows in usable), strict=True)
    return distance_of_videos(torch.stack(real), torch.stack(made))


def _rows(real: Path, made: Path, name: str) -> tuple[Rows, Rows]:
    return kept_tensor(real, name), kept_tensor(made, name)


def mean_figure(videos: Sequence[dict[str, float]], name: str, seed: int) -> SetFigure | None:
    """Mean of a column over the videos that have it, with its interval; None where none has.

    Args:
        videos: Column to figure, for each video.
        name: Of the column.
        seed: Of the draws.
    """
    values = [values[name] for values in videos if name in values]
    if not values:
        return None
    rows = torch.tensor(values, dtype=torch.float64)[:, None]
    figure = bootstrap(mean, rows, seed=seed, fewest=FEWEST_VIDEOS)
    return SetFigure(*figure, n=len(values))


def _reason(judge: Judge, column: Column, videos: Sequence[VideoResult], *, seeded: bool) -> str:
    """Why a column has no figure."""
    if column.kind == "seeds" and not seeded:
        lacking = judge.lacking(column)
        return f"{NEEDS_SEEDS}; and {lacking}" if lacking else NEEDS_SEEDS
    if lacking := judge.lacking(column):
        return f"needs {lacking}"
    real = any(video.real_video for video in videos)
    if column.kind in ("apart", "frames", "rows") and not real:
        return NEEDS_REAL
    told = [*judge.gaps.get(column.name, {}).values(), *(v.problem for v in videos if v.problem)]
    return told[0] if told else "no video was judged"


def _warn(column: str, gaps: dict[str, str], videos: int) -> None:
    name, reason = next(iter(gaps.items()))
    warnings.warn(
        f"{column}: {len(gaps)} of {videos} videos have no figure; for one, {name}: {reason}",
        stacklevel=3,
    )
