"""What the small networks that measure toons share: their input size, their files and their card.

A probe is trained on renders alone (`tools.judges`) and comes with the package. Its card says how
it was made and how accurate it is on faces outside of its training.
"""

from pathlib import Path
from typing import Any, ClassVar, Self

from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from loopy.drafts import existing_folder
from loopy.errors import ModelError
from loopy.models.folder import ASSETS
from loopy.models.tensor_files import read_object, read_tensors
from loopy.models.weights import load_by_name
from loopy.pixels import from_pixels
from loopy.tensor_file import save_tensors
from loopy.typed_values import write_record

SIDE_PX = 128
AT_ONCE = 32


def to_pictures(frames: UInt8[Tensor, "f H W 3"]) -> Float[Tensor, "f 3 128 128"]:
    """Frames of a video of any size as pictures in [-1, 1] of the probes' size."""
    pictures = from_pixels(frames.permute(0, 3, 1, 2))
    if pictures.shape[-2:] == (SIDE_PX, SIDE_PX):
        return pictures
    return functional.interpolate(pictures, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)


class ToonProbe(nn.Module):
    """A small network with weights in the package, or in a folder, in half precision.

    Attributes:
        name: Stem of its two files; its folder in the package is `toon_` and this.
    """

    name: ClassVar[str]

    @classmethod
    def home(cls) -> Path:
        """Its folder in the package."""
        return ASSETS / f"toon_{cls.name}"

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None) -> Self:
        """Load the probe of the package, or one from a folder.

        Raises:
            ModelError: The file is missing or damaged, or a tensor does not fit.
        """
        path = Path(folder or cls.home()) / f"{cls.name}.safetensors"
        if not path.is_file():
            raise ModelError(
                f"the {cls.name} lacks {path}; train it by python -m tools.judges.train_{cls.name}"
            )
        probe = cls()
        load_by_name(probe, read_tensors(path).tensors)
        return probe.eval()

    @classmethod
    def card(cls, folder: str | Path | None = None) -> dict[str, Any]:
        """How the probe was made ("made_by") and how accurate it is on unseen faces ("accuracy").

        Raises:
            ModelError: The file is missing or damaged.
        """
        return read_object(Path(folder or cls.home()) / f"{cls.name}.json")

    def save_pretrained(self, folder: str | Path, *, card: dict[str, Any]) -> None:
        """Write the weights and the card.

        Raises:
            OutputError: It cannot be written there.
        """
        folder = existing_folder(folder)
        half = {name: value.half() if value.is_floating_point() else value
                for name, value in self.state_dict().items()}  # fmt: skip
        save_tensors(folder / f"{self.name}.safetensors", half)
        write_record(folder / f"{self.name}.json", card)
