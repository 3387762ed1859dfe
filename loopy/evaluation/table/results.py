"""The results of an evaluation in one file, results.json: tables, pages and comparisons read it."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from loopy.errors import MediaError
from loopy.typed_values import read_record, write_record

Better = Literal["higher", "lower", "truth", ""]
"""Which way a column is better; "truth": nearer to the figure of the real videos."""

FILE, VERSION = "results.json", 1


@dataclass(frozen=True)
class ColumnInfo:
    """A column of the table: which way it is better, its unit, "" where there is none.

    `about` has backbone, window and licence in words.
    """

    name: str
    better: Better = ""
    unit: str = ""
    about: str = ""


@dataclass(frozen=True)
class VideoResult:
    """The figures of one video.

    Attributes:
        name: Of the video in its test set.
        values: Column to figure; a column that has none for this video is absent.
        real: The same of the real video.
        curves: A figure for each frame, for example "mouth" and "mouth, real"; NaN where none.
        video: The file, relative to the folder of the results; "" for none.
        real_video: The real one.
        strip: A picture of frames of both, likewise.
        problem: Why it has no figures; "" where it has.
    """

    name: str
    values: dict[str, float] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    video: str = ""
    real_video: str = ""
    strip: str = ""
    problem: str = ""


@dataclass(frozen=True)
class SetFigure:
    """One figure of a whole set of `n` videos, with its 95 % interval; NaN where there is none.

    `note` says on what the figure rests, if there is something to say.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    note: str = ""


@dataclass(frozen=True)
class Results:
    """Figures of a test set, with those of each video.

    Attributes:
        model: What made the videos.
        test_set: Which test set.
        seed: Of the draw, of the model's noise and of the intervals.
        columns: Every column of the table in its order, the missing ones too.
        videos: The videos in the order of the set.
        figures: Column to figure.
        real_figures: The same of the real videos alone.
        missing: Column to "not available: needs ..."; it has no figure then.
        judges: Hashes of the networks that evaluated, and versions of code.
    """

    model: str
    test_set: str
    seed: int
    columns: tuple[ColumnInfo, ...]
    videos: tuple[VideoResult, ...]
    figures: dict[str, SetFigure]
    real_figures: dict[str, SetFigure] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    judges: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes results.json, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        write_record(folder / FILE, self, version=VERSION)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The results in a folder.

        Raises:
            MediaError: None are there, or they are damaged or of another version.
        """
        path = folder / FILE
        if not path.is_file():
            raise MediaError(f"{folder} holds no {FILE}; give the --out of a loopy evaluate")
        try:
            found = read_record(cls, path, version=VERSION)
        except (OSError, ValueError) as error:
            raise MediaError(f"{path} cannot be read ({error}); judge the videos again") from error
        for name, group in (("video", found.videos), ("column", found.columns)):
            if twice := [n for n, times in Counter(e.name for e in group).items() if times > 1]:
                raise MediaError(f"{path} has the {name} {twice[0]!r} twice; judge again")
        return found
