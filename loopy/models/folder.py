"""A model on disk: a folder in the diffusers form, read strictly.

``model_index.json`` names the class of each part; each part is a folder with its configuration
and its safetensors. Networks are built first and filled by name, so that a missing or misshapen
tensor is an error and never random memory. The index has a hash of each file of weights, so that
parts of two models, left by a save that was cut off, are an error too.
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
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
from loopy.tensor_file import save_tensors

ASSETS = Path(__file__).parents[1] / "assets"
"""Weights that come with the package."""
INDEX, SHA256 = "model_index.json", "sha256"
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


def save_part(module: Any, folder: Path, part: str, *, dtype: torch.dtype | None = None) -> None:
    """Write one part; each file is whole or as it was. The module stays as it is.

    An index that is there already then names the new weights: written last, so that what is cut
    off before is refused when the model is loaded.

    Args:
        module: The network (of the audio encoder transformers' own will do), or the scheduler.
        folder: Of the model.
        part: One of `PARTS`.
        dtype: Precision of floating-point tensors in the file; None = the module's own.

    Raises:
        OutputError: The weights cannot be written.
        OSError: The configuration cannot be written.
    """
    (folder / part).mkdir(parents=True, exist_ok=True)
    if part == "scheduler":
        _write_text(folder / part / "scheduler_config.json", module.to_json_string())
        return
    network: Any = module.network if isinstance(module, AudioEncoder) else module
    state = {
        name: tensor.to(dtype or tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    words = _said_of(network, dtype) if part == "audio_encoder" else network.to_json_string()
    _write_text(folder / part / "config.json", words)
    save_tensors(folder / _weights(part), state, {"format": "pt"})
    if (folder / INDEX).is_file():
        index = read_index(folder)
        if SHA256 in index:
            index[SHA256][_weights(part)] = _sha256(folder / _weights(part))
            _write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")


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
    files = [_weights(part) for part in PARTS if part not in (*without, "scheduler")]
    hashes = {file: _sha256(folder / file) for file in files}
    index = {"_class_name": "LoopyPipeline", **parts, SHA256: hashes, "settings": settings}
    _write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")


def check_hash(folder: Path, index: Mapping[str, Any], part: str) -> None:
    """Make sure that a part's weights are those that the index was written with.

    Raises:
        ModelError: They are not.
    """
    expected = index.get(SHA256)
    if expected is None or part == "scheduler":  # folders of loopy 1.0 have no hashes
        return
    file = folder / _weights(part)
    if not isinstance(expected, dict) or not isinstance(expected.get(_weights(part)), str):
        raise ModelError(f"{folder / INDEX} has no {SHA256} of {_weights(part)}; copy it again")
    if file.is_file() and _sha256(file) != expected[_weights(part)]:
        raise ModelError(
            f"{file} is not the file that {folder / INDEX} was written with: it is damaged, or of "
            "another model (a save or a copy was cut off); copy or export the model again"
        )


def _weights(part: str) -> str:
    """File of a part's weights, inside the model's folder."""
    return f"{part}/{'model' if part == 'audio_encoder' else 'diffusion_pytorch_model'}.safetensors"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _said_of(network: Any, dtype: torch.dtype | None) -> str:
    """Transformers' configuration, as its own `save_pretrained` would write it."""
    config = copy.deepcopy(network.config)
    config.architectures = [type(network).__name__]
    config.dtype = dtype or network.dtype
    return config.to_json_string()


def _write_text(path: Path, text: str) -> None:
    hidden = path.with_name(f".{uuid4().hex}{path.suffix}")
    try:
        hidden.write_text(text)
        os.replace(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


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
