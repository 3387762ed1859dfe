"""Does the video show who the portrait shows? Cosine of face embeddings (CSIM)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers


def identity_similarity(frames: Float[Tensor, "f d"], portrait: Float[Tensor, "d"]) -> float:
    """Mean over a video of the cosine of each frame's embedding with the portrait's, in [-1, 1].

    Embeddings of a network that the caller names beside the figure; ArcFace is the usual one, its
    weights are not for commerce.

    Raises:
        MetricError: No frames, different widths, NaN, or an embedding that is zero.
    """
    if not len(frames) or frames.shape[1:] != portrait.shape:
        shapes = f"{tuple(frames.shape)} and {tuple(portrait.shape)}"
        raise MetricError(f"embeddings of frames and of a portrait are expected, got {shapes}")
    check_numbers(frames, name="the embeddings of frames")
    check_numbers(portrait, name="the portrait's embedding")
    if not bool(torch.cat([frames, portrait[None]]).any(1).all()):
        raise MetricError("an embedding is zero; was no face found in that frame?")
    return float(functional.cosine_similarity(frames, portrait[None]).double().mean())
