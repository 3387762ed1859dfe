"""What figures are taken from: networks that others trained, given as functions.

None is in the package and none is ever downloaded: whoever wants a figure gives the file. Without
it the figure is missing, and never a number of another network under the same name.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from loopy.errors import MetricError, ModelError
from loopy.models.tensor_files import told

Frames = UInt8[Tensor, "f h w 3"]
"""sRGB pictures of one video."""

FrameFeatures = Callable[[Frames], Float[Tensor, "f *d"]]
"""A row of features for each picture, or a grade: FID, identity, IQA."""

SegmentFeatures = Callable[[UInt8[Tensor, "s t h w 3"]], Float[Tensor, "s d"]]
"""A row of features for each stretch of frames, all of equal length: FVD."""

Interpolator = Callable[[Frames, Frames], Frames]
"""The pictures in the middle of others: smoothness."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that a figure needs: what is in it, and where to get it, in words."""

    name: str
    network: str
    source: str
    licence: str

    @property
    def needs(self) -> str:
        """What a user has to get, for a column that is not available."""
        return f"{self.name} ({self.network}; {self.source}; licence: {self.licence})"

    def read(self, path: str | Path | None) -> dict[str, Any]:
        """The tensors of the file.

        Raises:
            ModelError: It is missing, damaged, or holds more than tensors.
        """
        with self._opening(path, "file of weights") as path:
            content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or any(type(name) is not str for name in content):
            raise ModelError(f"{path} holds no names and tensors; get {self.name}")
        return content

    def script(self, path: str | Path | None) -> torch.jit.ScriptModule:
        """The network of a TorchScript file, ready to be asked.

        Raises:
            ModelError: It is missing, damaged, or no TorchScript.
        """
        with self._opening(path, "TorchScript") as path, warnings.catch_warnings():
            # deprecated by torch; published files are in this form
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            return torch.jit.load(path, map_location="cpu").eval()

    @contextmanager
    def _opening(self, path: str | Path | None, kind: str) -> Iterator[Path]:
        """Whatever fails inside, by a file of others, is a ModelError that says what to get."""
        if path is None or not Path(path).is_file():
            where = "no path was given" if path is None else f"there is no file {path}"
            raise ModelError(f"{where}; needs {self.needs}; nothing is downloaded")
        try:
            yield Path(path)
        except Exception as error:
            raise ModelError(
                f"{path} is no {kind} ({told(error, Path(path))}); get {self.name}"
            ) from error


INCEPTION = WeightsFile(
    "weights-inception-2015-12-05-6726825d.pth",
    "Inception v3 of FID, 2048 features",
    "a release of torch-fidelity on GitHub",
    "Apache-2.0",
)
RESNET_3D = WeightsFile(
    "resnet-50-kinetics.pth",
    "3D ResNet-50 trained on Kinetics-400",
    "the older weights that the authors of 3D-ResNets-PyTorch share",
    "MIT",
)
I3D = WeightsFile(
    "i3d_torchscript.pt",
    "I3D trained on Kinetics-400, as TorchScript",
    "linked by the metrics of StyleGAN-V on GitHub",
    "Apache-2.0",
)
SYNCNET = WeightsFile(
    "syncnet_v2.model",
    "SyncNet v2",
    "the site of its authors at Oxford; syncnet_python on GitHub says where",
    "MIT",
)
AMT_S = WeightsFile(
    "amt-s.pt",
    "AMT-S exported by you as TorchScript: two pictures in [0, 1] to the one between",
    "AMT's repository on GitHub has network and weights",
    "CC-BY-NC-4.0, no commercial use",
)


def check_numbers(features: Float[Tensor, "..."], *, name: str) -> None:
    """Refuse what holds NaN or infinity: a figure of it would be one too, or silently wrong.

    Raises:
        MetricError: It says in how many rows.
    """
    broken = ~features.isfinite().flatten(1).all(1) if features.ndim > 1 else ~features.isfinite()
    if bool(broken.any()):
        raise MetricError(
            f"{name} hold NaN or infinity in {int(broken.sum())} of {len(broken)} rows; "
            "look for broken frames or a network in too low a precision"
        )
