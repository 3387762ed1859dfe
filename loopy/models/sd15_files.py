"""Stable Diffusion 1.5's U-Net and autoencoder: a diffusers folder, or one file in old names.

Old names (``model.diffusion_model.input_blocks...``) are turned into diffusers' by diffusers' own
functions, given our configuration: its loader of single files would ask the hub for one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor

from loopy.errors import ModelError
from loopy.models.tensor_files import Weights, read_config, read_tensors
from loopy.models.weights import listed

Convert = Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]
UNET, AUTOENCODER = "model.diffusion_model.", "first_stage_model."
BESIDE: Mapping[str, str] = {
    UNET: "U-Net",
    AUTOENCODER: "autoencoder",
    "cond_stage_model.": "text encoder",
    "model_ema.": "averaged copy of the weights",
    "loss.": "the autoencoder's judge",
    "alphas_cumprod": "noise schedule",
    "betas": "noise schedule",
    "log_one_minus_alphas_cumprod": "noise schedule",
    "logvar": "noise schedule",
    "posterior_": "noise schedule",
    "sqrt_": "noise schedule",
}
"""What a single file may hold beside the part that is wanted: beginning of a name -> what it is."""
SIGNS: Mapping[str, str] = {
    "add_embedding.": "Stable Diffusion XL",
    "conditioner.embedders.": "Stable Diffusion XL",
    "label_emb.": "Stable Diffusion XL",
    "cond_stage_model.model.": "Stable Diffusion 2",
    "joint_blocks.": "Stable Diffusion 3",
    "double_blocks.": "Flux",
    "lora_": "a LoRA",
    "control_model.": "a ControlNet",
    "controlnet_": "a ControlNet",
    "motion_modules.": "a motion module",
    "wav2vec2.": "a speech network",
}
"""Parts of names that only other kinds of files have."""
TEXT_WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
INPUTS = {8: "a U-Net that edits pictures", 9: "a U-Net for inpainting"}
OLD_ATTENTION = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
"""Names in autoencoder folders of 2022 and 2023, SD1.5's own among them."""


def read_unet(path: Path, *, config: Mapping[str, Any], text_width: int) -> Weights:
    """SD1.5's U-Net in diffusers' names.

    Args:
        path: A diffusers folder (with ``unet/`` inside, or that one itself), or one file.
        config: Of the denoiser it is for (`loopy.models.UNet`).
        text_width: Width of the text tokens it was trained with.

    Raises:
        ModelError: It cannot be read, holds no U-Net, one of another kind, or strange names.
    """
    folder = path / "unet" if (path / "unet").is_dir() else path
    weights = read_tensors(folder)
    for sign, kind in SIGNS.items():
        if any(sign in name for name in weights.tensors):
            raise ModelError(f"{path} seems to be {kind} (it has {sign}*); give SD1.5")
    if not any(name.startswith("mid_block.") for name in weights.tensors):
        weights = in_diffusers_names(path, weights, UNET, convert_ldm_unet_checkpoint, config)
    keys = next((t for n, t in weights.tensors.items() if n.endswith("attn2.to_k.weight")), None)
    width = text_width if keys is None or keys.ndim < 2 else keys.shape[1]
    if width != text_width:
        kind = TEXT_WIDTHS.get(width, "another U-Net")
        raise ModelError(
            f"{path} seems to be {kind}: its text tokens have a width of {width}, expected "
            f"{text_width}; give SD1.5"
        )
    first = weights.tensors.get("conv_in.weight")
    inputs = config["in_channels"] if first is None or first.ndim < 2 else first.shape[1]
    if inputs in INPUTS and inputs != config["in_channels"]:
        raise ModelError(f"{path} seems to be {INPUTS[inputs]} ({inputs} inputs); give SD1.5")
    names = ("in_channels", "block_out_channels", "layers_per_block", "norm_num_groups")
    # diffusers calls the number of heads attention_head_dim
    heads = {"attention_head_dim": config["heads"], "cross_attention_dim": text_width}
    _same_config(folder, {name: config[name] for name in names} | heads)
    return weights


def read_vae(path: Path, *, config: Mapping[str, Any]) -> Weights:
    """SD1.5's autoencoder in diffusers' names.

    Args:
        path: A diffusers folder (with ``vae/`` inside, or that one itself), one file with all of
            SD1.5 inside, or the autoencoder's own file.
        config: Of the AutoencoderKL it is for.

    Raises:
        ModelError: It cannot be read, holds no autoencoder, one of another kind, or strange names.
    """
    folder = path / "vae" if (path / "vae").is_dir() else path
    weights = read_tensors(folder)
    if any(name.startswith("encoder.mid_block.") for name in weights.tensors):
        modern = {_modern(name): tensor for name, tensor in weights.tensors.items()}
        weights = Weights(weights.files, modern)
    else:
        whole = any(name.startswith(AUTOENCODER) for name in weights.tensors)
        prefix = AUTOENCODER if whole else ""
        weights = in_diffusers_names(path, weights, prefix, convert_ldm_vae_checkpoint, config)
    # SDXL's autoencoder has the same names and shapes, and another scale
    names = ("latent_channels", "block_out_channels", "layers_per_block", "scaling_factor")
    _same_config(folder, {name: config[name] for name in names})
    return weights


def in_diffusers_names(
    path: Path, weights: Weights, prefix: str, convert: Convert, config: Mapping[str, Any]
) -> Weights:
    """One part of a single file in diffusers' names; nothing of it gets lost on the way.

    Args:
        path: For messages.
        weights: All tensors of the file.
        prefix: Beginning of the part's names; empty where the file holds nothing else.
        convert: diffusers' function.
        config: What it asks: layers per block, types of blocks.

    Raises:
        ModelError: The part is not there, or a name is in no part.
    """
    beginnings = tuple(word for word in BESIDE if word != prefix)
    others = tuple(name for name in weights.tensors if name.startswith(beginnings))
    rest = {name: t for name, t in weights.tensors.items() if name not in set(others)}
    own = {name: tensor for name, tensor in rest.items() if name.startswith(prefix)}
    part = BESIDE.get(prefix, BESIDE[AUTOENCODER])
    if not own:
        names = sorted({name.partition(".")[0] for name in weights.tensors})
        raise ModelError(f"{path} has no {part}; its names begin with {listed(names)}")
    try:
        taken = convert(dict(own), config)
    except Exception as error:  # diffusers' own, of names that it does not expect
        raise ModelError(f"{path} has no {part} of SD1.5 ({error!r:.200})") from error
    kept = {tensor.data_ptr() for tensor in taken.values()}
    if strange := [n for n, t in rest.items() if n not in own or t.data_ptr() not in kept]:
        raise ModelError(f"{path} has {listed(strange)}; no {part} of SD1.5 does")
    return Weights(weights.files, taken, others)


def _modern(name: str) -> str:
    if ".attentions." in name:
        for old, new in OLD_ATTENTION.items():
            name = name.replace(old, new)
    return name


def _same_config(folder: Path, expected: Mapping[str, Any]) -> None:
    """Compare what shapes cannot show."""
    says = read_config(folder)
    for name, value in expected.items():
        wanted = list(value) if isinstance(value, tuple) else value
        if says.get(name, wanted) != wanted:
            raise ModelError(
                f"{folder / 'config.json'} says {name} {says[name]}, expected {wanted}; give the "
                "files that the configuration describes"
            )
