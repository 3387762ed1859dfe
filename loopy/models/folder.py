"""A model on disk: a folder in the diffusers form, read strictly.

``model_index.json`` names the class of each part; each part is a folder with its configuration
and its safetensors. Networks are built first and filled by name, so that a missing or misshapen
tensor is an error and never random memory.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import Wav2Vec2Config

from loopy.errors import ModelError
from loopy.models.audio import AudioEncoder, AudioProjection
from loopy.models.audio_to_latents import AudioToLatents
from loopy.models.unet import UNet
from loopy.models.weights import load_by_name

ASSETS = Path(__file__).parents[1] / "assets"
"""Weights that come with the package."""
INDEX = "model_index.json"
PARTS: Mapping[str, tuple[str, str]] = {
    "reference_net": ("loopy.models", "UNet"),
    "denoiser": ("loopy.models", "UNet"),
    "audio_projection": ("loopy.models", "AudioProjection"),
    "audio_to_latents": ("loopy.models", "AudioToLatents"),
    "audio_encoder": ("transformers", "Wav2Vec2Model"),
    "vae": ("diffusers", "AutoencoderKL"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}
"""Name of each part, and the library and class that ``model_index.json`` says it is."""
ABSENT = [None, None]
OPTIONAL = ("audio_projection", "audio_to_latents")
"""Parts that a model may be without; its index says `ABSENT` then, as diffusers does."""

NETWORKS = {
    "UNet": UNet,
    "AudioProjection": AudioProjection,
    "AudioToLatents": AudioToLatents,
    "AutoencoderKL": AutoencoderKL,
}


def read_index(folder: Path) -> dict[str, Any]:
    """Read ``model_index.json``.

    Raises:
        ModelError: It is missing, is no JSON, or names parts that are not ours.
    """
    index = _json(folder / INDEX)
    for part, names in PARTS.items():
        without = part in OPTIONAL and index.get(part) == ABSENT
        if index.get(part) != list(names) and not without:
            raise ModelError(
                f"{folder / INDEX} says {part} is {index.get(part)}, expected {list(names)}; "
                "is it a model of loopy?"
            )
    return index


def load_part(folder: Path, part: str) -> Any:
    """Build one part from its configuration and fill it with its weights.

    Raises:
        ModelError: A file is missing or damaged, or a tensor is missing or of another shape.
    """
    where = folder / part
    if part == "scheduler":
        return _build(DDIMScheduler.from_config, where / "scheduler_config.json")
    if part == "audio_encoder":
        encoder = _build(_audio_encoder, where / "config.json")
        _fill(encoder.network, where / "model.safetensors")
        return encoder
    network = _build(NETWORKS[PARTS[part][1]].from_config, where / "config.json")
    _fill(network, where / "diffusion_pytorch_model.safetensors")
    return network.eval()


def write_index(
    folder: Path, settings: Mapping[str, Any], *, without: Collection[str] = ()
) -> None:
    """Write ``model_index.json``; last of all files, so that an index means a whole model.

    Args:
        folder: Of the model.
        settings: See `loopy.pipeline.Settings`.
        without: Parts of `OPTIONAL` that the model does not have.
    """
    parts = {part: ABSENT if part in without else list(names) for part, names in PARTS.items()}
    index = {"_class_name": "LoopyPipeline", **parts}
    (folder / INDEX).write_text(json.dumps({**index, "settings": settings}, indent=2) + "\n")


def _audio_encoder(config: dict[str, Any]) -> AudioEncoder:
    return AudioEncoder.from_config(Wav2Vec2Config.from_dict(config))


def _build(make: Callable[[dict[str, Any]], Any], path: Path) -> Any:
    config = _json(path)
    try:
        return make(config)
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} describes nothing that can be built ({reason})") from error


def _fill(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"the model lacks {path}; copy the whole folder, or export it again")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({error}); copy it again") from error
    try:
        load_by_name(network, state)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"the model lacks {path}; copy the whole folder, or export it again")
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is not readable JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object; copy it again")
    return content
