"""The videos of a draw: made by a model, the real ones, and ceilings and floors; each once.

All are treated alike: 25 frames a second, the largest centred square, the model's size, the same
codec and quality, the same sound.

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
from functools import cached_property, partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from loopy.data.media.finished import is_finished, open_result
from loopy.data.media.portrait import read_portrait
from loopy.data.media.sound import read_audio
from loopy.data.media.still import Portrait
from loopy.data.media.video_reader import iterate_frames, read_frames
from loopy.diffusion.options import SamplingOptions
from loopy.diffusion.sampler import schedule_record
from loopy.drafts import existing_folder
from loopy.errors import LoopyError, MediaError
from loopy.evaluation.sets.draw import Item
from loopy.evaluation.sets.layouts import PICTURES, check_audible
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

Frames = Iterable[UInt8[Tensor, "n h w 3"]]


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes the videos of a test set with a model, each unless it is there, made of the same.

    `make`, `film` and `bound` say whether a video had to be made. They raise MediaError where a
    file of the set cannot be used, OutputError where the video cannot be written.

    Args:
        pipe: The model.
        folder: Where the files of the test set are.
        seed: Of the noise; each video has its own.
        options: How it samples otherwise than the model says.
    """

    pipe: LoopyPipeline
    folder: Path
    seed: int = 0
    options: SamplingOptions | None = None

    def make(self, item: Item, out: Path) -> bool:
        """The video of the model."""

        def frames(samples: Float[Tensor, " samples"]) -> Frames:
            subject = self.pipe.prepare(self.shown_portrait(item))
            noise = generator(self.seed, "noise", item.name)
            seed = int(torch.randint(2**62, (), generator=noise))
            return self.pipe.stream(subject, samples, seed=seed, options=self.options)

        return self._write(out, item, frames, self.made_by)

    def film(self, item: Item, out: Path) -> bool:
        """The real video, written as the made one is."""
        return self._write(out, item, lambda _: self.real(item), self._form)

    def bound(self, name: str, item: Item, out: Path, *, real: Path, other: Item) -> bool:
        """A ceiling or a floor.

        Args:
            name: Of `BOUNDS`.
            item: Which video.
            out: Where it goes.
            real: The real one, as `film` wrote it.
            other: Whose sound is the other one, repeated to the length of the pictures.
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
    """Makes each video when it is asked for; a video that cannot be made has a problem.

    Args:
        maker: Makes them.
        items: Which.
        out: Where they go.
        seeds: How many videos of each, with other noise; the first one is evaluated.

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
    """The videos of something that bounds the model, in ``out/bounds/NAME``.

    Args:
        maker: Of the model.
        items: Which; those with a real video are bounded.
        out: Where the model's videos are.
        bound: Of `BOUNDS`.

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
