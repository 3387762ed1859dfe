"""What a stage begins with: weights out of model folders, and the networks that stay frozen.

Weights are taken by name, and a table says which were. Folders are laid over each other tensor by
tensor, later ones on top: `loopy init`'s has layers that the image stage's export does not have
yet.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from loopy.errors import ModelError
from loopy.models import AudioEncoder, DualUNet
from loopy.models.folder import CONDITION, load_part, part_folder
from loopy.models.latents import Autoencoder
from loopy.models.weights import ADDED, LoadReport, load_by_name

TRAINED = ("reference_net", "denoiser", "audio_projection", "audio_to_latents")
"""Parts of a model folder that training changes."""

KINDS = (*ADDED, ".transformer_blocks.0.attn2.", ".transformer_blocks.0.norm2.")
"""Kinds of layers that a network may have or not; of each a folder has all or none."""


class FrozenParts(NamedTuple):
    """The networks that a stage uses and does not train."""

    vae: Autoencoder
    audio_encoder: AudioEncoder


def load_frozen(folder: Path) -> FrozenParts:
    """The frozen networks of a model folder, or of one that holds these two parts alone.

    Raises:
        ModelError: A file is missing or damaged.
    """
    return FrozenParts(
        load_part(folder, "vae").requires_grad_(False), load_part(folder, "audio_encoder")
    )


def start_from(network: DualUNet, folders: Sequence[Path]) -> dict[str, LoadReport]:
    """Put weights of model folders into a network; says which, by part.

    Skipped by design: kinds of layers of which the network has none at all (temporal layers or
    audio in the image stage), and whole audio parts that it lacks. New: kinds, and audio parts,
    of which the folders have none.

    Args:
        network: Of the stage. Behind an error, parts before the one it names may be loaded.
        folders: Model folders in the diffusers form, in any precision; later ones win.

    Raises:
        ModelError: A folder has no part of a model, no folder has the UNets, a file is damaged,
            or a tensor is missing, left over or of another shape.
    """
    parts = [*TRAINED, *(CONDITION + name for name in network.conditions)]
    states = {part: _stacked(folders, part) for part in parts}
    for folder in folders:
        if not any(_file(folder, part).is_file() for part in parts):
            raise ModelError(
                f"{folder} has no part of a model; give the folder that loopy init wrote, or train "
                "and export the image stage first"
            )
    return {part: _load(network, part, state) for part, state in states.items()}


def start_table(reports: Mapping[str, LoadReport]) -> str:
    """The reports as a table, one line a part, and what kinds of layers are new or skipped."""
    lines = [f"{'part':<18}{'loaded':>8}{'new':>8}{'skipped':>9}"]
    for part, report in reports.items():
        loaded, new, skipped = report.loaded, report.new, report.skipped
        words = [
            f"{word} {', '.join(kinds)}"
            for word, names in (("new:", new), ("skipped:", skipped))
            if (kinds := [kind.strip(".") for kind in KINDS if any(kind in n for n in names)])
        ]
        counts = f"{len(loaded):>8}{len(new):>8}{len(skipped):>9}"
        lines.append(f"{part:<18}{counts}  {'; '.join(words)}".rstrip())
    return "\n".join(lines)


def _load(network: DualUNet, part: str, state: Mapping[str, Tensor]) -> LoadReport:
    condition = part.removeprefix(CONDITION) if part.startswith(CONDITION) else None
    module = getattr(network, part) if condition is None else network.conditions[condition]
    if module is None:
        return LoadReport((), (), tuple(state))
    own = module.state_dict()
    if not state and part.startswith(("audio_", CONDITION)):
        return LoadReport((), tuple(own), ())
    if not state:
        raise ModelError(f"no folder has a {part}; give one that loopy init or loopy export wrote")
    try:
        return load_by_name(
            module,
            state,
            new=tuple(kind for kind in KINDS if not any(kind in name for name in state)),
            skipped=tuple(kind for kind in KINDS if not any(kind in name for name in own)),
        )
    except ModelError as error:
        raise ModelError(f"{part}: {error}") from error


def _stacked(folders: Sequence[Path], part: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in (_file(folder, part) for folder in folders):
        if file.is_file():
            try:
                state |= load_file(file)
            except (SafetensorError, OSError) as error:
                raise ModelError(f"{file} cannot be read ({error}); copy it again") from error
    return state


def _file(folder: Path, part: str) -> Path:
    return part_folder(folder, part) / part / "diffusion_pytorch_model.safetensors"
