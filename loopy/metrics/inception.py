"""FID's features: the Inception v3 that all published FIDs use, by torchmetrics."""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from loopy.errors import DependencyError, ModelError
from loopy.metrics.extractors import INCEPTION, FrameFeatures

FEATURES = 2048
_AT_ONCE = 32


def inception(path: str | Path | None, *, device: str | torch.device = "cpu") -> FrameFeatures:
    """The 2048 numbers behind the last pooling; pictures are resized to 299 x 299 inside.

    Raises:
        ModelError: The file of weights is missing or does not fit.
        DependencyError: torch-fidelity, which has the network, is not installed.
    """
    INCEPTION.read(path)  # first: torch-fidelity reaches for the network, and unpickles anything
    try:
        whole = FrechetInceptionDistance(FEATURES, feature_extractor_weights_path=str(path))
    except ModuleNotFoundError as error:
        raise DependencyError(
            "FID needs torch-fidelity; pip install 'loopy-portrait[metrics]'"
        ) from error
    except (RuntimeError, KeyError, OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} does not fit ({reason}); get {INCEPTION.name}") from error
    network = whole.inception.eval().to(device)

    @torch.no_grad()
    def features(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 2048"]:
        parts = frames.permute(0, 3, 1, 2).split(_AT_ONCE)
        return torch.cat([network(part.to(device)).float().cpu() for part in parts])

    return features
