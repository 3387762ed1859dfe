"""Does the model use what it is given? How its loss grows when a condition is another sample's.

`loopy.evaluation.toon.conditions` makes the losses; here they become figures.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers


def growth(own: Float[Tensor, "n"], swapped: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """How much the loss of each sample grows, as a part of what it is with all its own.

    Args:
        own: Losses with the right sound, past or portrait.
        swapped: Losses of the same samples, noise and timesteps with another's.

    Raises:
        MetricError: Different shapes, none, NaN, or a loss that is not positive.
    """
    if own.shape != swapped.shape or not len(own):
        shapes = f"{tuple(own.shape)} and {tuple(swapped.shape)}"
        raise MetricError(f"losses of the same samples are expected, got shapes {shapes}")
    check_numbers(own, name="the losses")
    check_numbers(swapped, name="the losses with another's condition")
    if not bool((own > 0).all()):
        raise MetricError("a loss of 0 cannot grow by a part of itself; are these losses?")
    return swapped / own - 1


class Sensitivity(Metric):
    """Mean `growth` over all samples.

    Args:
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    total: Tensor
    samples: Tensor

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, own: Float[Tensor, "n"], swapped: Float[Tensor, "n"]) -> None:
        """Count in the losses of a batch; see `growth`."""
        grown = growth(own, swapped)
        self.total += grown.double().sum()
        self.samples += len(grown)

    def compute(self) -> Tensor:
        """The mean.

        Raises:
            MetricError: No sample was counted in.
        """
        if not int(self.samples):
            raise MetricError("no losses were given")
        return self.total / self.samples
