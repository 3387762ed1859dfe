"""`loopy preprocess`: talking videos to a shot store."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from loopy.commands.parsing import parsed
from loopy.data.media.outputs import check_outputs
from loopy.data.store.description import (
    NAME,
    StoreDescription,
    check_space,
    create_store,
    estimate_size,
)
from loopy.data.store.index_build import build_index
from loopy.devices import usable
from loopy.errors import ConfigurationError, MediaError
from loopy.models.folder import load_part
from loopy.models.latents import latents_shape
from loopy.models.weights import store_fingerprints
from loopy.preprocess.engines import RayOptions, part_of, prepare_all
from loopy.preprocess.ledger import known_seconds
from loopy.preprocess.options import PreprocessOptions
from loopy.preprocess.prepare import Networks, Preparer, config_of
from loopy.preprocess.remote_videos import Source
from loopy.preprocess.report import listed_shots, store_report
from loopy.preprocess.sources import find_videos, seconds_of
from loopy.timing import FPS

MAX_LENGTHS = 2000
"""Videos of which the lengths are read for the estimate."""


def preprocess(
    videos: str,
    store: Path,
    *,
    parts: Path,
    options: PreprocessOptions = PreprocessOptions(),  # noqa: B008 (frozen)
    workers: int = 0,
    engine: Literal["processes", "ray"] = "processes",
    ray: RayOptions = RayOptions(),  # noqa: B008 (frozen)
    shard: str | None = None,
    max_errors: int = 10,
    validation: float | None = None,
    test: float | None = None,
    device: str = "cpu",
    yes: bool = False,
) -> int:
    """Turns talking videos into a shot store, or goes on where it stopped.

    Args:
        videos: A folder, a list (.txt), a pattern, one video, or an address (s3://bucket/folder).
        store: The folder of the store.
        parts: Folder with the ``vae`` and the ``audio_encoder``, a model folder for example.
        options: How.
        workers: Processes; 0 works in this one. With Ray, cores of this machine; 0 uses all.
        engine: Processes of this machine, or Ray (extra ``ray``).
        ray: Where Ray works, and with what.
        shard: i/n: only every n-th video from the i-th on, for n jobs on n machines. After the
            last one, `loopy data index` makes the index.
        max_errors: Videos that may fail for an unforeseen reason; one more ends the run.
        validation: Share of the people held out to follow a training; as in the index that is
            there if not given, else 0.02.
        test: Share of the people held out for the end, likewise.
        device: Where the networks compute; with Ray, "cpu" or "cuda".
        yes: Also if it takes more than 80 % of the free space.

    Returns:
        How many videos are not finished, for a reason that the next run may not meet.

    Raises:
        LoopyError: No videos, no models, no space, or a store of another kind.
    """
    found = find_videos(videos)
    check_outputs(
        {
            "store": store / NAME,
            "the store's shots": store / "clips",
            "the store's records of videos": store / "videos",
        },
        {f"{part} of --parts": parts / part for part in ("vae", "audio_encoder")}
        | {f"video {number}": path for number, path in enumerate(_on_disk(found), 1)},
    )
    chosen = found if shard is None else part_of(found, shard)
    if engine == "ray":
        here, ray = "cpu", _with_gpus(ray, device)  # this machine may have no GPU
    else:
        here = device = str(usable(device))
    first = _preparer(store, options, parts, here)
    if engine != "ray" or options.estimator_options.get("device", "cpu") == "cpu":
        first.load_all()  # what is missing is said before anything is computed
    description = _description(first, options)
    size = estimate_size(_frames(store, found), description)
    print(f"{len(found)} videos; the store takes {size / 1e9:.2f} GB at most", file=sys.stderr)
    there = sum(path.stat().st_size for path in store.glob("clips/*/*.safetensors"))
    check_space(store, max(size - there, 0), yes=yes)
    create_store(store, description)
    load = partial(_networks, parts, device)
    make = partial(Preparer, store, options, first.config, load)
    ledgers = prepare_all(
        make if workers or engine == "ray" else lambda: first,
        chosen,
        workers=workers,
        max_errors=max_errors,
        ray=ray if engine == "ray" else None,
    )
    left = kept = 0
    for ledger in (bar := tqdm(ledgers, desc="videos", unit="video", total=len(chosen))):
        left += not ledger.finished
        kept += sum(shot.status == "kept" for shot in ledger.shots)
        if ledger.error:
            bar.write(f"loopy: unusable: {ledger.error}", file=sys.stderr)
    if shard is None:
        build_index(store, keep=listed_shots(store), validation=validation, test=test)
        print(store_report(store))
    else:
        shares = {"validation": validation, "test": test}
        words = [f" --{name} {share}" for name, share in shares.items() if share is not None]
        command = f"loopy data index {store}{''.join(words)}"
        print(f"shard {shard} is done; after the last one: {command}")
    if not kept and chosen:
        raise MediaError(f"not one shot came of {len(chosen)} videos; see the reasons above")
    if left:
        print(f"{left} videos are not finished; run again", file=sys.stderr)
    return left


def run(words: Sequence[str]) -> int:
    """Runs the verb with its arguments.

    Returns:
        The exit code: 1 if a video is not finished.
    """
    config = "A YAML file with any of these."
    return int(preprocess(**parsed(preprocess, words[1:], verb="preprocess", config=config)) > 0)


def _on_disk(videos: Sequence[Source]) -> Iterator[Path]:
    """One video of each folder of this disk."""
    yield from {path.parent: path for path in videos if isinstance(path, Path)}.values()


def _preparer(store: Path, options: PreprocessOptions, parts: Path, device: str) -> Preparer:
    networks = _networks(parts, device)
    config = config_of(options, store_fingerprints(*networks))
    return Preparer(store, options, config, lambda: networks)


def _networks(parts: Path, device: str) -> Networks:
    return Networks(
        load_part(parts, "vae").to(device), load_part(parts, "audio_encoder").to(device)
    )


def _with_gpus(ray: RayOptions, device: str) -> RayOptions:
    """On CUDA each encoder has a GPU of its own, unless options say otherwise."""
    if device not in ("cpu", "cuda"):
        raise ConfigurationError(f"Ray assigns the GPUs itself; --device cuda, not {device}")
    needs_gpu = device == "cuda" and not ray.encoder_gpus
    return replace(ray, encoder_gpus=1.0) if needs_gpu else ray


def _description(preparer: Preparer, options: PreprocessOptions) -> StoreDescription:
    vae, encoder = preparer.networks
    return StoreDescription(
        options.size_px,
        latents_shape(vae, options.size_px),
        (encoder.layers, encoder.width),
        audio_rate_hz=options.audio_rate_hz,
        log_variance=options.log_variance,
        mirrored=options.mirrored,
        models=preparer.config["models"],
        config=preparer.config["options"],
    )


def _frames(store: Path, videos: Sequence[Source]) -> int:
    """Frames at 25 a second of all videos, by ledgers or headers; of thousands by a sample."""
    some = videos[:: max(1, len(videos) // MAX_LENGTHS)]
    seconds = [
        known_seconds(store, video) or float(seconds_of(video) or 0)
        for video in tqdm(some, desc="lengths", unit="video")
    ]
    return round(sum(seconds) * float(FPS) * len(videos) / max(1, len(some)))
