"""Multi-condition classifier-free guidance (Loopy sec. 3.4).

    e = audio (e_audio - e_ref) + reference (e_ref - e_base) + e_base

e_audio sees everything, e_ref no audio, e_base neither audio nor reference. Collected by
branch the coefficients are audio, reference - audio and 1 - reference: they sum to 1. The paper
takes audio 5 and reference 3.
"""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.typed_values import check_fields


class GuidanceTerm(NamedTuple):
    """One run of the denoiser.

    Attributes:
        coefficient: Its weight in the guided prediction.
        audio: Whether it hears the audio (tokens and motion latents).
        reference: Whether it sees the reference, and with it the past.
    """

    coefficient: float
    audio: bool
    reference: bool


@dataclass(frozen=True)
class GuidanceScales:
    """How strongly the conditions pull.

    Args:
        audio: Ratio of the audio (a = 5 in the paper).
        reference: Ratio of the reference (b = 3 in the paper).
        start: Share of the steps after which guidance begins (0 = from the first step).
        stop: Share of the steps after which it ends (1 = to the last). Outside, the plain
            conditional prediction is used, which costs one branch.

    Raises:
        ConfigurationError: A ratio that is not finite, or an interval that is empty or outside
            [0, 1].
    """

    audio: float = 5.0
    reference: float = 3.0
    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        """Refuse impossible ratios and intervals."""
        check_fields(self)
        if not (isfinite(self.audio) and isfinite(self.reference)):
            raise ConfigurationError(
                f"audio_ratio and reference_ratio are finite, got {self.audio} and {self.reference}"
            )
        if not 0 <= self.start < self.stop <= 1:
            raise ConfigurationError(
                f"guidance runs from start to stop, 0 <= start < stop <= 1; got {self.start} "
                f"to {self.stop}"
            )

    def branches(self, progress: float = 0.0) -> tuple[GuidanceTerm, ...]:
        """The runs needed at a point of the sampling, those that see more first.

        A branch whose coefficient is 0 is left out: e_ref when both ratios are equal, e_base
        when the reference ratio is 1.

        Args:
            progress: Share of the steps already done, in [0, 1).
        """
        if not self.start <= progress < self.stop:
            return (GuidanceTerm(1.0, True, True),)
        every = (
            GuidanceTerm(self.audio, True, True),
            GuidanceTerm(self.reference - self.audio, False, True),
            GuidanceTerm(1.0 - self.reference, False, False),
        )
        return tuple(branch for branch in every if branch.coefficient)


def combine(
    predictions: Float[Tensor, "rows f c h w"], branches: tuple[GuidanceTerm, ...]
) -> Float[Tensor, "b f c h w"]:
    """Sum the branches' predictions, rows (branches b), by their coefficients."""
    weight = predictions.new_tensor([branch.coefficient for branch in branches])
    return torch.einsum("r,rbfchw->bfchw", weight, predictions.unflatten(0, (len(branches), -1)))
