"""`loopy init`: an untrained model of real size, out of the weights that others have trained."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDIMScheduler

from loopy.commands.init_report import grouped, init_table, is_made, write_init_record
from loopy.commands.parsing import parsed
from loopy.data.media.finished import content_hash
from loopy.data.media.outputs import check_outputs
from loopy.diffusion.objective import check_schedule
from loopy.diffusion.settings import Settings
from loopy.drafts import draft, folder_of_results, output_errors
from loopy.errors import ConfigurationError
from loopy.models import DualUNet, LoadReport, load_by_name, load_sd15
from loopy.models.folder import save_part, write_model_index
from loopy.models.motion_module import read_motion_module
from loopy.models.sd15_files import read_unet, read_vae
from loopy.models.speech_files import read_audio_encoder
from loopy.models.tensor_files import Weights
from loopy.models.weights import fingerprint
from loopy.randomness import generator

Fill = Callable[[Any], LoadReport]


def init(
    *,
    sd15: Path,
    wav2vec2: str,
    out: Path,
    vae: Path | None = None,
    motion_module: Path | None = None,
    inter_clip_from_motion_module: bool = False,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    seed: int = 0,
    network: DualUNet,
    autoencoder: dict[str, Any],
    scheduler: DDIMScheduler,
    settings: Settings,
    text_width: int,
) -> None:
    """Makes an untrained model folder out of parts on this disk; what has no part is new.

    Args:
        sd15: Stable Diffusion 1.5: its diffusers folder, or one file (.safetensors, .ckpt).
        wav2vec2: A transformers folder, or a hub id, which is the only thing ever fetched.
        out: The model's folder, a new one.
        vae: Another autoencoder with the same latents: a folder or a file; that of --sd15 if not
            given.
        motion_module: AnimateDiff's, version 2: a diffusers folder or one file; without it the
            temporal layers are new.
        inter_clip_from_motion_module: Put it into the layers that see the past too, silent at
            first.
        dtype: Of the four networks that are trained; the two frozen ones stay float32.
        seed: Of all that is new.
        network: The networks (from --config), on the meta device.
        autoencoder: Configuration of SD1.5's AutoencoderKL (from --config).
        scheduler: The noise schedule (from --config).
        settings: What belongs to the model besides its weights (from --config).
        text_width: Width of the text tokens that SD1.5 was trained with (from --config).

    Raises:
        LoopyError: A part is missing or of another kind, a name nobody expects, or no room.
    """
    parts = {"sd15": sd15, "wav2vec2": Path(wav2vec2), "vae": vae, "motion_module": motion_module}
    check_outputs({"model": out}, {name: path for name, path in parts.items() if path is not None})
    if network.audio_projection is None or network.audio_to_latents is None:
        raise ConfigurationError("a whole model has audio_projection and audio_to_latents")
    if inter_clip_from_motion_module and motion_module is None:
        raise ConfigurationError("inter_clip_from_motion_module needs a --motion_module")
    check_schedule(scheduler)
    settings.check(network)
    denoiser = network.denoiser.config
    unet = read_unet(sd15, config=denoiser, text_width=text_width)
    decoder = _autoencoder(autoencoder)
    pictures = read_vae(vae or sd15, config=decoder.config)
    motion = Weights((), {})
    if motion_module is not None:
        motion = read_motion_module(
            motion_module, config=denoiser, inter_clip=inter_clip_from_motion_module
        )
    fills: Mapping[str, Fill] = {
        "reference_net": lambda net: load_sd15(net, unet.tensors),
        "denoiser": lambda net: load_sd15(net, unet.tensors, motion=motion.tensors),
        "audio_projection": lambda net: LoadReport((), tuple(net.state_dict()), ()),
        "audio_to_latents": lambda net: LoadReport((), tuple(net.state_dict()), ()),
        "vae": lambda net: load_by_name(net, pictures.tensors),
    }
    plans: dict[str, Any] = {part: getattr(network, part, decoder) for part in fills}
    for part, fill in fills.items():
        fill(plans[part])  # names and shapes, before anything takes long
    with _seeded(seed, "audio_encoder"):
        hearing, heard, files = read_audio_encoder(
            wav2vec2, config=plans["audio_projection"].config
        )
    _say("every name and shape fits; hashing the files")
    read = {"sd15": (sd15, unet), "vae": (vae or sd15, pictures)}
    read |= {"motion_module": (motion_module, motion)} if motion_module is not None else {}
    sources: dict[str, dict[str, Any]] = {
        name: {"path": str(path), "sha256": _hashes(of.files), "skipped": grouped(of.skipped)}
        for name, (path, of) in read.items()
    }
    speech = _hashes(files) if files else {wav2vec2: fingerprint(hearing.network)}
    sources["wav2vec2"] = {"path": wav2vec2, "sha256": speech, "skipped": {}}
    options = {
        "seed": seed,
        "dtype": dtype,
        "inter_clip_from_motion_module": inter_clip_from_motion_module,
        "settings": asdict(settings),
        "scheduler": _plain(scheduler.config),
        "networks": {part: _plain(plan.config) for part, plan in plans.items()},
    }
    hashes = {name: sorted(source["sha256"].values()) for name, source in sources.items()}
    made_of = json.loads(json.dumps({"options": options, "sources": hashes}))
    if is_made(out, made_of):
        _say(f"{out} is there already, made of just this")
        print(init_table(out))
        return
    folder_of_results(out.parent)
    reports: dict[str, LoadReport] = {}
    with draft(out, folder=True) as folder, output_errors(out):
        for part, fill in fills.items():
            built = _built(plans[part], seed, part)
            reports[part] = fill(built)
            save_part(built, folder, part, dtype=None if part == "vae" else getattr(torch, dtype))
            del built  # before the next one
        reports["audio_encoder"] = heard
        save_part(hearing, folder, "audio_encoder")
        save_part(scheduler, folder, "scheduler")
        write_init_record(folder, made_of, sources, reports)
        write_model_index(folder, asdict(settings))
    print(init_table(out))


def run(words: Sequence[str]) -> None:
    """Runs the verb with the words behind it."""
    with torch.device("meta"):  # names and shapes, without memory
        options = parsed(init, words[1:], verb="init", config="The model: configs/sd15/model.yaml.")
    init(**options)


def _built(plan: Any, seed: int, part: str) -> Any:
    millions = sum(p.numel() for p in plan.parameters()) / 1e6
    _say(f"{part}: {millions:.0f} million parameters")
    with _seeded(seed, part):
        return type(plan).from_config(plan.config)


def _autoencoder(config: dict[str, Any]) -> AutoencoderKL:
    """On the meta device; its own type hints are too narrow for jsonargparse."""
    try:
        with torch.device("meta"):
            return AutoencoderKL(**config)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"autoencoder: {error}; see configs/sd15/model.yaml") from error


@contextmanager
def _seeded(seed: int, part: str) -> Iterator[None]:
    """New weights of a part depend on nothing but the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "init", part).initial_seed())
        yield


def _hashes(files: Sequence[Path]) -> dict[str, str]:
    return {str(file): content_hash(file, "file") for file in files}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without diffusers' own notes in it."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def _say(words: str) -> None:
    print(f"loopy: {words}", file=sys.stderr, flush=True)
