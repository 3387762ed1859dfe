"""AnimateDiff's motion module of version 2 as our temporal layers.

Per site it holds norm, project in, two self-attentions over time, feed-forward and project out
(AnimateDiff, arXiv 2307.04725), which is `loopy.nn.temporal.TemporalLayer` with two attentions.
Its positions are a fixed table; ours are learned and start from it.

Version 1 ends at 24 positions and version 3 leaves the middle of the U-Net out: neither fits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers
from torch import Tensor

from loopy.errors import ConfigurationError, LoopyError, ModelError
from loopy.models.tensor_files import Weights, read_tensors

RENAMED = {
    ".transformer_blocks.0.": ".",
    ".norm2.": ".attn2_norm.",
    ".norm3.": ".norm2.",
    ".pos_embed.pe": ".positions",
}
"""diffusers' names to ours, in this order."""


def read_motion_module(path: Path, *, config: Mapping[str, Any], inter_clip: bool) -> Weights:
    """Tensors for the temporal layers of a denoiser, in our names.

    Args:
        path: A diffusers MotionAdapter folder, or one file in the original names.
        config: Of the denoiser (`loopy.models.UNet`), whose layers have two attentions.
        inter_clip: Also for the inter-clip layers, without the output projection: it stays zero,
            so that a new network makes the same with and without a past.

    Raises:
        ModelError: It cannot be read, or is another module.
        ConfigurationError: The denoiser has one attention in a layer, or needs more positions.
    """
    if config["temporal_attentions"] != 2:
        raise ConfigurationError(
            "a motion module has two attentions in a layer; set the denoiser's "
            "temporal_attentions to 2, or give none"
        )
    weights = read_tensors(path)
    try:
        layers = temporal_layers(path, weights.tensors, config=config, inter_clip=inter_clip)
    except LoopyError:
        raise
    except Exception as error:  # of names and shapes that no motion module has
        raise ModelError(f"{path} is no motion module ({error!r:.200})") from error
    return Weights(weights.files, layers)


def temporal_layers(
    path: Path, tensors: Mapping[str, Tensor], *, config: Mapping[str, Any], inter_clip: bool
) -> dict[str, Tensor]:
    """A motion module's tensors in our names; see `read_motion_module`.

    Args:
        path: For messages.
        tensors: In diffusers' or the original names.
        config: Of the denoiser.
        inter_clip: Also for the inter-clip layers.
    """
    state = _diffusers_names(path, tensors)
    _refuse_others(path, state)
    rows = {".intra_clip.": config["clip_frames"]}
    if inter_clip:
        rows[".inter_clip."] = config["motion_slots"] + config["clip_frames"]
    taken: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = name
        for old, new in RENAMED.items():
            ours = ours.replace(old, new)
        for layer, length in rows.items():
            if layer == ".inter_clip." and ".proj_out." in ours:
                continue
            is_table = ours.endswith(".positions")
            value = _first(path, tensor[0], length) if is_table else tensor
            taken[ours.replace(".motion_modules.", layer)] = value
    return taken


def _diffusers_names(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Diffusers' names; the tables of both attentions, which are the same, become one."""
    state = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if not any(".temporal_transformer." in name for name in state):
        return state
    tables = {name: t for name, t in state.items() if name.endswith(".pos_encoder.pe")}
    state = convert_animatediff_checkpoint_to_diffusers(state)
    for name, table in tables.items():
        block = name.replace(".temporal_transformer", "").partition(".attention_blocks.")[0]
        if not torch.equal(state.setdefault(f"{block}.pos_embed.pe", table), table):
            raise ModelError(f"{path}: {name} differs from that of the other attention")
    return state


def _refuse_others(path: Path, state: Mapping[str, Tensor]) -> None:
    """Name the kind of a module that does not fit, by what its names and tables show."""
    kind = None
    tables = [len(t[0]) for name, t in state.items() if name.endswith(".pos_embed.pe")]
    if any("lora" in name for name in state):
        kind = "a LoRA of a motion module"
    elif not any(".motion_modules." in name for name in state):
        kind = "no motion module: no name has .motion_modules."
    elif any("controlnet_" in name for name in state):
        kind = "a SparseCtrl network"
    elif not any(name.startswith("down_blocks.3.") for name in state):
        kind = "a motion module of Stable Diffusion XL: it has three stages"
    elif not any(name.startswith("mid_block.") for name in state):
        longest = max(tables, default=0)
        version = "1" if longest < 32 else "3"
        kind = f"version {version}: {longest} positions, and nothing for the middle of the U-Net"
    if kind:
        raise ModelError(f"{path} seems to be {kind}; give AnimateDiff's version 2 for SD1.5")


def _first(path: Path, table: Tensor, rows: int) -> Tensor:
    if len(table) < rows:
        raise ConfigurationError(
            f"{path} has {len(table)} positions, the layer needs {rows}; use fewer frames or slots"
        )
    return table[:rows]
