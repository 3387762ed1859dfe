"""Frechet distance of two sets of features: FID, FVD-R, FVD-I and E-FID (Heusel et al. 2017).

d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). With any roots R'R = S the last trace is
the sum of the singular values of R1 R2', which needs no inverse and no square root of a product,
so that it is exact where fewer rows than features make both covariances singular.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers

EXPRESSIONS = 64
"""Expression coefficients of Deng et al. 2019's face reconstruction: what E-FID is defined on."""


class Frechet(NamedTuple):
    """A Frechet distance, and what it rests on.

    Attributes:
        distance: The squared distance, as FID and FVD are always given.
        rows: Rows of the two sets: frames of FID and E-FID, videos of FVD.
        width: Numbers in a row.
    """

    distance: float
    rows: tuple[int, int]
    width: int

    @property
    def singular(self) -> bool:
        """Whether a covariance has no full rank: then it compares only with equal N."""
        return min(self.rows) <= self.width

    @property
    def note(self) -> str:
        """N, to stand beside the figure."""
        rank = f", fewer than its {self.width} features + 1: singular" if self.singular else ""
        return f"N = {self.rows[0]} and {self.rows[1]}{rank}"


def frechet_distance(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> Frechet:
    """Frechet distance of two sets of rows; covariances by n - 1, as pytorch-fid has them.

    Args:
        first: Features of the real set.
        second: Those of the generated one.

    Raises:
        MetricError: A set of fewer than 2 rows, sets of different widths, NaN or infinity.
    """
    _check(first, second)
    sets = [rows.double() for rows in (first, second)]
    means = [rows.mean(0) for rows in sets]
    roots = [
        _slim(rows - mean) / (len(rows) - 1) ** 0.5 for rows, mean in zip(sets, means, strict=True)
    ]
    distance = _distance(means[0] - means[1], roots[0], roots[1])
    return Frechet(distance, (len(first), len(second)), first.shape[1])


class FrechetDistance(Metric):
    """`frechet_distance` of sets that come in parts, in memory that does not grow with them.

    Args:
        width: Features of a row.
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = False
    rows: Tensor
    sums: Tensor
    products: Tensor

    def __init__(self, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width = width
        products = torch.zeros(2, width, width, dtype=torch.float64)  # real, generated
        self.add_state("rows", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", products[:, 0].clone(), dist_reduce_fx="sum")
        self.add_state("products", products, dist_reduce_fx="sum")

    def update(self, features: Float[Tensor, "n d"], *, real: bool) -> None:
        """Count in rows.

        Args:
            features: Of frames or of videos.
            real: Of the real set, else of the generated one.

        Raises:
            MetricError: Another width, NaN or infinity; nothing is counted in then.
        """
        if features.ndim != 2 or features.shape[1] != self.width:
            got = tuple(features.shape)
            raise MetricError(f"rows of {self.width} features are expected, got shape {got}")
        check_numbers(features, name="the features")
        rows, which = features.to(self.sums), 0 if real else 1
        self.rows[which] += len(rows)
        self.sums[which] += rows.sum(0)
        self.products[which] += rows.T @ rows

    def compute(self) -> Frechet:
        """The distance of all rows so far.

        Raises:
            MetricError: A set has fewer than 2 rows.
        """
        return distance_of_moments(self.rows, self.sums, self.products)


def distance_of_moments(
    rows: Int[Tensor, "2"], sums: Float[Tensor, "2 d"], products: Float[Tensor, "2 d d"]
) -> Frechet:
    """Frechet distance of two sets of which no more is known.

    Args:
        rows: How many rows the real and the generated set have.
        sums: Of their rows.
        products: Sums of the outer product of each row with itself.

    Raises:
        MetricError: A set has fewer than 2 rows.
    """
    real, made = (int(count) for count in rows)
    _check_rows(real, made)
    means = sums / rows[:, None]
    squares = rows[:, None, None] * means[:, :, None] * means[:, None]
    covariances = (products - squares) / (rows[:, None, None] - 1)
    values, vectors = torch.linalg.eigh(covariances)
    roots = values.clamp(min=0).sqrt()[..., None] * vectors.mT
    return Frechet(_distance(means[0] - means[1], *roots), (real, made), sums.shape[1])


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
    _check_rows(len(first), len(second))
    check_numbers(first, name="the real features")
    check_numbers(second, name="the generated features")


def _check_rows(real: int, made: int) -> None:
    if min(real, made) < 2:
        raise MetricError(
            f"a Frechet distance needs 2 rows of each set, got {real} and {made}; "
            "one video has no spread"
        )
