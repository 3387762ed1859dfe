"""Start from SD1.5's weights, by name, with a report. Any surprise is an error.

diffusers' ``from_pretrained`` leaves layers that a file lacks uninitialised (random memory), so
a network is built first and the file's tensors are then put in by name.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from loopy.errors import ModelError
from loopy.models.audio import AudioEncoder
from loopy.models.latents import latents_fingerprint
from loopy.models.unet import UNet

ADDED = (".audio_attn.", ".inter_clip.", ".intra_clip.", ".slopes", "conv_reference.")
"""What Loopy adds to SD1.5's network; new in every case."""

TEXT = (".attn2.", ".transformer_blocks.0.norm2.")
HEAD = ("conv_norm_out.", "conv_out.")


@dataclass(frozen=True)
class LoadReport:
    """What a file gave to a network, by parameter name.

    Args:
        loaded: Taken from the file.
        new: Not in the file, and expected not to be: they keep their fresh values.
        skipped: In the file, and by design not in the network.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        """Say the three counts."""
        return f"{len(self.loaded)} loaded, {len(self.new)} new, {len(self.skipped)} skipped"


def load_sd15(network: UNet, state: Mapping[str, Tensor]) -> LoadReport:
    """Put SD1.5's UNet weights into a network of ours, by name.

    Skipped by design: the text attentions (80 tensors) of a network without a text slot, their
    norms where no audio stands behind them, and the head of a reference net.

    Args:
        network: Denoiser or reference net, of SD1.5's widths.
        state: SD1.5's UNet state dict (686 tensors).

    Returns:
        What was loaded, is new, was skipped.

    Raises:
        ModelError: A tensor of another shape, one that is missing, or one nobody expects.
    """
    return load_by_name(network, state, new=ADDED, skipped=(*TEXT, *HEAD))


def load_by_name(
    network: torch.nn.Module,
    state: Mapping[str, Tensor],
    *,
    new: tuple[str, ...] = (),
    skipped: tuple[str, ...] = (),
) -> LoadReport:
    """Copy tensors by name; names may be missing or left over only where that is expected.

    Args:
        network: Where they go. Untouched when an error is raised.
        state: The tensors.
        new: Parts of names that the file may lack.
        skipped: Parts of names that the network may lack.

    Raises:
        ModelError: See `load_sd15`.
    """
    own = network.state_dict()
    loaded = [name for name in own if name in state]
    lacking = [name for name in own if name not in state]
    left = [name for name in state if name not in own]
    _refuse("the file lacks", [n for n in lacking if not any(part in n for part in new)])
    _refuse("the network has no", [n for n in left if not any(part in n for part in skipped)])
    for name in loaded:
        if own[name].shape != state[name].shape:
            raise ModelError(
                f"{name}: the network has shape {tuple(own[name].shape)}, the file "
                f"{tuple(state[name].shape)}; use the configuration the file was made with"
            )
    network.load_state_dict({name: state[name] for name in loaded}, strict=False)
    return LoadReport(tuple(loaded), tuple(lacking), tuple(left))


def _refuse(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ModelError(f"{what} {', '.join(names[:3])}{more}; is it a file for this network?")


def fingerprint(network: torch.nn.Module) -> str:
    """A short hash of a network's names, shapes and sixteen values of each tensor.

    Cheap at any size; any training step changes it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        flat = tensor.detach().flatten()
        places = torch.linspace(0, flat.numel() - 1, 16, dtype=torch.float64).long().to(flat.device)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(flat[places].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def store_fingerprints(vae: AutoencoderKL, audio_encoder: AudioEncoder) -> dict[str, str]:
    """Name -> fingerprint of all that decides what a clip store holds of pictures and sound."""
    return {
        "vae": fingerprint(vae),
        "audio_encoder": fingerprint(audio_encoder),
        "latents": latents_fingerprint(vae),
    }
