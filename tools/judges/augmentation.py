"""What a generated picture has and a drawn one has not: blur, blotches, grain, JPEG blocks."""

from io import BytesIO

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from loopy.pixels import from_pixels, to_pixels


def corrupt(
    pictures: Float[Tensor, "n 3 H W"], generator: torch.Generator
) -> Float[Tensor, "n 3 H W"]:
    """Damage each picture in its own way, a fifth of them not at all.

    Args:
        pictures: In [-1, 1].
        generator: Draws which faults, and how strong.
    """
    return torch.cat([_corrupt_one(picture[None], generator) for picture in pictures])


def blur(pictures: Float[Tensor, "n 3 H W"], *, keep: float = 0.5) -> Float[Tensor, "n 3 H W"]:
    """Shrink to a part of the size and enlarge again."""
    size = pictures.shape[-2:]
    small = [max(8, round(keep * side)) for side in size]
    small = functional.interpolate(pictures, small, mode="bilinear", antialias=True)
    return functional.interpolate(small, size, mode="bicubic").clamp(-1, 1)


def versions(
    pictures: Float[Tensor, "n 3 H W"], generator: torch.Generator
) -> dict[str, Float[Tensor, "n 3 H W"]]:
    """What accuracy is measured on: pictures as drawn, blurred to half their size, corrupted."""
    damaged = corrupt(pictures, generator)
    return {"clean": pictures, "blurred": blur(pictures), "corrupted": damaged}


def _corrupt_one(picture: Tensor, generator: torch.Generator) -> Tensor:
    """One picture: smoothed, tinted, blotched as by an autoencoder's cells, grained, packed."""
    clean, smooth, packed, keep, cells, blotch, grain, quality = torch.rand(
        8, generator=generator
    ).tolist()
    if clean < 0.2:
        return picture
    if smooth < 0.6:
        picture = blur(picture, keep=0.35 + 0.6 * keep)
    side = picture.shape[-1]
    grid = (4, 8, 16, 32)[int(4 * cells)]
    noise = torch.randn(1, 3, grid, grid, generator=generator)
    spots = functional.interpolate(noise, (side, side), mode="bicubic")
    tint = 0.06 * torch.randn(2, 1, 3, 1, 1, generator=generator)
    picture = picture * (1 + tint[0]) + tint[1] + 0.12 * blotch**2 * spots
    fine = torch.randn(picture.shape, generator=generator)
    picture = (picture + 0.12 * grain**2 * fine).clamp(-1, 1)
    return _jpeg(picture, quality=10 + int(80 * quality)) if packed < 0.4 else picture


def _jpeg(picture: Tensor, *, quality: int) -> Tensor:
    """There and back."""
    pixels = to_pixels(picture[0].permute(1, 2, 0))
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "jpeg", quality=quality)
    height, width, _ = pixels.shape
    raw = bytearray(Image.open(file, formats=["JPEG"]).convert("RGB").tobytes())
    packed = torch.frombuffer(raw, dtype=torch.uint8).view(height, width, 3)
    return from_pixels(packed.permute(2, 0, 1))[None]
