"""A finished video in memory, and contact sheets of it."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from loopy.data.media.sound import Sound
from loopy.data.media.writer import open_writer
from loopy.errors import ConfigurationError
from loopy.paths import AnyPath
from loopy.timing import FPS
from loopy.typed_values import check_number


@dataclass(frozen=True, eq=False)
class Video:
    """Frames, their rate and their sound.

    Attributes:
        frames: RGB pictures.
        fps: Frames a second.
        audio: A sound file, sound in memory (`loopy.data.media.sound.check_audio`), or None.
    """

    frames: UInt8[Tensor, "f h w 3"]
    fps: Fraction = FPS
    audio: Sound | None = None

    def save(self, path: AnyPath, *, crf: int = 18) -> Path:
        """Writes the video in the form its name asks for; see ``open_writer``.

        Raises:
            OutputError: It cannot be written there.
            MediaError: The sound file is no longer readable.
        """
        with open_writer(path, fps=self.fps, sound=self.audio, crf=crf) as writer:
            writer.write(self.frames)
        return Path(path)

    def sheet(self, *, columns: int = 8, rows: int = 3) -> Image.Image:
        """A `contact_sheet` of frames spread evenly from the first to the last one."""
        check_number("rows", rows, least=1, most=1000)
        check_number("columns", columns, least=1, most=1000)
        shown = evenly_spread(len(self.frames), columns * rows)
        return contact_sheet(self.frames[shown.to(self.frames.device)], columns=columns)


def evenly_spread(frames: int, shown: int) -> Int[Tensor, "shown"]:
    """Indices of frames spread evenly from the first to the last one; of a short video, all."""
    return torch.linspace(0, frames - 1, min(shown, frames)).round().long()


def contact_sheet(frames: UInt8[Tensor, "f h w 3"], *, columns: int = 8) -> Image.Image:
    """Lays frames of one size out in rows, left to right and top to bottom, on white.

    No frames or no columns are a ConfigurationError.
    """
    check_number("columns", columns, least=1, most=1000)
    if len(frames) == 0:
        raise ConfigurationError("a contact sheet of no frames; give at least 1")
    columns = min(columns, len(frames))
    pixels = frames.cpu().numpy()
    _, height, width, _ = pixels.shape
    rows = -(-len(pixels) // columns)
    sheet = np.full((rows, height, columns, width, 3), 255, np.uint8)
    for place, frame in enumerate(pixels):
        sheet[place // columns, :, place % columns] = frame
    return Image.fromarray(sheet.reshape(rows * height, columns * width, 3))
