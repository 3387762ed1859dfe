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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from loopy.data.media.video import evenly_spread
from loopy.data.media.writer import open_writer
from loopy.evaluation.features.extract import VideoFeatures, run_extractors
from loopy.evaluation.features.frames import FramePairs, FrameRows, FramesAt
from loopy.evaluation.toon import steadiness
from loopy.evaluation.toon.gallery import gallery
from loopy.evaluation.toon.talks import Scene, held_out_portrait, pixels, portrait_controls
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
    """A held-out talk, and the features of each film of it.

    Attributes:
        scene: Which talk.
        controls: Its truth.
        people: The talker and look-alikes, see `loopy.evaluation.toon.gallery.gallery`.
        portrait: The model's input.
        films: By source, see `film_features`.
    """

    scene: Scene
    controls: Float[Tensor, "f 14"]
    people: Float[Tensor, "n d"]
    portrait: UInt8[Tensor, "H W 3"]
    films: dict[str, VideoFeatures]


class TalkDataset(Dataset[bytes]):
    """Item i is the pickled `MeasuredTalk` of scene i: bytes, as tensors would each hold a file.

    Args:
        pipe: The model.
        probes: The networks that measure.
        scenes: Which talks.
        videos: A folder for a video of each talk, truth on the left; None makes none.
    """

    def __init__(
        self,
        pipe: LoopyPipeline,
        probes: Probes,
        scenes: Sequence[Scene],
        *,
        videos: Path | None = None,
    ) -> None:
        self.pipe, self.probes, self.scenes, self.videos = pipe, probes, scenes, videos

    def __len__(self) -> int:
        """How many scenes."""
        return len(self.scenes)

    def __getitem__(self, number: int) -> bytes:
        """One talk, made and measured in every way that its set asks for."""
        scene, pipe, size_px = self.scenes[number], self.pipe, self.pipe.settings.size_px
        talk, resting = scene.talk(), portrait_controls(scene.dice("portrait"))
        portrait = held_out_portrait(talk, scene.dice("portrait"), size_px=size_px)
        stream = partial(pipe.stream, pipe.prepare(portrait), talk.audio, seed=scene.noise_seed)
        films = {
            "made": stream(),
            "truth": true_frames(talk, size_px=size_px),
            "vae": round_trip(pipe, true_frames(talk, size_px=size_px)),
            "still": still_frames(portrait, len(talk.controls)),
        }
        if scene.group == "long":
            films["no_past"] = stream(motion_frames=False)
        if self.videos is not None:
            path = self.videos / f"{scene.group}_{scene.number:03d}.mp4"
            films["made"] = recorded(films["made"], talk, path, size_px=size_px)
        states = torch.cat([talk.controls, resting])
        features = partial(
            film_features,
            probes=self.probes,
            background=steadiness.always_background(talk.identity, states, size_px=size_px),
            face=steadiness.face_box(talk.identity, resting, size_px=size_px),
            shown=shown_frames(len(talk.controls), ends=scene.group in ("long", "endless")),
        )
        people = gallery(self.probes.recogniser, talk.identity, scene.dice("look-alikes"))
        measured = {source: features(film) for source, film in films.items()}
        return pickle.dumps(MeasuredTalk(scene, talk.controls, people, portrait, measured))


def measure_talks(talks: TalkDataset, *, workers: int) -> dict[str, list[MeasuredTalk]]:
    """Make and measure all talks, the longest first, with a progress bar over talks.

    Args:
        talks: The talks.
        workers: Processes, of one thread each; 0 works in this one, as a GPU needs.

    Returns:
        The talks of each set in the order of their numbers, each with its floor "mismatched".
    """
    order = sorted(range(len(talks)), key=lambda i: -talks.scenes[i].seconds)
    loader = DataLoader(talks, batch_size=None, sampler=order, num_workers=workers)
    groups: dict[str, list[MeasuredTalk]] = {}
    for packed in tqdm(loader, desc="toon", unit="talk"):
        talk: MeasuredTalk = pickle.loads(packed)
        groups.setdefault(talk.scene.group, []).append(talk)
    for group in groups.values():
        group.sort(key=lambda talk: talk.scene.number)
    return with_mismatched(groups)


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
    shown: Sequence[int] = (),
) -> VideoFeatures:
    """Features of a film: the same whatever its source.

    Args:
        parts: The frames, in order.
        probes: The networks.
        background: Pixels that show nothing but background.
        face: Pixels of the face's box.
        shown: Frames to keep, in ascending order.

    Returns:
        "tracks" of the tracker, "identity" of the recogniser, "colours" of cells (f k 3), "flicker"
        (f-1), the mean absolute difference to the frame before over the background in 1/255,
        "unrest", the same over the face after rigid alignment, and the frames "shown".
    """
    features = VideoFeatures()
    extractors = {
        "tracks": FrameRows(probes.tracker.track),
        "identity": FrameRows(probes.recogniser.embed),
        "colours": FrameRows(cell_colours),
        "flicker": FramePairs(partial(steadiness.differences, where=background)),
        "unrest": FramePairs(partial(steadiness.rigid_differences, where=face)),
        "shown": FramesAt(shown),
    }
    run_extractors(extractors, parts, features)
    return features


def cell_colours(frames: UInt8[Tensor, "f H W 3"]) -> Float[Tensor, "f k 3"]:
    """Mean sRGB colours of a grid of cells, row by row, in [0, 1]."""
    pictures = frames.permute(0, 3, 1, 2).float() / 255
    return functional.adaptive_avg_pool2d(pictures, CELLS).flatten(2).mT


def true_frames(talk: Talk, *, size_px: int) -> Parts:
    """What a perfect model would make."""
    for part in torch.arange(len(talk.controls)).split(AT_ONCE):
        yield pixels(talk.frames(part, size_px=size_px))


def still_frames(portrait: UInt8[Tensor, "H W 3"], frames: int) -> Parts:
    """The portrait all the time."""
    for part in torch.arange(frames).split(AT_ONCE):
        yield portrait.expand(len(part), -1, -1, -1)


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


def shown_frames(frames: int, *, ends: bool) -> tuple[int, ...]:
    """Frames for the sheet: evenly spread, or half in the first second and half in the last."""
    if not ends:
        return tuple(evenly_spread(frames, SHOWN).tolist())
    second = evenly_spread(25, SHOWN // 2)
    return (*second.tolist(), *(second + frames - 25).tolist())
