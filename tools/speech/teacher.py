"""Moonshine tiny (MIT) as a teacher: its encoder's features at wav2vec2's 50 vectors a second."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from onnxruntime import InferenceSession, SessionOptions  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

STRIDE, MIDDLE = 384, 447
"""Samples between its vectors, and before the middle of what the first one sees."""
OUR_STRIDE, OUR_MIDDLE = 320, 200
"""Likewise of wav2vec2's convolutions."""


class Moonshine:
    """The encoder of Moonshine tiny.

    Args:
        encoder: ``encoder_model.ort`` of the wheel moonshine-voice 0.0.59.
    """

    def __init__(self, encoder: Path) -> None:
        options = SessionOptions()
        options.intra_op_num_threads = 1  # it works beside the training
        self._network = InferenceSession(str(encoder), options)

    def __call__(self, audio: Float[Tensor, "samples"]) -> Float[Tensor, "v 288"]:
        """Features at 50 Hz, by straight lines between its own."""
        given = audio[None].float().numpy()
        mask = np.ones(given.shape, np.int64)
        found = self._network.run(None, {"input_values": given, "attention_mask": mask})
        vectors = torch.from_numpy(np.array(found[0]))[0]
        count = (len(audio) - 2 * OUR_MIDDLE) // OUR_STRIDE + 1
        places = (OUR_STRIDE * torch.arange(count) + OUR_MIDDLE - MIDDLE) / STRIDE
        places = places.clamp(0, len(vectors) - 1)
        before = places.floor().long().clamp(max=len(vectors) - 2)
        return torch.lerp(vectors[before], vectors[before + 1], (places - before)[:, None])
