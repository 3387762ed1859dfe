"""Frechet distance of two sets of features: FID, FVD-R, FVD-I and E-FID (Heusel et al. 2017).

d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). With any roots R'R = S the last trace is
the sum of the singular values of R1 R2', which needs no inverse and no square root of a product,
so that it is exact where fewer rows than features make both covariances singular.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers

EXPRESSIONS = 64
"""Expression coefficients of Deng et al. 2019's face reconstruction: what E-FID is defined on."""


class Frechet(NamedTuple):
    """A Frechet distance, squared as always, of two sets with so many rows of so many numbers."""

    distance: float
    rows: tuple[int, int]
    width: int

    @property
    def note(self) -> str:
        """N, to stand beside the figure; with a singular covariance it compares with equal N."""
        singular = min(self.rows) <= self.width
        rank = f", fewer than its {self.width} features + 1: singular" if singular else ""
        return f"N = {self.rows[0]} and {self.rows[1]}{rank}"


def frechet_distance(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> Frechet:
    """Frechet distance of real and generated rows; covariances by n - 1, as pytorch-fid has them.

    Raises:
        MetricError: A set of fewer than 2 rows, sets of different widths, NaN or infinity.
    """
    _check(first, second)
    _check_rows(len(first), len(second))
    sets = [rows.double() for rows in (first, second)]
    roots = [_slim(rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in sets]
    distance = _distance(sets[0].mean(0) - sets[1].mean(0), *roots)
    return Frechet(distance, (len(first), len(second)), first.shape[1])


@dataclass(frozen=True, eq=False)
class Moments:
    """What the distance needs of a real and a generated set; it does not grow with them.

    Rows, their sums, and sums of the outer product of each row with itself: those of parts add up.
    """

    rows: Int[Tensor, "2"]
    sums: Float[Tensor, "2 d"]
    products: Float[Tensor, "2 d d"]

    @classmethod
    def of(cls, real: Float[Tensor, "n d"], made: Float[Tensor, "m d"]) -> Self:
        """Moments of the features of both sets, or of a part of them.

        Raises:
            MetricError: Different widths, NaN or infinity.
        """
        _check(real, made)
        sets = real.double(), made.double()
        return cls(
            torch.tensor([len(rows) for rows in sets]),
            torch.stack([rows.sum(0) for rows in sets]),
            torch.stack([rows.T @ rows for rows in sets]),
        )

    def __add__(self, other: "Moments") -> "Moments":
        """Of both parts together."""
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Moments") -> "Moments":
        """Without a part."""
        return Moments(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def distance(self) -> Frechet:
        """Frechet distance of the two sets.

        Raises:
            MetricError: A set has fewer than 2 rows.
        """
        real, made = self.rows.tolist()
        _check_rows(real, made)
        rows = self.rows[:, None, None]
        means = self.sums / self.rows[:, None]
        squares = rows * means[:, :, None] * means[:, None]
        covariances = (self.products - squares) / (rows - 1)
        values, vectors = torch.linalg.eigh(covariances)
        roots = values.clamp(min=0).sqrt()[..., None] * vectors.mT
        return Frechet(_distance(means[0] - means[1], *roots), (real, made), means.shape[1])


def _distance(shift: Tensor, first: Tensor, second: Tensor) -> float:
    """Distance of two normal distributions whose covariances have the given roots."""
    common = torch.linalg.svdvals(first @ second.T).sum()
    squares = first.square().sum() + second.square().sum()
    return max(0.0, float(shift.square().sum() + squares - 2 * common))


def _slim(centred: Tensor) -> Tensor:
    """A root of the same covariance with no more rows than columns."""
    tall = centred.shape[0] > centred.shape[1]
    return torch.linalg.qr(centred, mode="r").R if tall else centred


def _check(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise MetricError(f"both sets must be rows of as many features, got shapes {shapes}")
    check_numbers(first, name="the real features")
    check_numbers(second, name="the generated features")


def _check_rows(real: int, made: int) -> None:
    if min(real, made) < 2:
        raise MetricError(
            f"a Frechet distance needs 2 rows of each set, got {real} and {made}; "
            "one video has no spread"
        )
