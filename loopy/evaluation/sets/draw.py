"""Which videos of a test set are judged: drawn by a seed once, written down, and read back.

The order of all candidates is a function of the seed. They are looked at in that order; one that
cannot be judged is written down with the reason, and the next one takes its place. Where none is
left, the set is smaller, and the N beside each figure says so.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from loopy.data.media.finished import content_hash
from loopy.errors import ConfigurationError, MediaError
from loopy.evaluation.sets.drawn import FILE, Draw, DrawOptions, Item
from loopy.evaluation.sets.layouts import PaperSet, candidates, fit_portrait, fit_sound, fit_video
from loopy.randomness import generator
from loopy.timing import FPS


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
        fresh = draw(kind, folder, seed=seed, options=options)
        fresh.write(path)
        return fresh
    before = Draw.read(path)
    asked = {"test set": kind.name, "seed": seed, "options": options}
    there = {"test set": before.test_set, "seed": before.seed, "options": before.options}
    for what, value in asked.items():
        if there[what] != value:
            raise ConfigurationError(
                f"{path}: {what} is {there[what]}, not {value}; give another --out, or the same"
            )
    _check_files(before, kind, folder, path)
    return before


def draw(kind: PaperSet, folder: Path, *, seed: int, options: DrawOptions) -> Draw:
    """Draws a test set.

    Raises:
        MediaError: Nothing in the folder has the layout, or nothing can be judged.
    """
    files = candidates(kind, folder)
    items, left_out = (_crossed if kind.crossed else _filmed)(kind, folder, files, seed, options)
    if not items:
        name, reason = next(iter(left_out.items()))
        raise MediaError(
            f"{folder}: none of {len(left_out)} files can be judged; for one, {name}: {reason}"
        )
    return Draw(kind.name, seed, options, _stamp(folder, files), tuple(items), left_out)


def _filmed(
    kind: PaperSet, folder: Path, files: dict[str, list[str]], seed: int, options: DrawOptions
) -> tuple[list[Item], dict[str, str]]:
    least = {"portrait_frame": options.portrait_frame, "shortest_s": options.shortest_s}
    chosen, left_out = _first_fit(
        _shuffled(files["videos"], seed, kind.name),
        options.items or kind.items,
        lambda name: fit_video(folder / name, **least),
    )
    names, items = _names(files["videos"]), []
    for file, length in sorted(chosen.items()):
        first, frames = _span(length, options.longest_s or kind.longest_s, seed, file)
        digest = content_hash(folder / file, "video")
        place = min(first + options.portrait_frame, length - 1)
        items.append(Item(names[file], file, file, first, frames, place, (digest, digest), True))
    return items, left_out


def _crossed(
    kind: PaperSet, folder: Path, files: dict[str, list[str]], seed: int, options: DrawOptions
) -> tuple[list[Item], dict[str, str]]:
    wanted = options.items or kind.items
    portraits, unseen = _first_fit(
        _shuffled(files["portraits"], seed, kind.name, "portraits"),
        wanted,
        lambda name: fit_portrait(folder / name),
    )
    sounds, unheard = _first_fit(
        _shuffled(files["sounds"], seed, kind.name, "sounds"),
        wanted,
        lambda name: fit_sound(folder / name, shortest_s=options.shortest_s),
    )
    names = _names(files["portraits"]) | _names(files["sounds"])
    digests = {name: content_hash(folder / name, "file") for name in (*portraits, *sounds)}
    both = _told_apart(
        {
            (portrait, sound): "--".join(
                names[each].partition("__")[2] for each in (portrait, sound)
            )
            for portrait in sorted(portraits)
            for sound in sorted(sounds)
        }
    )
    items = []
    for (portrait, sound), name in both.items():
        first, frames = _span(sounds[sound], options.longest_s or kind.longest_s, seed, sound)
        hashes = digests[portrait], digests[sound]
        items.append(Item(name, portrait, sound, first, frames, 0, hashes, False))
    return items, unseen | unheard


def _first_fit(
    names: Iterable[str], wanted: int | None, fit: Callable[[str], Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The first ones that pass, with what the test gave; and those before them that did not."""
    chosen, left_out = dict[str, Any](), dict[str, str]()
    for name in names:
        if wanted is not None and len(chosen) == wanted:
            break
        try:
            chosen[name] = fit(name)
        except MediaError as error:
            left_out[name] = str(error)
    return chosen, left_out


def _shuffled(names: list[str], seed: int, *purpose: str) -> list[str]:
    order = torch.randperm(len(names), generator=generator(seed, "test set", *purpose))
    return [names[place] for place in order.tolist()]


def _span(length: int, longest_s: float | None, seed: int, name: str) -> tuple[int, int]:
    """First frame and number of frames: a place of its own for each file."""
    frames = length if longest_s is None else min(length, round(longest_s * FPS))
    dice = generator(seed, "span", name)
    return int(torch.randint(length - frames + 1, (), generator=dice)), frames


def _names(files: list[str]) -> dict[str, str]:
    """Names without folders; the suffix stays only where two files differ in nothing else."""
    bare = [file.rpartition(".")[0] for file in files]
    counts = Counter(bare)
    flat = {
        (file,): (file if counts[name] > 1 else name).replace("/", "__")
        for file, name in zip(files, bare, strict=True)
    }
    return {file: name for (file,), name in _told_apart(flat).items()}


def _told_apart(names: dict[tuple[str, ...], str]) -> dict[tuple[str, ...], str]:
    """Where names are equal, a hash of the paths behind each."""
    counts = Counter(names.values())
    return {
        files: f"{name}-{_short_hash(files)}" if counts[name] > 1 else name
        for files, name in names.items()
    }


def _short_hash(files: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(files).encode()).hexdigest()[:8]


def _stamp(folder: Path, files: dict[str, list[str]]) -> str:
    digest = hashlib.sha256()
    for name in (name for group in files.values() for name in group):
        digest.update(f"{name} {(folder / name).stat().st_size}\n".encode())
    return digest.hexdigest()


def _check_files(before: Draw, kind: PaperSet, folder: Path, path: Path) -> None:
    """Make sure that the files are those that were drawn from.

    Raises:
        MediaError: They are not.
    """
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
    cure = f"put them back, or delete {path} and what lies beside it, to draw again"
    if changed:
        raise MediaError(
            f"{folder}: {len(changed)} drawn files are missing or changed, for one {changed[0]}; "
            f"{cure}"
        )
    if _stamp(folder, candidates(kind, folder)) != before.folder:
        raise MediaError(f"{folder} has other files than when {path} was drawn; {cure}")
