"""Multi-condition classifier-free guidance (Loopy sec. 3.4).

    e = audio (e_audio - e_ref) + reference (e_ref - e_base) + e_base

e_audio sees everything, e_ref no audio, e_base neither audio nor reference. Collected by
branch the coefficients are audio, reference - audio and 1 - reference: they sum to 1. The paper
takes audio 5 and reference 3.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


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


def combine(
    predictions: Float[Tensor, "rows f c h w"], branches: tuple[GuidanceTerm, ...]
) -> Float[Tensor, "b f c h w"]:
    """Sum the branches' predictions, rows (branches b), by their coefficients."""
    weight = predictions.new_tensor([branch.coefficient for branch in branches])
    return torch.einsum("r,rbfchw->bfchw", weight, predictions.unflatten(0, (len(branches), -1)))
