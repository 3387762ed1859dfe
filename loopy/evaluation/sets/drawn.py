"""The draw of a test set, as draw.json holds it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.sets.layouts import SHORTEST_S
from loopy.timing import FPS
from loopy.typed_values import read_record, write_record

FILE, VERSION = "draw.json", 1


@dataclass(frozen=True)
class DrawOptions:
    """How a test set is drawn.

    Args:
        items: How many videos; of an open set, how many portraits and how many sounds. None: as
            many as the paper.
        longest_s: Of a longer video or sound, a span of this length; None: the set's own rule.
        shortest_s: What is shorter is left out.
        portrait_frame: Frame of the span that is the portrait, 25 a second.
    """

    items: int | None = None
    longest_s: float | None = None
    shortest_s: float = SHORTEST_S
    portrait_frame: int = 0

    def __post_init__(self) -> None:
        """Refuse what draws nothing."""
        least = (self.items or 1, self.shortest_s * FPS, (self.longest_s or 1) * FPS)
        if min(least) < 1 or self.portrait_frame < 0:
            raise ConfigurationError(
                f"{self}: give at least 1 item, 0.04 s, and a portrait frame of 0 or more"
            )


@dataclass(frozen=True)
class Item:
    """A video to make.

    Attributes:
        name: Of its files; no two of a draw share one.
        picture: Video or portrait, relative to the folder of the set.
        sound: Video or sound file, likewise.
        first: First frame of the span, on the 25 fps grid of both.
        frames: Length of the span.
        portrait_frame: Frame of the video that is the portrait, on its grid.
        hashes: SHA-256 of both files.
        filmed: Whether the span of ``picture`` is the real video.
    """

    name: str
    picture: str
    sound: str
    first: int
    frames: int
    portrait_frame: int
    hashes: tuple[str, str]
    filmed: bool


@dataclass(frozen=True)
class Draw:
    """A test set as it was drawn.

    Attributes:
        test_set: Its name.
        seed: Of the draw.
        options: How it was drawn.
        folder: Hash of names and sizes of all candidates.
        items: What was drawn.
        left_out: Candidates that cannot be used, with the reasons.
    """

    test_set: str
    seed: int
    options: DrawOptions
    folder: str
    items: tuple[Item, ...]
    left_out: dict[str, str]

    def write(self, path: Path) -> None:
        """Writes it down, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        write_record(path, self, version=VERSION)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A draw that was written down.

        Raises:
            MediaError: The file is damaged or of another version.
        """
        try:
            drawn = read_record(cls, path, version=VERSION)
            for item in drawn.items:
                _check_item(item)
        except (OSError, ValueError) as why:
            raise MediaError(f"{path} cannot be read ({why}); delete it to draw again") from why
        names = [item.name for item in drawn.items]
        if len(set(names)) < len(names):
            raise MediaError(f"{path} has two items of one name; delete it to draw again")
        return drawn


def _check_item(item: Item) -> None:
    """Makes sure that no file outside the folders of the set and of the results is named."""
    odd = Path(item.name).name != item.name or item.name in ("", "..")
    if odd or "\0" in item.name:
        raise ValueError(f"{item.name!r} is no name of a file")
    for file in (item.picture, item.sound):
        if Path(file).is_absolute() or ".." in Path(file).parts or "\0" in file or not file:
            raise ValueError(f"{file!r} is no file inside the folder of the set")
    if item.first < 0 or item.frames < 1 or item.portrait_frame < 0:
        raise ValueError(f"{item.name} has {item.frames} frames from {item.first}")
