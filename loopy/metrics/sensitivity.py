"""Does the model use what it is given? How its loss grows when a condition is another sample's.

`loopy.evaluation.toon.conditions` makes the losses; here they become figures.
"""

from jaxtyping import Float
from torch import Tensor

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers


def growth(own: Float[Tensor, "n"], swapped: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """How much the loss of each sample grows, as a part of what it is with all its own.

    Args:
        own: Losses with the right sound, past or portrait.
        swapped: Losses of the same samples, noise and timesteps with a mismatched condition.

    Raises:
        MetricError: Different shapes, none, NaN, or a loss that is not positive.
    """
    if own.shape != swapped.shape or not len(own):
        shapes = f"{tuple(own.shape)} and {tuple(swapped.shape)}"
        raise MetricError(f"losses of the same samples are expected, got shapes {shapes}")
    check_numbers(own, name="the losses")
    check_numbers(swapped, name="the losses with the other condition")
    if not bool((own > 0).all()):
        raise MetricError("a loss of 0 cannot grow by a part of itself; are these losses?")
    return swapped / own - 1
