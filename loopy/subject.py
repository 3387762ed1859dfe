"""A prepared portrait: what of it is the same in each video, and where it comes from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loopy.errors import SubjectError
from loopy.paths import path_of
from loopy.tensor_file import save_tensors


@dataclass(frozen=True, eq=False)
class Subject:
    """Latents of a portrait, and the model that they were prepared for.

    It does not depend on a device or a precision: a pipeline moves it to its own.

    Args:
        latents: Scaled latents of the portrait.
        weights: `LoopyPipeline.weights` of the model; another one refuses the subject.

    Raises:
        SubjectError: Latents of another shape, or a value that is not finite.
    """

    latents: Float[Tensor, "1 c h w"]
    weights: str

    def __post_init__(self) -> None:
        """Refuse what makes no picture."""
        if not isinstance(self.latents, Tensor):
            raise SubjectError(f"latents are a tensor, got {type(self.latents).__name__}")
        shape = tuple(self.latents.shape)
        if len(shape) != 4 or shape[0] != 1 or not self.latents.numel():
            raise SubjectError(f"latents of a subject are (1, c, h, w), got {shape}; prepare again")
        if not self.latents.is_floating_point() or not self.latents.isfinite().all():
            raise SubjectError("latents of a subject are finite numbers; prepare it again")

    def check(self, weights: str, shape: tuple[int, int, int]) -> None:
        """Make sure that the subject belongs to a model.

        Args:
            weights: `LoopyPipeline.weights`.
            shape: Channels, height and width of the model's latents.

        Raises:
            SubjectError: It was made with other weights, or its latents do not fit.
        """
        ours, theirs = self.weights.split(), weights.split()
        if ours[:2] != theirs[:2]:
            raise SubjectError(
                "this subject was prepared with other weights; prepare the portrait again"
            )
        if len(ours) > 2 and ours != theirs:
            raise SubjectError(
                "this subject was prepared with another autoencoder; prepare the portrait again"
            )
        if tuple(self.latents.shape[1:]) != shape:
            raise SubjectError(
                f"this subject has latents of {tuple(self.latents.shape[1:])} (channels, height, "
                f"width), the model of {shape}; prepare the portrait again"
            )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all.

        Raises:
            OutputError: It cannot be written there.
        """
        about = {"weights": self.weights, "sha256": _sha256(self.latents)}
        save_tensors(path, {"latents": self.latents}, about)

    @classmethod
    def load(cls, path: str | Path) -> "Subject":
        """Read what `save` wrote; keys and values that older files hold are left unread.

        Raises:
            SubjectError: No such file, not a subject, or a damaged one.
        """
        path = path_of(path, SubjectError)
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                latents = file.get_tensor("latents")
            if about.get("sha256", _sha256(latents)) != _sha256(latents):
                raise SubjectError("its content is damaged")
            return cls(latents, about["weights"])
        except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
            raise SubjectError(
                f"{path} is not a prepared subject ({error}); make one with pipe.prepare"
            ) from error


def _sha256(latents: Tensor) -> str:
    return hashlib.sha256(latents.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()
