"""wav2vec2 out of a transformers folder or from the hub, read strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, Wav2Vec2Model

from loopy.errors import ModelError
from loopy.models.audio import AudioEncoder, audio_encoder_config
from loopy.models.weights import LoadReport, listed, load_by_name

NEW = ("masked_spec_embed",)
"""Stands for hidden sound while wav2vec2 itself is trained; many files lack it."""
SKIPPED = ("lm_head.", "quantizer.", "project_q.", "project_hid.")
"""Heads of its own training: letters, and what it learned before them."""
RATE = 320
"""Samples a vector of wav2vec2 stands for: 50 a second."""


def read_audio_encoder(
    source: str, *, config: Mapping[str, Any]
) -> tuple[AudioEncoder, LoadReport, tuple[Path, ...]]:
    """Load a wav2vec2 network for our audio projection.

    transformers reads it, so old names (``wav2vec2.`` before all, ``weight_g``, ``weight_v``) and
    ``pytorch_model.bin`` are as good as new ones.

    Args:
        source: A folder; or a hub id, and only then the hub is asked.
        config: Of the audio projection (`loopy.models.AudioProjection`): layers and width.

    Returns:
        The encoder, what was loaded, and its files (none for a hub id).

    Raises:
        ModelError: It is not there, is no wav2vec2, has another size, or strange or missing names.
    """
    folder = Path(source)
    local = folder.is_dir()
    try:
        says, _ = PreTrainedConfig.get_config_dict(source, local_files_only=local)
        _check_size(source, says, config)
        pair: Any = Wav2Vec2Model.from_pretrained(
            source,
            config=audio_encoder_config(says),
            output_loading_info=True,
            dtype=torch.float32,
            local_files_only=local,
        )
    except ModelError:
        raise
    except Exception as error:  # the libraries' own, of whatever is in the files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        place = "no wav2vec2" if local else "no folder, and no wav2vec2 of the hub"
        raise ModelError(f"{source} is {place} that can be loaded ({reason})") from error
    network, told = pair
    missing, left = sorted(told["missing_keys"]), sorted(told["unexpected_keys"])
    wrong = [f"lacks {n}" for n in missing if not n.endswith(NEW)]
    wrong += [f"has {n}" for n in left if not n.startswith(SKIPPED)]
    if wrong:
        raise ModelError(f"{source} {listed(wrong)}; is it a wav2vec2 network?")
    # a fresh one, for a network that transformers has renamed is saved in its old names again
    encoder = AudioEncoder.from_config(network.config)
    names = load_by_name(encoder.network, network.state_dict()).loaded
    loaded = tuple(name for name in names if name not in missing)
    report = LoadReport(loaded, tuple(missing), tuple(left))
    return encoder, report, _files(folder) if local else ()


def _check_size(source: str, says: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    if says.get("model_type") != "wav2vec2":
        raise ModelError(f"{source} is a {says.get('model_type')} network; give a wav2vec2")
    found = says.get("num_hidden_layers", 12) + 1, says.get("hidden_size", 768)
    wanted = config["layers"], config["width"]
    if found != wanted:
        raise ModelError(
            f"{source} has {found[0]} layers of width {found[1]}, the audio projection expects "
            f"{wanted[0]} of {wanted[1]}; give wav2vec2-base, or a --config with that size"
        )
    stride = torch.tensor(says.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))).prod()
    if stride != RATE:
        raise ModelError(f"{source} has a vector for {stride} samples, expected {RATE}")


def _files(folder: Path) -> tuple[Path, ...]:
    """The weights that transformers takes: safetensors where there are any."""
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        if found := sorted(folder.glob(pattern)):
            return tuple(found)
    return ()
