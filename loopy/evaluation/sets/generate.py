"""The videos of a draw: made by a model, the real ones beside them, each once.

Real and made videos are treated alike: 25 frames a second, the largest centred square, the model's
size, the same codec and quality, the same sound.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
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
from loopy.errors import MediaError
from loopy.evaluation.sets.drawn import Item
from loopy.evaluation.sets.layouts import PICTURES, check_heard
from loopy.models.weights import fingerprint
from loopy.pipeline import LoopyPipeline
from loopy.pixels import to_pixels
from loopy.randomness import generator
from loopy.timing import FPS, SAMPLE_RATE_HZ

CRF = 18
"""Quality of every video, real and made; visually lossless."""


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes the videos of a test set with a model.

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
        """Makes a video, unless it is there, made of the same by the same.

        Args:
            item: Which.
            out: The file.

        Returns:
            Whether it had to be made.

        Raises:
            MediaError: A file of the test set cannot be used.
            OutputError: The video cannot be written.
        """
        record = self.made_by | _content(item)
        if is_finished(out, record):
            return False
        samples = self.sound(item)
        subject = self.pipe.prepare(self.shown_portrait(item))
        clips = self.pipe.stream(
            subject, samples, seed=self._noise_seed(item), options=self.options
        )
        _write(out, clips, samples, record)
        return True

    def film(self, item: Item, out: Path) -> bool:
        """Writes the real video as the made one is written, unless it is there.

        Returns:
            Whether it had to be written.

        Raises:
            MediaError: The video cannot be read to the end of the span.
            OutputError: It cannot be written.
        """
        record = {"size_px": self.size_px, "crf": CRF} | _content(item)
        if is_finished(out, record):
            return False
        _write(out, self.real(item), self.sound(item), record)
        return True

    def again(self, item: Item, real: Path, out: Path) -> bool:
        """A ceiling: the real video as `film` wrote it, written once more."""
        record = {"size_px": self.size_px, "crf": CRF, "again": True} | _content(item)
        if is_finished(out, record):
            return False
        frames = iterate_frames(real / f"{item.name}.mp4")
        _write(out, (torch.from_numpy(frame)[None] for frame in frames), self.sound(item), record)
        return True

    def still(self, item: Item, out: Path) -> bool:
        """A floor: the portrait, which does not move, with the sound."""
        record = {"size_px": self.size_px, "crf": CRF, "still": True} | _content(item)
        if is_finished(out, record):
            return False
        frame = self.shown_portrait(item)
        _write(out, (frame[None] for _ in range(item.frames)), self.sound(item), record)
        return True

    def mismatched(self, item: Item, other: Item, out: Path) -> bool:
        """A floor: the real pictures with the sound of another video, from its start again."""
        record = {"size_px": self.size_px, "crf": CRF} | _content(item) | {"other": _content(other)}
        if is_finished(out, record):
            return False
        samples, wanted = self.sound(other), _samples(item.frames)
        samples = samples.repeat(-(-wanted // len(samples)))[:wanted]
        _write(out, self.real(item), samples, record)
        return True

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

    def portrait(self, item: Item) -> Path | UInt8[Tensor, "h w 3"]:
        """What the model is shown."""
        path = self.folder / item.picture
        if path.suffix.lower() in PICTURES:
            return path
        return read_frames(path, [item.portrait_frame])[0]

    def shown_portrait(self, item: Item) -> UInt8[Tensor, "h w 3"]:
        """The portrait as the model sees it."""
        return _square(self.portrait(item), self.size_px)

    def sound(self, item: Item) -> Float[Tensor, " samples"]:
        """The sound of the span, 640 samples a frame.

        Raises:
            MediaError: It cannot be read, or is silent.
        """
        path = self.folder / item.sound
        whole = read_audio(path, zero="pictures")
        samples = whole[_samples(item.first) : _samples(item.first + item.frames)]
        check_heard(samples, f"sound {path} from {item.first / float(FPS):g} s on")
        return torch.nn.functional.pad(samples, (0, _samples(item.frames) - len(samples)))

    @property
    def size_px(self) -> int:
        """Side of all videos."""
        return self.pipe.settings.size_px

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """All that decides a made video besides its files."""
        parts = nn.ModuleList([self.pipe.network, self.pipe.audio_encoder, self.pipe.vae])
        scheduler = {k: v for k, v in self.pipe.scheduler.config.items() if k[0] != "_"}
        return {
            "weights": fingerprint(parts),
            "scheduler": scheduler,
            "sampling": asdict(self.pipe.settings.sampling.altered(self.options)),
            "contract": asdict(self.pipe.settings.contract),
            "crf": CRF,
            "seed": self.seed,
        }

    def _noise_seed(self, item: Item) -> int:
        return int(torch.randint(2**62, (), generator=generator(self.seed, "noise", item.name)))


def _content(item: Item) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name != "hashes"} | {
        "hashes": list(item.hashes)
    }


def _write(
    out: Path,
    parts: Iterable[UInt8[Tensor, "n h w 3"]],
    samples: Float[Tensor, " samples"],
    record: dict[str, Any],
) -> None:
    with open_result(out, record, sound=samples, crf=CRF) as writer:
        for part in parts:
            writer.write(part)


def _square(picture: Portrait, size_px: int) -> UInt8[Tensor, "h w 3"]:
    """A picture as the model sees it, as pixels of a video."""
    return to_pixels(read_portrait(picture, size_px=size_px)).permute(1, 2, 0).contiguous()


def _samples(frames: int) -> int:
    return frames * SAMPLE_RATE_HZ // int(FPS)
