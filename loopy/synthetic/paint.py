"""Soft painting: shapes given by a signed distance are laid over a picture, back to front.

Coordinates are half pictures: (-1, -1) is the upper left corner, (1, 1) the lower right one. An
edge is a ramp one pixel wide, so every size shows the same drawing and what lies further from a
shape keeps its exact value.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.synthetic.anatomy import Anatomy


def column(values: Float[Tensor, "n"]) -> Float[Tensor, "n 1 1"]:
    """Shapes one number per picture for arithmetic with its pixels."""
    return values[:, None, None]


def ellipse(x: Tensor, y: Tensor, half_width: Tensor, half_height: Tensor) -> Tensor:
    """Approximate distance to an ellipse around the origin, negative inside."""
    radius = ((x / half_width).square() + (y / half_height).square()).sqrt()
    return (radius - 1) * torch.minimum(half_width, half_height)


class Canvas:
    """Pictures being painted, or a rectangle of them that shares their memory.

    Attributes:
        pixels: RGB in [0, 1].
        x, y: Centres of the pixels.
    """

    def __init__(
        self,
        pixels: Float[Tensor, "n 3 H W"],
        x: Float[Tensor, "1 1 W"],
        y: Float[Tensor, "1 H 1"],
        pixel: float,
    ) -> None:
        self.pixels, self.x, self.y, self.pixel = pixels, x, y, pixel

    @classmethod
    def blank(cls, n: int, *, size_px: int, like: Tensor) -> "Canvas":
        """Black square pictures on the device of `like`."""
        pixel = 2 / size_px
        centres = (torch.arange(size_px, device=like.device, dtype=like.dtype) + 0.5) * pixel - 1
        pixels = like.new_zeros(n, 3, size_px, size_px)
        return cls(pixels, centres[None, None, :], centres[None, :, None], pixel)

    def around(
        self, x: Float[Tensor, "n"], y: Float[Tensor, "n"], half_width: float, half_height: float
    ) -> "Canvas":
        """The rectangle that contains, in every picture, the given box around its point."""
        low, high = torch.stack([x, y]).aminmax(dim=1)
        (left, top), (right, bottom) = low.tolist(), high.tolist()
        columns = self._span(left - half_width, right + half_width, self.x.shape[2])
        rows = self._span(top - half_height, bottom + half_height, self.y.shape[1])
        return Canvas(
            self.pixels[:, :, rows, columns], self.x[:, :, columns], self.y[:, rows], self.pixel
        )

    def _span(self, low: float, high: float, size: int) -> slice:
        start = min(max(int((low + 1) / self.pixel), 0), size - 1)
        return slice(start, min(max(int((high + 1) / self.pixel) + 2, start + 1), size))

    def cover(
        self, distance: Float[Tensor, "n H W"], softness: float = 0.0
    ) -> Float[Tensor, "n H W"]:
        """How much of each pixel a shape covers, in [0, 1]; softness widens the edge."""
        return torch.clamp(0.5 - distance / (self.pixel + softness), 0, 1)

    def lay(self, cover: Float[Tensor, "#n H W"], colour: Float[Tensor, "#n 3"]) -> None:
        """Mixes a colour into the pixels by the given share."""
        self.pixels.lerp_(colour[:, :, None, None], cover[:, None])


def head_part(
    canvas: Canvas, anatomy: Anatomy, x: Tensor, y: Tensor, half_width: float, half_height: float
) -> tuple[Canvas, Tensor, Tensor]:
    """The rectangle around a point of the head frame, and its pixels in that frame."""
    middle = anatomy.to_picture(torch.stack([x, y], -1)[:, None])[:, 0]
    lean = 0.25
    part = canvas.around(
        middle[:, 0], middle[:, 1], half_width + lean * half_height, half_height + lean * half_width
    )
    return part, *anatomy.to_head(part.x, part.y)
