"""A made video and the real one to figures. What is seen is kept, so that nothing is seen twice."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from os.path import relpath
from pathlib import Path
from typing import cast

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
from loopy.evaluation.features.cache import looked_at
from loopy.evaluation.features.extract import Film, Look
from loopy.evaluation.features.networks import Equipment
from loopy.evaluation.table.columns import Column
from loopy.evaluation.table.results import VideoResult
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
        portrait: Whom it shall show; without one nobody can tell whether it does.
        seeds: What other seeds made of the same portrait and sound.
        problem: Why it cannot be judged.
    """

    name: str
    made: Path
    real: Path | None = None
    portrait: UInt8[Tensor, "h w 3"] | None = None
    seeds: tuple[Path, ...] = ()
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges videos, one after the other.

    Attributes:
        out: The folder of the results, which exists.
        equipment: Who looks.
        columns: Of the table.
        seen: The folder where it is kept what was seen in the real videos; None: `out` too.
        gaps: By column: the videos without a figure, with the reasons.
    """

    out: Path
    equipment: Equipment
    columns: Sequence[Column]
    seen: Path | None = None
    gaps: dict[str, dict[str, str]] = field(default_factory=dict)

    def video(self, pair: Pair) -> VideoResult:
        """Judges one video, alone and against the real one.

        A video that cannot be read has a problem; a figure that cannot be told is absent, and the
        reason is kept in `gaps`.

        Raises:
            OutputError: The folder cannot be written.
            ConfigurationError: Options exclude each other.
            DependencyError: A library is missing.
        """
        shown = [relpath(p, self.out) if p and p.is_file() else "" for p in (pair.made, pair.real)]
        result = VideoResult(pair.name, video=shown[0], real_video=shown[1])
        if pair.problem:
            return replace(result, problem=pair.problem)
        try:
            made, real = self._look(pair, pair.made, MADE), None
            if pair.real is not None:
                real = self._look(pair, pair.real, REAL)
            others = [self._look(pair, p, f"seed{i}") for i, p in enumerate(pair.seeds, 1)]
        except OF_ALL:
            raise
        except LoopyError as error:
            return replace(result, problem=str(error))
        for column in self.columns:
            if self.lacking(column):
                continue
            with self.gap(column.name, pair.name):
                if (value := _figure(column, made, real, others)) is not None:
                    result.values[column.name] = value
            if real is not None and column.kind == "video":
                with self.gap(f"{column.name}, real", pair.name):
                    result.real[column.name] = _known(column, real)
        strip = self._strip(pair, [made] if real is None else [made, real])
        return replace(result, curves=curves_of(made, real), strip=strip)

    def lacking(self, column: Column) -> str:
        """What a column needs and nobody gives; empty if nothing."""
        missing = self.equipment.missing
        return next((missing[need] for need in column.needs if need in missing), "")

    @contextmanager
    def gap(self, column: str, name: str) -> Iterator[None]:
        """Keeps why a video has no figure."""
        try:
            yield
        except MetricError as error:
            self.gaps.setdefault(column, {})[name] = str(error)

    def kept(self, what: str, name: str) -> Path:
        """Where it is kept what was seen in a video."""
        root = self.seen if what == REAL and self.seen is not None else self.out
        return root / "looks" / what / f"{name}.safetensors"

    def _look(self, pair: Pair, path: Path, what: str) -> Look:
        return looked_at(Film(path, pair.portrait), self.equipment, self.kept(what, pair.name))

    def _strip(self, pair: Pair, looks: Sequence[Look]) -> str:
        path = existing_folder(self.out / "strips") / f"{pair.name}.jpg"
        frames = min(int(look.get("size")[0]) for look in looks)
        try:
            write_strip(path, pair.made, pair.real, frames=frames)
        except MediaError as error:  # the figures stand without it
            warnings.warn(f"{pair.name} has no strip of frames: {error}", stacklevel=2)
            return ""
        return relpath(path, self.out)


def _figure(column: Column, made: Look, real: Look | None, others: list[Look]) -> float | None:
    """Of one video; None where a column has none by its nature.

    Raises:
        MetricError: It cannot be told.
    """
    if column.kind == "seeds" and others:
        return _known(column, [made, *others])
    if column.kind == "apart" and real is not None:
        return abs(_known(column, made) - _known(column, real))
    return _known(column, made) if column.kind == "video" else None


def _known(column: Column, looks: Look | list[Look]) -> float:
    value = cast(Callable[..., float], column.figure)(looks)
    if not isfinite(value):
        raise MetricError(f"{column.name} is {value}")
    return value
