"""Which videos of a test set are evaluated: drawn by a seed once, written to draw.json, read back.

The order of all candidates is a function of the seed. They are checked in that order; one that
cannot be used is written down with the reason, and the next one takes its place. Where none is
left, the set is smaller, and the N of each figure says so.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from loopy.data.media.finished import content_hash
from loopy.data.media.portrait import read_portrait
from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.sets.layouts import SHORTEST_S, PaperSet, candidates, fit_sound, fit_video
from loopy.randomness import generator
from loopy.timing import FPS
from loopy.typed_values import read_record, write_record

FILE, VERSION = "draw.json", 1
Files = TypeVar("Files", str, tuple[str, str])


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

    `folder` is a hash of names and sizes of all candidates; `left_out` are those that cannot be
    used, with the reasons.
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
        if len({item.name for item in drawn.items}) < len(drawn.items):
            raise MediaError(f"{path} has two items of one name; delete it to draw again")
        return drawn


def open_draw(kind: PaperSet, folder: Path, out: Path, *, seed: int, options: DrawOptions) -> Draw:
    """The draw in ``out``, a folder that exists; where there is none yet, it is drawn and written.

    Raises:
        MediaError: No usable file, or not the files that the draw was made from.
        ConfigurationError: The draw in ``out`` is another one, or ``out`` lies in ``folder``.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"{out} lies in {folder}, so that videos made would be drawn from; give another --out"
        )
    path = out / FILE
    if not path.exists():
        fresh = draw_set(kind, folder, seed=seed, options=options)
        fresh.write(path)
        return fresh
    before = Draw.read(path)
    for what, value, there in (
        ("test set", kind.name, before.test_set),
        ("seed", seed, before.seed),
        ("options", options, before.options),
    ):
        if there != value:
            raise ConfigurationError(
                f"{path}: {what} is {there}, not {value}; give another --out, or the same"
            )
    _check_files(before, kind, folder, path)
    return before


def draw_set(kind: PaperSet, folder: Path, *, seed: int, options: DrawOptions) -> Draw:
    """Draws a test set.

    Raises:
        MediaError: Nothing in the folder has the layout, or nothing can be used.
    """
    files, left_out = candidates(kind, folder), dict[str, str]()
    longest_s = options.longest_s or kind.longest_s

    def chosen(what: str, fit: Callable[[Path], Any]) -> dict[str, Any]:
        """The first files that pass a test, sorted, with what it gave."""
        purpose = (kind.name,) if what == "videos" else (kind.name, what)
        dice, found = generator(seed, "test set", *purpose), dict[str, Any]()
        for place in torch.randperm(len(files[what]), generator=dice).tolist():
            if len(found) == (options.items or kind.items):
                break
            name = files[what][place]
            try:
                found[name] = fit(folder / name)
            except MediaError as error:
                left_out[name] = str(error)
        return dict(sorted(found.items()))

    def span(length: int, file: str) -> tuple[int, int]:
        """First frame and number of frames: a place of its own for each file."""
        frames = length if longest_s is None else min(length, round(longest_s * FPS))
        places = torch.randint(length - frames + 1, (), generator=generator(seed, "span", file))
        return int(places), frames

    items = []
    if kind.crossed:
        portraits = chosen("portraits", lambda path: read_portrait(path, size_px=16))
        sounds = chosen("sounds", lambda path: fit_sound(path, shortest_s=options.shortest_s))
        digests = {name: content_hash(folder / name, "file") for name in (*portraits, *sounds)}
        pairs = [(portrait, sound) for portrait in portraits for sound in sounds]
        named = {pair: "--".join(_flat(file).partition("__")[2] for file in pair) for pair in pairs}
        for (portrait, sound), name in _unique(named).items():
            hashes = digests[portrait], digests[sound]
            at = span(sounds[sound], sound)
            items.append(Item(name, portrait, sound, *at, 0, hashes, False))
    else:
        least = {"portrait_frame": options.portrait_frame, "shortest_s": options.shortest_s}
        videos = chosen("videos", lambda path: fit_video(path, **least))
        names = _unique({file: _flat(file) for file in files["videos"]})
        for file, length in videos.items():
            first, frames = span(length, file)
            place = min(first + options.portrait_frame, length - 1)
            digest = content_hash(folder / file, "video")
            items.append(
                Item(names[file], file, file, first, frames, place, (digest, digest), True)
            )
    if not items:
        name, reason = next(iter(left_out.items()))
        raise MediaError(
            f"{folder}: none of {len(left_out)} files can be judged; for one, {name}: {reason}"
        )
    return Draw(kind.name, seed, options, _stamp(folder, files), tuple(items), left_out)


def _flat(file: str) -> str:
    """A path without its suffix as a name."""
    return file.rpartition(".")[0].replace("/", "__")


def _unique(names: dict[Files, str]) -> dict[Files, str]:
    """The same, with a hash of the paths after each of several equal names."""
    counts = Counter(names.values())
    return {
        files: f"{name}-{_hash([files] if isinstance(files, str) else files)[:8]}"
        if counts[name] > 1
        else name
        for files, name in names.items()
    }


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _stamp(folder: Path, files: dict[str, list[str]]) -> str:
    """A hash of names and sizes of all candidates."""
    names = [name for group in files.values() for name in group]
    return _hash([*(f"{name} {(folder / name).stat().st_size}" for name in names), ""])


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


def _check_files(before: Draw, kind: PaperSet, folder: Path, path: Path) -> None:
    """Makes sure that the files are those that were drawn from."""
    known = {
        file: digest
        for item in before.items
        for file, digest in zip((item.picture, item.sound), item.hashes, strict=True)
    }
    changed = [
        file
        for file, digest in known.items()
        if not (folder / file).is_file() or content_hash(folder / file, "file") != digest
    ]
    cure = f"put them back, or delete {path} and what was made from it, to draw again"
    if changed:
        raise MediaError(
            f"{folder}: {len(changed)} drawn files are missing or changed, for one {changed[0]}; "
            f"{cure}"
        )
    if _stamp(folder, candidates(kind, folder)) != before.folder:
        raise MediaError(f"{folder} has other files than when {path} was drawn; {cure}")
