"""The sync judge: do this sound and this mouth belong together, and how far are they apart?

Small towers after SyncNet (Chung and Zisserman 2016): each turns 5 frames, 0.2 s, into a unit
vector, and vectors of the same moment of the same talk are near. One tower takes the sound; three
take mouths, in pictures, as landmarks, and in the toon autoencoder's latents. They were trained on
toon talkers alone (`tools.judges.train_sync`).
"""

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from loopy.models.probe import ToonProbe, to_pictures

WINDOW = 5
"""Frames that a unit vector stands for; it is the middle one's."""
LARGEST_OFFSET = 15
"""Frames by which sound and mouth are moved against each other, to either side (SyncNet)."""

MOUTH = (slice(24, 54), slice(12, 52))
"""Rows and columns of a toon of 64 px in which its mouth stays, however the head turns."""
MOUTH_CELLS = (slice(6, 14), slice(3, 13))
"""The same in latents of 16 x 16 cells."""
CHIN_AND_LIPS = (*range(6, 11), *range(48, 68))
_EYES = (slice(36, 42), slice(42, 48))
_NOSE = slice(27, 31)

_CODE, _TIME, _WIDTH = 64, 96, 64


class Windows(nn.Module):
    """Codes of frames to unit vectors of 5 frames each."""

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Conv1d(_CODE, _TIME, WINDOW)
        self.read = nn.Conv1d(_TIME, _WIDTH, 1)

    def forward(self, codes: Float[Tensor, "b f c"]) -> Float[Tensor, "b g d"]:
        """One vector for each 5 frames in a row: g = f - 4."""
        vectors = self.read(self.window(codes.mT).relu())
        return functional.normalize(vectors.mT, dim=-1)


class Tower(nn.Module):
    """Numbers of frames to unit vectors of 5 frames each, by one linear map a frame.

    Args:
        width: Numbers of a frame.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.code = nn.Linear(width, _CODE)
        self.windows = Windows()

    def forward(self, frames: Float[Tensor, "b f *numbers"]) -> Float[Tensor, "b g d"]:
        """Unit vectors of frames, whatever the shape of one."""
        return self.windows(self.code(frames.flatten(2)).relu())


class MouthCode(nn.Module):
    """Three convolutions over a mouth, 30 x 40 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(48)
        self.code = nn.Linear(48 * 4 * 5, _CODE)

    def forward(self, mouths: Float[Tensor, "n 3 30 40"]) -> Float[Tensor, "n c"]:
        """A code of each."""
        x = self.norm1(self.conv1(mouths)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x)).relu()
        return self.code(x.flatten(1)).relu()


class PictureTower(nn.Module):
    """Mouths in pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.code = MouthCode()
        self.windows = Windows()

    def forward(self, mouths: Float[Tensor, "b f 3 30 40"]) -> Float[Tensor, "b g d"]:
        """Unit vectors of mouths in [-1, 1], see `mouths_of`."""
        return self.windows(self.code(mouths.flatten(0, 1)).unflatten(0, mouths.shape[:2]))


class SyncJudge(ToonProbe):
    """One tower for sound and three for mouths; all vectors lie on one sphere.

    Attributes:
        sound: Reads all layers of the toon model's audio encoder.
        pictures: Mouths in pictures, see `mouths_of`.
        landmarks: `upright` points.
        latents: The cells around mouths (`MOUTH_CELLS`), scaled as in the denoiser: a gradient
            without decoding a picture.
    """

    name: ClassVar[str] = "sync"

    def __init__(self) -> None:
        super().__init__()
        self.sound = Tower(5 * 160)
        self.pictures = PictureTower()
        self.landmarks = Tower(2 * len(CHIN_AND_LIPS))
        self.latents = Tower(8 * 8 * 10)

    @torch.no_grad()
    def embed_sound(self, features: Float[Tensor, "f k a"]) -> Float[Tensor, "g d"]:
        """Unit vectors of a sound."""
        return self.sound(features[None].float())[0]

    @torch.no_grad()
    def embed_frames(self, parts: Iterable[UInt8[Tensor, "f H W 3"]]) -> Float[Tensor, "g d"]:
        """Unit vectors of a video of any size, whose faces fill the picture as toons' do.

        Args:
            parts: Its frames, some at a time.
        """
        codes = [self.pictures.code(mouths_of(to_pictures(part))) for part in parts]
        return self.pictures.windows(torch.cat(codes)[None])[0]

    @torch.no_grad()
    def embed_points(self, points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "g d"]:
        """Unit vectors of a face track, in any unit; NaN where points are missing."""
        return self.landmarks(upright(points)[None])[0]


def mouths_of(pictures: Float[Tensor, "f 3 128 128"]) -> Float[Tensor, "f 3 30 40"]:
    """The input of the picture tower: the place of the mouth, at half of the size."""
    rows, columns = MOUTH
    return functional.avg_pool2d(pictures, 2)[:, :, rows, columns]


def upright(points: Float[Tensor, "f 68 2"]) -> Float[Tensor, "f p 2"]:
    """Chin and lips relative to the nose, in distances of the eyes, turned so that eyes are level.

    The unit is their mean distance in the whole track: a head that turns does not blow up its lips.
    """
    left, right = (points[:, eye].mean(1) for eye in _EYES)
    across = right - left
    unit = across.norm(dim=1).nanmean()
    cos, sin = functional.normalize(across, dim=1).unbind(1)
    x, y = (points[:, list(CHIN_AND_LIPS)] - points[:, _NOSE].mean(1, keepdim=True)).unbind(-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack([x * cos + y * sin, y * cos - x * sin], -1) / unit


def offset_distances(
    sound: Float[Tensor, "g d"], mouth: Float[Tensor, "g d"], *, largest: int = LARGEST_OFFSET
) -> Float[Tensor, " offsets"]:
    """Mean distance of a video's windows from those of its sound, for each offset.

    SyncNet pads the sound with zeros; here a window without a partner does not count, as zeros
    are nearer to every unit vector than another moment is. NaN windows do not count either.

    Returns:
        At place i: with the sound taken i - `largest` frames later.
    """
    g = len(mouth)
    pairs = [
        (sound[max(k, 0) : g + min(k, 0)], mouth[max(-k, 0) : g - max(k, 0)])
        for k in range(-largest, largest + 1)
    ]
    return torch.stack([(one - other).norm(dim=1).nanmean() for one, other in pairs])
