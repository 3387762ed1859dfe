"""IQA: how good single frames look to Q-Align (Wu et al. 2023), by pyiqa, which you install.

pyiqa's licence (PolyForm Noncommercial) and Q-Align's allow no commercial use, so that it is no
dependency, not even an optional one; any other scorer may be given, under its own name.
"""

import torch
from huggingface_hub import constants
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from loopy.errors import ConfigurationError, DependencyError, ModelError
from loopy.metrics.extractors import FrameFeatures

NEEDS = (
    "Q-Align by pyiqa (pip install pyiqa; licence: PolyForm Noncommercial 1.0.0) with the weights "
    "q-future/one-align (7 billion numbers) in the hub's cache"
)


def q_align(*, device: str | torch.device = "cpu") -> FrameFeatures:
    """Q-Align's grade for quality, 1 (bad) to 5 (excellent).

    Raises:
        ConfigurationError: The hub may be asked: pyiqa would download 16 GB without a word.
        DependencyError: pyiqa is not installed.
        ModelError: The weights are not in the hub's cache.
    """
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]  # the user installs it
    except ImportError as error:
        raise DependencyError(f"image quality needs {NEEDS}") from error
    if not constants.HF_HUB_OFFLINE:
        raise ConfigurationError(f"set HF_HUB_OFFLINE=1, or pyiqa would download; it needs {NEEDS}")
    try:
        network = pyiqa.create_metric("qalign", device=device)
    except OSError as error:
        raise ModelError(f"no weights in the hub's cache; needs {NEEDS}") from error
    return graded_by(network, device=device)


def graded_by(network: nn.Module, *, device: str | torch.device = "cpu") -> FrameFeatures:
    """Grades by a network that takes one picture in [0, 1] at a time, as those of pyiqa do."""

    @torch.no_grad()
    def grade(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f"]:
        pictures = frames.permute(0, 3, 1, 2)
        grades = [network(one[None].to(device).float() / 255).flatten()[:1] for one in pictures]
        return torch.cat(grades).float().cpu()

    return grade
