"""Start from SD1.5's weights, by name, with a report. Any surprise is an error.

diffusers' ``from_pretrained`` leaves layers that a file lacks uninitialised (random memory), so
a network is built first and the file's tensors are then put in by name.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from loopy.errors import ModelError
from loopy.models.audio import SpeechEncoder
from loopy.models.dual import DualUNet
from loopy.models.latents import Autoencoder, latents_fingerprint
from loopy.models.unet import UNet

ADDED = (".audio_attn.", ".inter_clip.", ".intra_clip.", ".slopes", "conv_reference.")
"""What Loopy adds to SD1.5's network; new in every case."""

TEXT = (".transformer_blocks.0.attn2.", ".transformer_blocks.0.norm2.")
HEAD = ("conv_norm_out.", "conv_out.")
FEW = 12
"""Up to so many names an error says them all."""
NO_TENSORS: Mapping[str, Tensor] = MappingProxyType({})


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


def load_sd15(
    network: UNet, state: Mapping[str, Tensor], *, motion: Mapping[str, Tensor] = NO_TENSORS
) -> LoadReport:
    """Put SD1.5's UNet weights into a network of ours, by name, and a motion module's with them.

    Skipped by design: the text attentions (80 tensors) of a network without a text slot, their
    norms where no audio stands behind them, and the head of a reference net.

    Args:
        network: Denoiser or reference net, of SD1.5's widths. On the meta device names and shapes
            are checked, and nothing is copied.
        state: SD1.5's UNet state dict (686 tensors).
        motion: Tensors of temporal layers, from `loopy.models.motion_module`: all of a kind or
            none. Inter-clip layers keep their own ``kinds`` and their output, which is zero.

    Returns:
        What was loaded, is new, was skipped.

    Raises:
        ModelError: A tensor of another shape, one that is missing, or one nobody expects.
    """
    fresh = tuple(part for part in ADDED if not any(part in name for name in motion))
    if ".inter_clip." not in fresh:
        sites = range(network.config["layers_per_block"] + 1)
        fresh += (".kinds", *(f".inter_clip.{i}.proj_out." for i in sites))
    return load_by_name(network, {**state, **motion}, new=fresh, skipped=(*TEXT, *HEAD))


def load_by_name(
    network: torch.nn.Module,
    state: Mapping[str, Tensor],
    *,
    new: tuple[str, ...] = (),
    skipped: tuple[str, ...] = (),
) -> LoadReport:
    """Copy tensors by name; names may be missing or left over only where that is expected.

    Args:
        network: Where they go. Untouched when an error is raised, or on the meta device.
        state: The tensors.
        new: Parts of names that the file may lack.
        skipped: Parts of names that the network may lack.

    Raises:
        ModelError: See `load_sd15`. It names all surprises of a kind, or three of very many.
    """
    own = network.state_dict()
    loaded = [name for name in own if name in state]
    lacking = [name for name in own if name not in state]
    left = [name for name in state if name not in own]
    missing = [name for name in lacking if not any(part in name for part in new)]
    unknown = [name for name in left if not any(part in name for part in skipped)]
    if missing or unknown:
        found = {"the file lacks": missing, "the network has no": unknown}
        words = "; ".join(f"{what} {listed(names)}" for what, names in found.items() if names)
        raise ModelError(f"{words}; is it a file for this network?")
    if strange := [name for name in loaded if not isinstance(state[name], torch.Tensor)]:
        raise ModelError(f"{listed(strange)}: no tensor; is it a file for this network?")
    shapes = {name: (tuple(own[name].shape), tuple(state[name].shape)) for name in loaded}
    misshapen = [
        f"{name}: the network has shape {ours}, the file {theirs}"
        for name, (ours, theirs) in shapes.items()
        if ours != theirs
    ]
    if misshapen:
        raise ModelError(f"{listed(misshapen, '; ')}; use the configuration the file was made with")
    if not any(tensor.is_meta for tensor in own.values()):
        network.load_state_dict({name: state[name] for name in loaded}, strict=False)
    return LoadReport(tuple(loaded), tuple(lacking), tuple(left))


def listed(names: Sequence[str], between: str = ", ") -> str:
    """All names when they are few, else the first three and how many more."""
    shown = names if len(names) <= FEW else names[:3]
    more = f" and {len(names) - 3} more" if len(names) > FEW else ""
    return between.join(shown) + more


@torch.no_grad()
def round_to_half(network: torch.nn.Module) -> None:
    """Round weights to the precision of a file, so that what is measured is what the file holds."""
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())


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


def made_with(network: DualUNet, vae: Autoencoder) -> str:
    """What a subject is made for: a word each of networks, projection, autoencoder and scaling.

    The projection is that of the reference; subjects of older versions have the first two words.
    """
    trained = f"{fingerprint(network)} {network.reference_projection}"
    return f"{trained} {fingerprint(vae)} {latents_fingerprint(vae)}"


def store_fingerprints(vae: Autoencoder, audio_encoder: SpeechEncoder) -> dict[str, str]:
    """Name -> fingerprint of all that decides what a shot store holds of pictures and sound."""
    return {
        "vae": fingerprint(vae),
        "audio_encoder": fingerprint(audio_encoder),
        "latents": latents_fingerprint(vae),
    }
