r"""Held-out sentences of a store, as the model makes them and as their bounds, to readings.

::

    sentence (crops of its video, sound) ---------------------> "truth"       ceiling
       |    |                   \--> autoencoder and back ----> "vae"         ceiling
       |    \--> first frame ---------------------------------> "still"       floor
       |              \              (truth of another one:     "mismatched", floor)
       \--> sound --> pipeline --> generated frames ----------> "made"

Every film is read by MediaPipe's networks, the true one too, and by a network that knows faces.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate
from tqdm import tqdm

from loopy.data.media.sound import read_audio
from loopy.data.media.still import of_pixels
from loopy.data.media.video import evenly_spread
from loopy.data.media.video_reader import iterate_frames
from loopy.data.media.writer import open_writer
from loopy.data.store.index import VALIDATION
from loopy.data.store.shot_store import ShotStore
from loopy.errors import MediaError, StoreError
from loopy.evaluation.toon.measure import cell_colours, round_trip
from loopy.faces.framing import crop_frames
from loopy.faces.mesh import Face, FaceMesh
from loopy.pipeline import LoopyPipeline
from loopy.timing import FPS, sample_span

Frames = UInt8[Tensor, "f H W 3"]
IdentityNet = Callable[[Frames, Float[Tensor, "f 68 2"]], Float[Tensor, "f d"]]
"""Embeddings of the faces at some points."""

READ_PX = 256
"""Films are read at this size at least: the networks are made for faces of 192 px."""
SHOWN, IN_A_ROW, LOOKED_AT = 12, 3, 5
"""Frames on the sheet, sentences made as one, and of how many frames one is recognised."""
LIPS, CORNERS, OUTER = (13, 14), (61, 291), (0, 17)
EYES, NOSE = (33, 263), 4
"""Points of MediaPipe's mesh."""


class Reading(NamedTuple):
    """What is read in a film; a frame without a face has the numbers of the one before.

    Attributes:
        opening: Of the inner lips, in distances of the outer eye corners.
        width: Of the mouth, likewise.
        rounding: Height of the outer lips in widths of the mouth.
        head: Tip of the nose in distances of the eye corners, and yaw, pitch, roll in radians.
        found: Share of frames with a face.
        likeness: Cosine of every fifth frame's embedding with the portrait's; empty without a
            network.
        colours: Of a grid of cells, in [0, 1].
        shown: Some frames.
    """

    opening: Float[Tensor, " f"]
    width: Float[Tensor, " f"]
    rounding: Float[Tensor, " f"]
    head: Float[Tensor, "f 5"]
    found: float
    likeness: Float[Tensor, " g"]
    colours: Float[Tensor, "f k 3"]
    shown: Frames


@dataclass(frozen=True, eq=False)
class Sentence:
    """A shot of the store, or several in a row.

    Attributes:
        name: Of the video.
        frames: The true crops.
        sound: At 16 kHz, as long.
    """

    name: str
    frames: Frames
    sound: Float[Tensor, " samples"]


@dataclass(frozen=True, eq=False)
class MeasuredSentence:
    """The readings of a sentence's films, by source."""

    name: str
    films: dict[str, Reading]


@dataclass(frozen=True, eq=False)
class Judge:
    """What reads films: MediaPipe's networks, and one that knows faces where there is one."""

    mesh: FaceMesh
    identity: IdentityNet | None = None

    def read(self, frames: Frames, portrait: UInt8[Tensor, "H W 3"]) -> Reading:
        """Reads a film beside the picture that it was made of.

        Raises:
            MediaError: No face in any frame.
        """
        frames = torch.cat([portrait[None], frames])  # which is read too, and comes first
        film = [max(found.values(), key=_area, default=None) for found in
                self.mesh.follow(_enlarged(frames))]  # fmt: skip
        known = [face for face in film if face is not None]
        if not known:
            raise MediaError("MediaPipe finds no face in any frame of the film")
        faces, last = list[Face](), known[0]
        for face in film:
            last = face or last
            faces.append(last)
        points = torch.stack([face.mesh for face in faces])[..., :2]
        scale = _distance(points, EYES)
        head = torch.cat([points[:, NOSE] / scale.mean(), torch.stack([f.pose for f in faces])], 1)
        likeness = torch.zeros(0)
        if self.identity is not None:
            marks = torch.stack([face.points for face in faces])
            some = torch.arange(1, len(frames), LOOKED_AT)
            some = torch.cat([torch.zeros_like(some[:1]), some])
            embedded = self.identity(_enlarged(frames[some]), marks[some])
            likeness = cosine_similarity(embedded[1:], embedded[:1])
        return Reading(
            opening=(_distance(points, LIPS) / scale)[1:],
            width=(_distance(points, CORNERS) / scale)[1:],
            rounding=(_distance(points, OUTER) / _distance(points, CORNERS))[1:],
            head=head[1:],
            found=sum(face is not None for face in film[1:]) / (len(film) - 1),
            likeness=likeness,
            colours=cell_colours(frames[1:]),
            shown=frames[1:][evenly_spread(len(frames) - 1, SHOWN)],
        )


def held_out_sentences(root: Path, *, most: int | None = None) -> Iterator[Sentence]:
    """The shots of a store's validation split, read again from their videos.

    Raises:
        StoreError: No store, or nothing held out.
        MediaError: A video is not where it was.
    """
    store = ShotStore.open(root)
    rows = (store.index["split"] == VALIDATION).nonzero()[0].tolist()[:most]
    if not rows:
        raise StoreError(f"{root} holds no sentence out; index it with a share (--validation 0.1)")
    for row in rows:
        about = store.about(row)
        where, count = about["provenance"], about["frames"]
        start = round(where["start_s"] * FPS)
        pictures = iterate_frames(where["source"], span=range(start, start + count))
        left, top, right, bottom = map(round, where["crop_px"])
        cut = crop_frames(
            torch.stack([*map(torch.from_numpy, pictures)]),
            (left, top, right, bottom),
            size_px=store.description.size_px,
        )
        first, _ = sample_span(start)
        _, stop = sample_span(start + count - 1)
        sound = read_audio(where["source"], zero="pictures")[first:stop]
        yield Sentence(Path(where["source"]).stem, cut, sound)


def measure_sentences(
    pipe: LoopyPipeline,
    judge: Judge,
    sentences: Sequence[Sentence],
    *,
    seed: int = 0,
    videos: Path | None = None,
) -> list[MeasuredSentence]:
    """Makes and reads each sentence, with a bar.

    Args:
        pipe: The model.
        judge: What reads.
        sentences: At least two, for the floor "mismatched".
        seed: Of the model's noise.
        videos: A folder for a video of each, truth on the left; None makes none.
    """
    measured = list[MeasuredSentence]()
    for number, sentence in enumerate(tqdm(sentences, desc="person", unit="sentence")):
        truth, portrait = sentence.frames, sentence.frames[0]
        subject = pipe.prepare(of_pixels(portrait, sentence.name), crop="none")
        made = torch.cat([*pipe.stream(subject, sentence.sound, seed=seed)])[: len(truth)]
        other = sentences[(number + 1) % len(sentences)].frames
        films = {
            "made": made,
            "truth": truth,
            "vae": torch.cat([*round_trip(pipe, iter(truth.split(16)))]),
            "still": portrait.expand_as(truth),
            "mismatched": other[torch.arange(len(truth)).clamp(max=len(other) - 1)],
        }
        read = {source: judge.read(film, portrait) for source, film in films.items()}
        measured.append(MeasuredSentence(sentence.name, read))
        if videos is not None:
            with open_writer(videos / f"{sentence.name}.mp4", sound=sentence.sound) as writer:
                writer.write(torch.cat([truth[: len(made)], made], 2))
    return measured


def in_a_row(sentences: Sequence[Sentence], count: int = IN_A_ROW) -> list[Sentence]:
    """Every so many sentences as one, whose true frames jump from one to the next."""
    groups = zip(*(sentences[i::count] for i in range(count)), strict=False)
    return [
        Sentence(
            "_".join(each.name for each in group),
            torch.cat([each.frames for each in group]),
            torch.cat([each.sound for each in group]),
        )
        for group in groups
    ]


def _distance(points: Float[Tensor, "f p 2"], pair: tuple[int, int]) -> Float[Tensor, " f"]:
    return (points[:, pair[0]] - points[:, pair[1]]).norm(dim=-1)


def _area(face: Face) -> float:
    return face.area


def _enlarged(frames: Frames) -> Frames:
    """At least `READ_PX` wide."""
    if frames.shape[2] >= READ_PX:
        return frames
    pictures = frames.permute(0, 3, 1, 2)
    large = interpolate(pictures, size=(READ_PX, READ_PX), mode="bicubic", antialias=True)
    return large.permute(0, 2, 3, 1).contiguous()
