"""Which videos of a test set are evaluated: drawn by a seed once, written to draw.json, read back.

The order of all candidates is a function of the seed. They are checked in that order; one that
cannot be used is written down with the reason, and the next one takes its place. Where none is
left, the set is smaller, and the N of each figure says so.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from loopy.data.media.finished import content_hash
from loopy.data.media.portrait import read_portrait
from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.sets.drawn import FILE, Draw, DrawOptions, Item
from loopy.evaluation.sets.layouts import PaperSet, candidates, fit_sound, fit_video
from loopy.randomness import generator
from loopy.timing import FPS

Files = TypeVar("Files", tuple[str], tuple[str, str])


def open_draw(kind: PaperSet, folder: Path, out: Path, *, seed: int, options: DrawOptions) -> Draw:
    """The draw in ``out``; where there is none yet, it is drawn and written there.

    Args:
        kind: Which test set.
        folder: Where its files are.
        out: A folder that exists.
        seed: Of the draw.
        options: How.

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

    def chosen(what: str, fit: Callable[[Path], Any]) -> dict[str, Any]:
        purpose = (kind.name,) if what == "videos" else (kind.name, what)
        order = torch.randperm(
            len(files[what]), generator=generator(seed, "test set", *purpose)
        ).tolist()
        names = (files[what][place] for place in order)
        return _first_fit(names, folder, options.items or kind.items, fit, left_out)

    longest_s = options.longest_s or kind.longest_s
    if kind.crossed:
        portraits = chosen("portraits", lambda path: read_portrait(path, size_px=16))
        sounds = chosen("sounds", lambda path: fit_sound(path, shortest_s=options.shortest_s))
        items = _crossed(files, folder, sorted(portraits), sounds, longest_s, seed)
    else:
        least = {"portrait_frame": options.portrait_frame, "shortest_s": options.shortest_s}
        videos = chosen("videos", lambda path: fit_video(path, **least))
        names, items = _names(files["videos"]), []
        for file, length in sorted(videos.items()):
            first, frames = _span(length, longest_s, seed, file)
            place = min(first + options.portrait_frame, length - 1)
            digest = content_hash(folder / file, "video")
            hashes = digest, digest
            items.append(Item(names[file], file, file, first, frames, place, hashes, True))
    if not items:
        name, reason = next(iter(left_out.items()))
        raise MediaError(
            f"{folder}: none of {len(left_out)} files can be judged; for one, {name}: {reason}"
        )
    return Draw(kind.name, seed, options, _stamp(folder, files), tuple(items), left_out)


def _crossed(
    files: dict[str, list[str]],
    folder: Path,
    portraits: list[str],
    sounds: dict[str, int],
    longest_s: float | None,
    seed: int,
) -> list[Item]:
    """Each portrait with each sound."""
    names = _names(files["portraits"]) | _names(files["sounds"])
    short = {file: name.partition("__")[2] for file, name in names.items()}
    digests = {name: content_hash(folder / name, "file") for name in (*portraits, *sounds)}
    pairs = [(portrait, sound) for portrait in portraits for sound in sorted(sounds)]
    items = []
    named = {pair: "--".join(short[file] for file in pair) for pair in pairs}
    for (portrait, sound), name in _unique(named).items():
        first, frames = _span(sounds[sound], longest_s, seed, sound)
        hashes = digests[portrait], digests[sound]
        items.append(Item(name, portrait, sound, first, frames, 0, hashes, False))
    return items


def _first_fit(
    names: Iterable[str],
    folder: Path,
    wanted: int | None,
    fit: Callable[[Path], Any],
    left_out: dict[str, str],
) -> dict[str, Any]:
    """The first files that pass a test, with what it gave; those before that do not are noted."""
    chosen = dict[str, Any]()
    for name in names:
        if wanted is not None and len(chosen) == wanted:
            break
        try:
            chosen[name] = fit(folder / name)
        except MediaError as error:
            left_out[name] = str(error)
    return chosen


def _span(length: int, longest_s: float | None, seed: int, name: str) -> tuple[int, int]:
    """First frame and number of frames: a place of its own for each file."""
    frames = length if longest_s is None else min(length, round(longest_s * FPS))
    places = torch.randint(length - frames + 1, (), generator=generator(seed, "span", name))
    return int(places), frames


def _names(files: list[str]) -> dict[str, str]:
    """Names without folders; the suffix stays only where two files differ in nothing else."""
    bare = {file: file.rpartition(".")[0] for file in files}
    counts = Counter(bare.values())
    flat = {
        (file,): (file if counts[name] > 1 else name).replace("/", "__")
        for file, name in bare.items()
    }
    return {file: name for (file,), name in _unique(flat).items()}


def _unique(names: dict[Files, str]) -> dict[Files, str]:
    """The same, with a hash of the paths after each of several equal names."""
    counts = Counter(names.values())
    return {
        files: f"{name}-{_hash(files)[:8]}" if counts[name] > 1 else name
        for files, name in names.items()
    }


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _stamp(folder: Path, files: dict[str, list[str]]) -> str:
    """A hash of names and sizes of all candidates."""
    names = [name for group in files.values() for name in group]
    return _hash([*(f"{name} {(folder / name).stat().st_size}" for name in names), ""])


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
