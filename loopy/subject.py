"""A prepared portrait: everything of it that no clip and no voice changes."""

import json
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loopy.errors import SubjectError
from loopy.models import DualUNet
from loopy.models.weights import fingerprint
from loopy.nn.attention import KeyValue
from loopy.tensor_file import save_tensors


def made_with(network: DualUNet) -> str:
    """What a subject's keys and values depend on: the weights, and whose projection is used."""
    return f"{fingerprint(network)} {network.reference_projection}"


@dataclass(frozen=True, eq=False)
class Subject:
    """Latents of a portrait, and its keys and values at each site.

    They are made with the denoiser's weights, and so belong to one model: `made_with` of its
    networks is kept beside them, and another model refuses the subject.

    Args:
        latents: Scaled latents of the portrait.
        keys: Site -> keys and values of the reference tokens.
        weights: `made_with` of the networks that made them.
        round_trip_db: PSNR of the portrait after the autoencoder, in decibels.
    """

    latents: Float[Tensor, "1 c h w"]
    keys: dict[str, KeyValue]
    weights: str
    round_trip_db: float

    def check(self, network: DualUNet) -> None:
        """Make sure that the subject belongs to these networks.

        Raises:
            SubjectError: It was made with other weights.
        """
        if made_with(network) != self.weights:
            raise SubjectError(
                "this subject was prepared with other weights; prepare the portrait again"
            )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file.

        Raises:
            OutputError: It cannot be written there.
        """
        tensors = {"latents": self.latents}
        for site, keys in self.keys.items():
            tensors |= {f"{site}/key": keys.key, f"{site}/value": keys.value}
        about = {"weights": self.weights, "round_trip_db": json.dumps(self.round_trip_db)}
        save_tensors(path, tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> "Subject":
        """Read what `save` wrote.

        Raises:
            SubjectError: No such file, or not a subject.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sites = [name.removesuffix("/key") for name in tensors if name.endswith("/key")]
            keys = {s: KeyValue(tensors[f"{s}/key"], tensors[f"{s}/value"]) for s in sites}
            db = json.loads(about["round_trip_db"])
            return cls(tensors["latents"], keys, about["weights"], db)
        except (OSError, SafetensorError, KeyError) as error:
            raise SubjectError(
                f"{path} is not a prepared subject ({error}); make one with pipe.prepare"
            ) from error
