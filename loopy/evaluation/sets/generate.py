"""The videos to judge: of a draw, made each once, with ceilings and floors; or given in a folder.

Those of a draw are treated alike: 25 frames a second, the largest centred square, the model's size,
the same codec and quality, the same sound.

::

    out/
      draw.json               which videos, see `loopy.evaluation.sets.draw`
      videos/NAME.mp4         what the model made; NAME.mp4.json says from what
      real/NAME.mp4           the real one
      seeds/1/NAME.mp4        what other noise made
      bounds/still/...        the same for what bounds the model, see `BOUNDS`
      features/made/NAME.safetensors    its features, cached
      strips/NAME.jpg         frames of both
      results.json            all figures
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from loopy.data.media.container import length_s, open_media
from loopy.data.media.finished import is_finished, open_result
from loopy.data.media.portrait import read_portrait
from loopy.data.media.sound import read_audio
from loopy.data.media.still import Portrait
from loopy.data.media.video_pictures import moving_pictures
from loopy.data.media.video_reader import iterate_frames, read_frames
from loopy.diffusion.options import SamplingOptions
from loopy.diffusion.sampler import schedule_record
from loopy.drafts import existing_folder
from loopy.errors import LoopyError, MediaError
from loopy.evaluation.sets.draw import Item
from loopy.evaluation.sets.layouts import PICTURES, VIDEOS, check_audible, check_utf8
from loopy.evaluation.table.evaluate import OF_ALL, Pair
from loopy.models.weights import fingerprint
from loopy.pipeline import LoopyPipeline
from loopy.pixels import to_pixels
from loopy.randomness import generator
from loopy.timing import FPS, SAMPLE_RATE_HZ

CRF = 18
"""Quality of every video, real and made; visually lossless."""

BOUNDS = {
    "compressed": "ceiling: the real videos, written once more",
    "still": "floor: the portrait, which does not move",
    "other sound": "floor: the real pictures with the sound of the next video",
}

SPARE = 1
"""Frames by which a codec may make a video longer or shorter than the real one."""

Frames = Iterable[UInt8[Tensor, "n h w 3"]]


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes the videos of a test set in `folder`, each unless it is there, made of the same.

    `make`, `film` and `bound` say whether a video had to be made. They raise MediaError where a
    file of the set cannot be used, OutputError where the video cannot be written. Each video has
    noise of its own, by the seed; `options` are how to sample otherwise than the model says.
    """

    pipe: LoopyPipeline
    folder: Path
    seed: int = 0
    options: SamplingOptions | None = None

    def make(self, item: Item, out: Path) -> bool:
        """The video of the model."""

        def frames(samples: Float[Tensor, " samples"]) -> Frames:
            subject = self.pipe.prepare(self.shown_portrait(item), crop="center")
            noise = generator(self.seed, "noise", item.name)
            seed = int(torch.randint(2**62, (), generator=noise))
            return self.pipe.stream(subject, samples, seed=seed, options=self.options)

        return self._write(out, item, frames, self.made_by)

    def film(self, item: Item, out: Path) -> bool:
        """The real video, written as the made one is."""
        return self._write(out, item, lambda _: self.real(item), self._form)

    def bound(self, name: str, item: Item, out: Path, *, real: Path, other: Item) -> bool:
        """A ceiling or a floor, one of `BOUNDS`.

        `real` is the real video as `film` wrote it, `other` the item with the other sound, which is
        repeated to the length of the pictures.
        """
        if name == "compressed":
            again = (torch.from_numpy(frame)[None] for frame in iterate_frames(real))
            return self._write(out, item, lambda _: again, self._form | {"again": True})
        if name == "still":
            still = self._form | {"still": True}
            portrait = self.shown_portrait(item)[None]
            return self._write(out, item, lambda _: repeat(portrait, item.frames), still)
        return self._write(out, item, lambda _: self.real(item), self._form, other)

    def real(self, item: Item) -> Iterator[UInt8[Tensor, "1 h w 3"]]:
        """The frames of the real video, one by one.

        Raises:
            MediaError: It ends before the span does.
        """
        path, given = self.folder / item.picture, 0
        for frame in iterate_frames(path, span=range(item.first, item.first + item.frames)):
            yield _square(frame, self.size_px)[None]
            given += 1
        if given < item.frames:
            raise MediaError(
                f"video {path} ends after frame {item.first + given} of "
                f"{item.first + item.frames} that its header promises; repair or remove it"
            )

    def shown_portrait(self, item: Item) -> UInt8[Tensor, "h w 3"]:
        """The portrait as the model sees it."""
        path = self.folder / item.picture
        if path.suffix.lower() in PICTURES:
            return _square(path, self.size_px)
        return _square(read_frames(path, [item.portrait_frame])[0], self.size_px)

    def sound(self, item: Item) -> Float[Tensor, " samples"]:
        """The sound of the span, 640 samples a frame.

        Raises:
            MediaError: It cannot be read, or is silent.
        """
        path = self.folder / item.sound
        whole = read_audio(path, zero="pictures")
        samples = whole[_samples(item.first) : _samples(item.first + item.frames)]
        check_audible(samples, f"sound {path} from {item.first / float(FPS):g} s on")
        return torch.nn.functional.pad(samples, (0, _samples(item.frames) - len(samples)))

    @property
    def size_px(self) -> int:
        """Side of all videos."""
        return self.pipe.settings.size_px

    @property
    def _form(self) -> dict[str, Any]:
        """All that decides a video that no model made, besides its files."""
        return {"size_px": self.size_px, "crf": CRF}

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """All that decides a made video besides its files."""
        parts = nn.ModuleList([self.pipe.network, self.pipe.audio_encoder, self.pipe.vae])
        return {
            "weights": fingerprint(parts),
            "scheduler": schedule_record(self.pipe.scheduler),
            "sampling": asdict(self.pipe.settings.sampling.altered(self.options)),
            "contract": asdict(self.pipe.settings.contract),
            "crf": CRF,
            "seed": self.seed,
        }

    def _write(
        self,
        out: Path,
        item: Item,
        frames: Callable[[Float[Tensor, " samples"]], Frames],
        record: dict[str, Any],
        other: Item | None = None,
    ) -> bool:
        """Writes a video unless it is there, with the sound of its item or of another one."""
        record = record | _content(item) | ({"other": _content(other)} if other else {})
        if is_finished(out, record):
            return False
        wanted = _samples(item.frames)
        samples = self.sound(other or item)
        samples = samples.repeat(-(-wanted // len(samples)))[:wanted]
        with open_result(out, record, sound=samples, crf=CRF) as writer:
            for part in frames(samples):
                writer.write(part)
        return True


def made_pairs(maker: Maker, items: Sequence[Item], out: Path, *, seeds: int = 1) -> Iterator[Pair]:
    """Makes each video when it is asked for, in ``out``; one that cannot be made has a problem.

    With `seeds` also videos of other noise; the first one is evaluated.

    Raises:
        LoopyError: One of `OF_ALL`.
    """
    makers = [maker, *(replace(maker, seed=maker.seed + i) for i in range(1, seeds))]
    for item in items:
        others = tuple(_place(out / "seeds" / str(i), item) for i in range(1, seeds))

        def make(path: Path, item: Item = item, others: tuple[Path, ...] = others) -> None:
            for each, place in zip(makers, (path, *others), strict=True):
                each.make(item, place)

        pair = _pair(maker, item, out, out, make)
        yield pair if pair.problem else replace(pair, seeds=others)


def bound_pairs(maker: Maker, items: Sequence[Item], out: Path, bound: str) -> Iterator[Pair]:
    """The videos of one of `BOUNDS`, in ``out/bounds/NAME``; of items that have a real video.

    Raises:
        LoopyError: One of `OF_ALL`.
    """
    filmed = [item for item in items if item.filmed]
    for item, other in zip(filmed, [*filmed[1:], *filmed[:1]], strict=True):
        place, real = out / "bounds" / bound, _place(out / "real", item)
        if bound == "other sound" and other is item:
            problem = f"{bound} needs two videos, {item.name} is alone"
            yield Pair(item.name, _place(place / "videos", item), problem=problem)
        else:
            make = partial(maker.bound, bound, item, real=real, other=other)
            yield _pair(maker, item, place, out, make)


def folder_pairs(made: Path, real: Path | None) -> Iterator[Pair]:
    """Pairs of the made videos in one folder and the real ones in another, by name without suffix.

    A video that cannot be judged has a problem, in words: not readable, without sound or
    silent, not 25 frames a second, without a real one, or not as long as it. Where there are no
    real ones it has no portrait: its own first frame would be near to it whoever it shows.

    Raises:
        MediaError: A folder is missing, holds no video, two of one name, or one that is no UTF-8.
    """
    ours = _videos(made)
    theirs = {} if real is None else _videos(real)
    for name, path in ours.items():
        partner = theirs.get(name)
        try:
            if real is not None and partner is None:
                raise MediaError(f"{real} holds no video named {name}; put the real one there")
            frames = _frames_of(path)
            if partner is not None and abs(frames - (length := _frames_of(partner))) > SPARE:
                raise MediaError(
                    f"{path} has {frames} frames, the real one {length}; cut both to one length"
                )
            portrait = None if partner is None else read_frames(partner, [0])[0]
            yield Pair(name, path, partner, portrait)
        except OF_ALL:
            raise
        except LoopyError as error:
            yield Pair(name, path, partner, problem=str(error))


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


def _content(item: Item) -> dict[str, Any]:
    rest = {name: value for name, value in asdict(item).items() if name != "hashes"}
    return rest | {"hashes": item.hashes}


def _square(picture: Portrait, size_px: int) -> UInt8[Tensor, "h w 3"]:
    """A picture as the model sees it, as pixels of a video."""
    return to_pixels(read_portrait(picture, size_px=size_px)).permute(1, 2, 0).contiguous()


def _samples(frames: int) -> int:
    return frames * SAMPLE_RATE_HZ // int(FPS)


def _videos(folder: Path) -> dict[str, Path]:
    """Videos directly in a folder, by name without suffix."""
    if not folder.is_dir():
        raise MediaError(f"{folder} is no folder; give one with videos")
    found = dict[str, Path]()
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in VIDEOS or path.name.startswith("."):
            continue
        check_utf8(path)
        if path.stem in found:
            raise MediaError(f"{path} and {found[path.stem]} have one name; rename one of them")
        found[path.stem] = path
    if not found:
        raise MediaError(f"{folder} holds no videos ({', '.join(VIDEOS)})")
    return found


def _frames_of(path: Path) -> int:
    """Frames of a video that can be judged."""
    with open_media(path, "video") as container:
        stream = moving_pictures(container)
        rate = stream.average_rate or Fraction(0)
        if abs(rate - FPS) > Fraction(1, 100):
            raise MediaError(
                f"video {path} has {float(rate):.6g} frames a second, all figures are of {FPS}; "
                f"write it anew with ffmpeg -i IN -r {FPS} OUT"
            )
        seconds = length_s(container, stream)
    check_audible(read_audio(path, zero="pictures"), f"the sound of {path}")
    return round(seconds * FPS)
