r"""Held-out talks, as the model makes them and as their bounds, to features.

::

    talk (true controls, voice) --> true frames ------------------------> "truth"       ceiling
       |    |                          \--> autoencoder and back -------> "vae"         ceiling
       |    \--> portrait, mouth shut ----------------------------------> "still"       floor
       |              \                    (true frames of another talk: "mismatched",  floor)
       \--> voice --> pipeline --> generated frames --------------------> "made"
                          \--> each clip without motion frames ---------> "no_past"     floor
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from loopy.data.media.video import evenly_spread
from loopy.data.media.writer import open_writer
from loopy.evaluation.features.extract import VideoFeatures, run_extractors
from loopy.evaluation.features.frames import FrameRows
from loopy.evaluation.toon import steadiness
from loopy.evaluation.toon.talks import Scene, gallery, held_out_portrait, pixels, portrait_controls
from loopy.models.latents import decode_latents, encode_images
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import Tracker
from loopy.pipeline import LoopyPipeline
from loopy.pixels import from_pixels
from loopy.synthetic.talker import Talk

Parts = Iterator[UInt8[Tensor, "_n H W 3"]]

AT_ONCE, SHOWN, CELLS = 16, 8, 16
"""Frames in memory, frames of each film on the sheet, and cells along a picture's side."""


class Probes(NamedTuple):
    """The networks that measure every film."""

    tracker: Tracker
    recogniser: Recogniser


@dataclass(frozen=True, eq=False)
class MeasuredTalk:
    """A held-out talk with its true controls, and the features of each film of it, by source.

    `people` are the talker and look-alikes (`loopy.evaluation.toon.talks.gallery`), `portrait` is
    the model's input.
    """

    scene: Scene
    controls: Float[Tensor, "f 14"]
    people: Float[Tensor, "n d"]
    portrait: UInt8[Tensor, "H W 3"]
    films: dict[str, VideoFeatures]


def measure_talks(
    pipe: LoopyPipeline,
    probes: Probes,
    scenes: Sequence[Scene],
    *,
    videos: Path | None = None,
    workers: int = 0,
) -> dict[str, list[MeasuredTalk]]:
    """Makes and measures talks as their sets ask for, with a progress bar over talks.

    Args:
        pipe: The model.
        probes: The networks that measure.
        scenes: Which talks.
        videos: A folder for a video of each talk, truth on the left; None makes none.
        workers: Processes, of one thread each; 0 works in this one, as a GPU needs.

    Returns:
        The talks of each set in the order of their numbers, each with its floor "mismatched".
    """
    longest_first = sorted(scenes, key=lambda scene: -scene.seconds)
    measure = partial(_measured, pipe, probes, videos)
    loader = DataLoader(longest_first, batch_size=None, collate_fn=measure, num_workers=workers)  # pyright: ignore[reportArgumentType]  # a list is a data set
    groups: dict[str, list[MeasuredTalk]] = {}
    for packed in tqdm(loader, desc="toon", unit="talk"):
        talk: MeasuredTalk = pickle.loads(packed)
        groups.setdefault(talk.scene.group, []).append(talk)
    for group in groups.values():
        group.sort(key=lambda talk: talk.scene.number)
    return with_mismatched(groups)


def _measured(pipe: LoopyPipeline, probes: Probes, videos: Path | None, scene: Scene) -> bytes:
    """A pickled `MeasuredTalk`: bytes, as tensors would each hold a file."""
    size_px = pipe.settings.size_px
    talk, resting = scene.talk(), portrait_controls(scene.dice("portrait"))
    portrait = held_out_portrait(talk, scene.dice("portrait"), size_px=size_px)
    stream = partial(
        pipe.stream, pipe.prepare(portrait, crop="center"), talk.audio, seed=scene.noise_seed
    )
    films = {
        "made": stream(),
        "truth": true_frames(talk, size_px=size_px),
        "vae": round_trip(pipe, true_frames(talk, size_px=size_px)),
        "still": (portrait.expand(len(part), -1, -1, -1) for part in _parts(talk)),
    }
    if scene.group == "long":
        films["no_past"] = stream(motion_frames=False)
    if videos is not None:
        path = videos / f"{scene.group}_{scene.number:03d}.mp4"
        films["made"] = recorded(films["made"], talk, path, size_px=size_px)
    states = torch.cat([talk.controls, resting])
    features = partial(
        film_features,
        probes=probes,
        background=steadiness.always_background(talk.identity, states, size_px=size_px),
        face=steadiness.face_box(talk.identity, resting, size_px=size_px),
        shown=shown_frames(len(talk.controls), ends=scene.group in ("long", "endless")),
    )
    people = gallery(probes.recogniser, talk.identity, scene.dice("look-alikes"))
    measured = {source: features(film) for source, film in films.items()}
    return pickle.dumps(MeasuredTalk(scene, talk.controls, people, portrait, measured))


def with_mismatched(groups: dict[str, list[MeasuredTalk]]) -> dict[str, list[MeasuredTalk]]:
    """Each talk with the true film of the next one of its set; of speech where it is quiet."""

    def mismatched(talk: MeasuredTalk, number: int, group: list[MeasuredTalk]) -> MeasuredTalk:
        quiet = talk.scene.kind in ("silence", "noise")
        others = groups.get("speech", []) if quiet else group
        if len(others) < 2:
            return talk
        other = others[(number + 1) % len(others)].films["truth"]
        return replace(talk, films=talk.films | {"mismatched": other})

    return {
        name: [mismatched(talk, number, group) for number, talk in enumerate(group)]
        for name, group in groups.items()
    }


def film_features(
    parts: Iterable[UInt8[Tensor, "_n H W 3"]],
    probes: Probes,
    *,
    background: Bool[Tensor, "H W"],
    face: Bool[Tensor, "H W"],
    shown: Bool[Tensor, "f"],
) -> VideoFeatures:
    """Features of a film, the same whatever its source.

    "tracks" of the tracker, "identity" of the recogniser, "colours" of cells (f k 3), "flicker"
    (f-1), the mean absolute difference to the frame before over the background in 1/255, "unrest",
    the same over the face's box after rigid alignment, and the frames "shown".
    """
    features = VideoFeatures()
    extractors = {
        "tracks": FrameRows(probes.tracker.track),
        "identity": FrameRows(probes.recogniser.embed),
        "colours": FrameRows(cell_colours),
        "flicker": _changes(steadiness.differences, background),
        "unrest": _changes(steadiness.rigid_differences, face),
        "shown": FrameRows(lambda frames, keep: frames[keep], shown),
    }
    run_extractors(extractors, parts, features)
    return features


def _changes(function: Callable[..., Tensor], where: Bool[Tensor, "H W"]) -> FrameRows:
    """A number for each frame but the first: of the one before and itself, in 0 to 255."""

    def rows(frames: UInt8[Tensor, "n H W 3"]) -> Float[Tensor, "n-1"]:
        pictures = frames.permute(0, 3, 1, 2).float()
        return function(pictures[:-1], pictures[1:], where)

    return FrameRows(rows, before=1)


def cell_colours(frames: UInt8[Tensor, "f H W 3"]) -> Float[Tensor, "f k 3"]:
    """Mean sRGB colours of a grid of cells, row by row, in [0, 1]."""
    pictures = frames.permute(0, 3, 1, 2).float() / 255
    return functional.adaptive_avg_pool2d(pictures, CELLS).flatten(2).mT


def true_frames(talk: Talk, *, size_px: int) -> Parts:
    """What a perfect model would make."""
    for part in _parts(talk):
        yield pixels(talk.frames(part, size_px=size_px))


def round_trip(pipe: LoopyPipeline, parts: Parts) -> Parts:
    """The same frames through the autoencoder."""
    for part in parts:
        pictures = from_pixels(part.permute(0, 3, 1, 2))
        latents = encode_images(pipe.vae, pictures.to(pipe.vae.device))
        yield pixels(decode_latents(pipe.vae, latents).cpu())


def recorded(parts: Parts, talk: Talk, path: Path, *, size_px: int) -> Parts:
    """The same frames, which are also written to a video: truth on the left, with the sound.

    Raises:
        OutputError: It cannot be written there.
    """
    start = 0
    with open_writer(path, sound=talk.audio) as writer:
        for part in parts:
            truth = talk.frames(range(start, start + len(part)), size_px=size_px)
            writer.write(torch.cat([pixels(truth), part], 2))
            start += len(part)
            yield part


def shown_frames(frames: int, *, ends: bool) -> Bool[Tensor, "f"]:
    """Frames for the sheet: evenly spread, or half in the first second and half in the last."""
    places, second = evenly_spread(frames, SHOWN), evenly_spread(25, SHOWN // 2)
    shown = torch.zeros(frames, dtype=torch.bool)
    shown[torch.cat([second, second + frames - 25]) if ends else places] = True
    return shown


def _parts(talk: Talk) -> tuple[Tensor, ...]:
    return torch.arange(len(talk.controls)).split(AT_ONCE)
