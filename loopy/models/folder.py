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
from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import nn

from loopy.drafts import existing_folder, writing
from loopy.errors import ModelError
from loopy.models.audio import AudioEncoder, AudioProjection, audio_encoder_config
from loopy.models.audio_to_latents import AudioToLatents
from loopy.models.condition import FrameCondition
from loopy.models.narrow import NarrowDecoderKL
from loopy.models.tensor_files import check_there, read_object, read_tensors
from loopy.models.tiny import NormedTiny
from loopy.models.unet import UNet
from loopy.models.weights import load_by_name
from loopy.paths import path_of
from loopy.tensor_file import save_tensors

ASSETS = Path(__file__).parents[1] / "assets"
"""Weights that come with the package."""
INDEX, SHA256 = "model_index.json", "sha256"
CONDITION = "condition_"
"""Before the name of a further condition: the folder of its part."""
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
DIFFUSERS: Mapping[str, tuple[str, ...]] = {
    "vae": ("AutoencoderKL", "AutoencoderTiny", "NormedTiny", "NarrowDecoderKL"),
    "scheduler": (
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "UniPCMultistepScheduler",
    ),
}
"""Classes of diffusers, or ours, that these parts may be; no other name of it is looked up."""
OURS = {each.__name__: each for each in (NormedTiny, NarrowDecoderKL)}
ABSENT = [None, None]
OPTIONAL = ("audio_projection", "audio_to_latents", "audio_encoder")
"""Parts that a model may be without; its index says `ABSENT` then, as diffusers does."""
NETWORKS = {each.__name__: each for each in (UNet, AudioProjection, AudioToLatents)}
COUNTS = (
    "layers_per_block", "temporal_attentions", "num_hidden_layers", "num_train_timesteps",
    "num_encoder_blocks", "num_decoder_blocks", "solver_order",
)  # fmt: skip
"""Numbers of a configuration that decide how many layers or steps are built."""
MOST_TIMESTEPS = 100_000


def find_folder(model: str | Path) -> Path:
    """Folder of a model: an embedded one, a folder on disk, or a copy of one from the hub.

    Args:
        model: Name of an embedded model, a folder, or owner/name.

    Raises:
        ModelError: There is none of these.
    """
    path = path_of(model, ModelError)
    embedded = [ASSETS / path] if str(path) == path.name != ".." else []  # no way out of there
    for folder in [*embedded, path]:
        if os.path.isdir(folder):  # unlike Path.is_dir, False for any name that cannot be
            return folder
    known = ", ".join(sorted(p.parent.name for p in ASSETS.glob("*/model_index.json")))
    lost = f"no model {str(model)!r:.200}: give an embedded one ({known}), a folder, or owner/name"
    if str(model).count("/") != 1 or str(model).startswith((".", "/")):
        raise ModelError(lost)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(model)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"{lost} that can be reached ({type(error).__name__})") from error


def read_places(model: str | Path) -> dict[str, Path]:
    """What of a model is read, by words for it: its index, and the folders of its parts.

    Results may lie beside them, so that a model's own folder may be the current one.

    Args:
        model: As of `find_folder`.

    Raises:
        ModelError: There is no such model.
    """
    folder = find_folder(model)
    further = [path.name for path in folder.glob(f"{CONDITION}*")]
    return {f"the model's {name}": folder / name for name in (INDEX, *PARTS, *further)}


def read_index(folder: Path) -> dict[str, Any]:
    """Read ``model_index.json``.

    Raises:
        ModelError: It is missing, is no JSON, or names parts that are not ours.
    """
    index = read_object(folder / INDEX)
    for part, names in PARTS.items():
        may_be = [_named(name) for name in DIFFUSERS.get(part, ())] or [list(names)]
        if index.get(part) not in ([*may_be, ABSENT] if part in OPTIONAL else may_be):
            raise ModelError(
                f"{folder / INDEX} says {part} is {index.get(part)}, expected {list(names)}; "
                "is it a model of loopy?"
            )
    further = index.get("conditions", [])
    fit = isinstance(further, list) and all(str(name).isidentifier() for name in further)
    if not fit or any(hasattr(nn.ModuleDict, str(name)) for name in further):
        raise ModelError(f"{folder / INDEX}: conditions is {further!r:.80}, expected names")
    return index


def part_folder(folder: Path, part: str) -> Path:
    """Where a part lies: in the model's folder, or in that of the embedded model it is based on.

    ``base`` in an index names an embedded model, whose parts are those that the folder lacks.

    Raises:
        ModelError: It is based on something else.
    """
    if (folder / part).is_dir() or not (folder / INDEX).is_file():
        return folder
    if (base := read_object(folder / INDEX).get("base")) is None:
        return folder
    known = sorted(each.parent.name for each in ASSETS.glob("*/model_index.json"))
    if base not in known:
        raise ModelError(f"{folder / INDEX}: base is {base!r:.80}, expected one of {known}")
    return ASSETS / base


def load_part(folder: Path, part: str) -> Any:
    """Build one part from its configuration and fill it with its weights.

    Raises:
        ModelError: A file is missing or damaged, or a tensor is missing or of another shape.
    """
    folder = part_folder(folder, part)
    if part == "scheduler":
        path = folder / part / "scheduler_config.json"
        config = read_object(path)
        _check_counts(config, MOST_TIMESTEPS, path)
        return _build(_class(config, part, path).from_config, config, path)
    return _network(folder / part / "config.json", folder / _weights(part), part)


def load_parts(
    folder: Path, index: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All parts of a model, as its index names them, and its further conditions.

    Args:
        folder: The model.
        index: From `read_index`.
        given: What stands in the place of the model's own, which is not read then; or None.

    Raises:
        ModelError: As of `load_part`; a part is of another model; or no audio encoder is there.
    """
    parts = {name: part for name, part in given.items() if part is not None}
    for part in (part for part in PARTS if part not in parts and index[part] != ABSENT):
        check_hash(part_folder(folder, part), index, part)
        parts[part] = load_part(folder, part)
    if "audio_encoder" not in parts:
        raise ModelError(
            f"{folder} has no audio encoder: it was saved with one that is no wav2vec2; give "
            "it to LoopyPipeline.from_pretrained(..., audio_encoder=...)"
        )
    conditions = dict[str, Any]()
    for name in index.get("conditions", []):
        check_hash(folder, index, CONDITION + name)
        conditions[name] = load_part(folder, CONDITION + name)
    return parts, conditions


def load_audio_encoder(folder: Path) -> AudioEncoder:
    """An audio encoder in a folder of its own, which is no part of a model.

    Raises:
        ModelError: As of `load_part`.
    """
    file = folder / Path(_weights("audio_encoder")).name
    return _network(folder / "config.json", file, "audio_encoder")


def _network(path: Path, file: Path, part: str) -> Any:
    """A part out of its two files."""
    config = read_object(path)
    check_there(file)
    state = read_tensors(file).tensors  # mapped: no memory is taken yet
    if config.get("_class_name") == "AutoencoderTiny":  # writes one it does not read
        config.pop("block_out_channels", None)
    name = config.get("_class_name")
    if isinstance(name, str) and name in OURS:  # the rest is what all of them are
        known = signature(OURS[name]).parameters
        config = {name: value for name, value in config.items() if name in known} | {
            "_class_name": name
        }
    _check_counts(config, len(state), path)
    make = _audio_encoder if part == "audio_encoder" else _class(config, part, path).from_config
    with torch.device("meta"):
        built = _build(make, config, path)
    network: nn.Module = built.network if isinstance(built, AudioEncoder) else built
    try:
        load_by_name(network, state)  # on meta: are they the names and shapes?
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    if broken := next((name for name, t in state.items() if not t.isfinite().all()), None):
        raise ModelError(f"{file}: {broken} is not finite; export an older checkpoint of its run")
    own = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    copies = {name: tensor.to(own[name], copy=True) for name, tensor in state.items()}
    network.load_state_dict(copies, assign=True)
    return built.eval()


def save_part(module: Any, folder: Path, part: str, *, dtype: torch.dtype | None = None) -> None:
    """Write one part; each file is whole or as it was. The module stays as it is.

    An index that is there already then names the new weights: written last, so that what is cut
    off before is refused when the model is loaded.

    Args:
        module: The network (of the audio encoder transformers' own will do), or the scheduler.
        folder: Of the model.
        part: One of `PARTS`, or `CONDITION` and a name.
        dtype: Precision of floating-point tensors in the file; None = the module's own.

    Raises:
        ModelError: See `check_saveable`; or the folder holds another model.
        OutputError: It cannot be written there.
    """
    check_saveable(module, part)
    index = read_index(folder) if (folder / INDEX).is_file() else {}  # before anything is written
    existing_folder(folder / part)
    if part == "scheduler":
        with writing(folder / part / "scheduler_config.json") as hidden:
            hidden.write_text(module.to_json_string())
        return
    network: Any = module.network if isinstance(module, AudioEncoder) else module
    state = {
        name: tensor.to(dtype or tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    words = _said_of(network, dtype) if part == "audio_encoder" else network.to_json_string()
    with writing(folder / part / "config.json") as hidden:
        hidden.write_text(words)
    save_tensors(folder / _weights(part), state, {"format": "pt"})
    if SHA256 in index:
        index[SHA256][_weights(part)] = _sha256(folder / _weights(part))
        _write_index(folder, index)


def check_saveable(module: Any, part: str) -> None:
    """Make sure that a folder can hold a part, before anything of it is written.

    Raises:
        ModelError: An audio encoder, an autoencoder or a scheduler of another class.
    """
    known = {**DIFFUSERS, "audio_encoder": ("AudioEncoder", "Wav2Vec2Model")}
    name = type(module).__name__
    if name not in known.get(part, (name,)):
        raise ModelError(
            f"a model folder holds {' or '.join(known[part])} as its {part}, not {name}: keep "
            f"yours apart, and give it to LoopyPipeline.from_pretrained(..., {part}=...)"
        )


def write_model_index(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    without: Collection[str] = (),
    conditions: Collection[str] = (),
) -> None:
    """Write ``model_index.json``; last of all files, so that an index means a whole model.

    Args:
        folder: Of the model.
        settings: See `loopy.diffusion.settings.Settings`.
        without: Parts of `OPTIONAL` that the model does not have.
        conditions: Names of its further conditions.
    """
    parts = {part: ABSENT if part in without else list(names) for part, names in PARTS.items()}
    for part, file in (("vae", "config.json"), ("scheduler", "scheduler_config.json")):
        named = _class(read_object(folder / part / file), part, folder)
        parts[part] = _named(named.__name__)
    files = [_weights(part) for part in PARTS if part not in (*without, "scheduler")]
    files += [_weights(CONDITION + name) for name in conditions]
    hashes = {file: _sha256(folder / file) for file in files}
    if conditions:
        parts["conditions"] = list(conditions)
    index = {"_class_name": "LoopyPipeline", **parts, SHA256: hashes, "settings": settings}
    _write_index(folder, index)


def check_hash(folder: Path, index: Mapping[str, Any], part: str) -> None:
    """Make sure that a part's weights are those that the index was written with.

    Raises:
        ModelError: They are not.
    """
    expected = index.get(SHA256)
    if expected is None or part == "scheduler":  # older folders have no hashes
        return
    file = folder / _weights(part)
    if not isinstance(expected, dict) or not isinstance(expected.get(_weights(part)), str):
        raise ModelError(f"{folder / INDEX} has no {SHA256} of {_weights(part)}; copy it again")
    if file.is_file() and _sha256(file) != expected[_weights(part)]:
        raise ModelError(
            f"{file} is not the file that {folder / INDEX} was written with: it is damaged, or of "
            "another model (a save or a copy was cut off); copy or export the model again"
        )


def _write_index(folder: Path, index: Mapping[str, Any]) -> None:
    with writing(folder / INDEX) as hidden:
        hidden.write_text(json.dumps(index, indent=2) + "\n")


def _class(config: Mapping[str, Any], part: str, path: Path) -> Any:
    """The class of a part: ours, or the one of diffusers that its configuration names."""
    if part.startswith(CONDITION):
        return FrameCondition
    if part not in DIFFUSERS:
        return NETWORKS[PARTS[part][1]]
    name = config.get("_class_name", PARTS[part][1])
    if name not in DIFFUSERS[part]:
        raise ModelError(f"{path} is a {name!r:.80}, which cannot be the {part} of a model")
    return OURS.get(name) or getattr(diffusers, name)


def _named(name: str) -> list[str]:
    """Library and class of a part, as ``model_index.json`` says them."""
    return ["loopy.models" if name in OURS else "diffusers", name]


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


def _audio_encoder(config: dict[str, Any]) -> AudioEncoder:
    return AudioEncoder.from_config(audio_encoder_config(config))


def _build(make: Callable[[dict[str, Any]], Any], config: dict[str, Any], path: Path) -> Any:
    try:
        return make(config)
    except Exception as error:  # the libraries' own, of any value in it
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{path} describes nothing that can be built ({reason})") from error


def _check_counts(config: Mapping[str, Any], most: int, path: Path) -> None:
    """Refuse numbers of layers that no file of so many tensors has: they take long to build."""
    for name in COUNTS:
        value = config.get(name)
        each = value if isinstance(value, list) else [value]
        numbers = [number for number in each if isinstance(number, int | float)]
        if not 0 <= sum(numbers) <= most or min(numbers, default=0) < 0:
            raise ModelError(f"{path} describes nothing that can be built ({name}: {value!r:.80})")
