"""A drawn test set through a model: videos made and real, one after the other, ready to be judged.

::

    out/
      draw.json               which videos, see `loopy.evaluation.sets.drawn`
      videos/NAME.mp4         what the model made; NAME.mp4.json says from what
      real/NAME.mp4           the real one, treated alike
      seeds/1/NAME.mp4        what other noise made
      bounds/still/...        the same for what bounds the model, see `BOUNDS`
      features/made/NAME.safetensors    its features, cached
      strips/NAME.jpg         frames to look at
      results.json            all figures
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from loopy.drafts import existing_folder
from loopy.errors import LoopyError
from loopy.evaluation.sets.drawn import Item
from loopy.evaluation.sets.generate import Maker
from loopy.evaluation.table.evaluate import OF_ALL, Pair

BOUNDS = {
    "compressed": "ceiling: the real videos, written once more",
    "still": "floor: the portrait, which does not move",
    "other sound": "floor: the real pictures with the sound of the next video",
}


def made_pairs(maker: Maker, items: Sequence[Item], out: Path, *, seeds: int = 1) -> Iterator[Pair]:
    """Makes each video when it is asked for; a video that cannot be made has a problem.

    Args:
        maker: Makes them.
        items: Which.
        out: Where they go.
        seeds: How many videos of each, with other noise; the first one is judged.

    Raises:
        OutputError: The folder cannot be written.
        ConfigurationError: Options exclude each other.
        DependencyError: A library is missing.
    """
    others = [replace(maker, seed=maker.seed + i) for i in range(1, seeds)]
    for item in items:
        places = [_place(out / "seeds" / str(i), item) for i in range(1, seeds)]

        def make(path: Path, item: Item = item, places: list[Path] = places) -> None:
            maker.make(item, path)
            for other, place in zip(others, places, strict=True):
                other.make(item, place)

        pair = _pair(maker, item, out, out, make)
        yield pair if pair.problem else replace(pair, seeds=tuple(places))


def bound_pairs(maker: Maker, items: Sequence[Item], out: Path, bound: str) -> Iterator[Pair]:
    """The videos of something that bounds the model, in ``out/bounds/NAME``.

    Args:
        maker: Of the model.
        items: Which; those that were filmed are bounded.
        out: Where the model's videos are.
        bound: Of `BOUNDS`.

    Raises:
        OutputError: The folder cannot be written.
        ConfigurationError: Options exclude each other.
        DependencyError: A library is missing.
    """
    filmed = [item for item in items if item.filmed]
    for place, item in enumerate(filmed):
        if bound == "other sound" and len(filmed) < 2:
            path = _place(out / "bounds" / bound / "videos", item)
            yield Pair(item.name, path, problem=f"{bound} needs two videos, {item.name} is alone")
            continue
        other = filmed[(place + 1) % len(filmed)]
        ways: dict[str, Callable[[Path], object]] = {
            "compressed": lambda path, item=item: maker.again(item, out / "real", path),
            "still": lambda path, item=item: maker.still(item, path),
            "other sound": lambda path, item=item, other=other: maker.mismatched(item, other, path),
        }
        yield _pair(maker, item, out / "bounds" / bound, out, ways[bound])


def _pair(
    maker: Maker, item: Item, out: Path, real_out: Path, make: Callable[[Path], object]
) -> Pair:
    made, real = _place(out / "videos", item), None
    try:
        if item.filmed:
            real = _place(real_out / "real", item)
            maker.film(item, real)
        make(made)
        return Pair(item.name, made, real, maker.shown_portrait(item))
    except OF_ALL:
        raise
    except LoopyError as error:
        return Pair(item.name, made, real, problem=str(error))


def _place(folder: Path, item: Item) -> Path:
    return existing_folder(folder) / f"{item.name}.mp4"
