r"""Held-out talks, filmed by a model and by what bounds it, then read; talk by talk, in processes.

::

    talk (true controls, voice) --> true frames ------------------------> "truth"     ceiling
       |    |                          \--> autoencoder and back -------> "vae"       ceiling
       |    \--> portrait, mouth shut ----------------------------------> "still"     floor
       |              \                        (true frames of another talk: "another", floor)
       \--> voice --> pipeline --> generated frames --------------------> "made"
                          \--> each clip without motion frames ---------> "no_past"   floor
"""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from loopy.data.media.video import evenly_spread
from loopy.data.media.writer import open_writer
from loopy.diffusion.options import RolloutState
from loopy.diffusion.rollout import next_clip
from loopy.evaluation.toon.gallery import gallery
from loopy.evaluation.toon.measure import Eyes, Reading, read
from loopy.evaluation.toon.steadiness import always_background, face_box
from loopy.evaluation.toon.talks import Scene, held_out_portrait, pixels, portrait_controls
from loopy.models.latents import decode_latents, encode_images
from loopy.models.recogniser import Recogniser
from loopy.models.tracker import Tracker
from loopy.pipeline import LoopyPipeline
from loopy.pixels import from_pixels
from loopy.subject import Subject
from loopy.synthetic.talker import Talk

Parts = Iterator[UInt8[Tensor, "_n H W 3"]]

AT_ONCE = 16
SHOWN = 8
"""Frames of each talk on the sheet."""


@dataclass(frozen=True, eq=False)
class Take:
    """A held-out talk, and what was read in each film of it.

    Attributes:
        scene: Which talk.
        controls: Its truth.
        people: The talker and look-alikes, see `loopy.evaluation.toon.gallery.gallery`.
        portrait: What the model was shown.
        readings: By who made the film.
    """

    scene: Scene
    controls: Float[Tensor, "f 14"]
    people: Float[Tensor, "n d"]
    portrait: UInt8[Tensor, "H W 3"]
    readings: dict[str, Reading] = field(default_factory=dict)


class Studio(Dataset[bytes]):
    """Item i is the pickled `Take` of scene i: as bytes, because tensors would each hold a file.

    Args:
        pipe: The model.
        tracker: Reads all films.
        recogniser: Likewise.
        scenes: What to film.
        videos: A folder for a video of each talk, truth on the left; None makes none.
    """

    def __init__(
        self,
        pipe: LoopyPipeline,
        tracker: Tracker,
        recogniser: Recogniser,
        scenes: Sequence[Scene],
        *,
        videos: Path | None = None,
    ) -> None:
        self.pipe, self.scenes, self.videos = pipe, scenes, videos
        self.tracker, self.recogniser = tracker, recogniser

    def __len__(self) -> int:
        """How many scenes."""
        return len(self.scenes)

    def __getitem__(self, number: int) -> bytes:
        """Film and read one scene."""
        return pickle.dumps(self.take(self.scenes[number]))

    def take(self, scene: Scene) -> Take:
        """Film one talk in every way that its set asks for, and read each film."""
        pipe, size_px = self.pipe, self.pipe.settings.size_px
        talk = scene.talk()
        frames = len(talk.controls)
        resting = portrait_controls(scene.dice("portrait"))
        portrait = held_out_portrait(talk, scene.dice("portrait"), size_px=size_px)
        subject = pipe.prepare(portrait)
        states = torch.cat([talk.controls, resting])
        eyes = Eyes(
            self.tracker,
            self.recogniser,
            always_background(talk.identity, states, size_px=size_px),
            face_box(talk.identity, resting, size_px=size_px),
        )
        made = pipe.stream(subject, talk.audio, seed=scene.noise_seed)
        if self.videos is not None:
            name = f"{scene.group}_{scene.number:03d}.mp4"
            made = recorded(made, talk, self.videos / name, size_px=size_px)
        films = {
            "made": made,
            "truth": true_frames(talk, size_px=size_px),
            "vae": round_trip(pipe, true_frames(talk, size_px=size_px)),
            "still": (portrait.expand(len(part), -1, -1, -1) for part in _parts(frames)),
        }
        if scene.group == "long":
            films["no_past"] = without_past(pipe, subject, talk.audio, seed=scene.noise_seed)
        shown = shown_frames(frames, ends=scene.group in ("long", "endless"))
        return Take(
            scene,
            talk.controls,
            gallery(self.recogniser, talk.identity, scene.dice("look-alikes")),
            portrait,
            {source: read(film, eyes, shown=shown) for source, film in films.items()},
        )


def film(studio: Studio, *, workers: int) -> dict[str, list[Take]]:
    """Film all scenes, the longest first, with a progress bar over talks.

    Args:
        studio: The scenes.
        workers: Processes, of one thread each; 0 films in this one, as a GPU needs.

    Returns:
        The takes of each set in the order of their numbers, each with its floor "another".
    """
    order = sorted(range(len(studio)), key=lambda i: -studio.scenes[i].seconds)
    loader = DataLoader(studio, batch_size=None, sampler=order, num_workers=workers)
    groups: dict[str, list[Take]] = {}
    for packed in tqdm(loader, desc="toon", unit="talk"):
        take: Take = pickle.loads(packed)
        groups.setdefault(take.scene.group, []).append(take)
    return with_another(
        {name: sorted(takes, key=lambda take: take.scene.number) for name, takes in groups.items()}
    )


def with_another(groups: dict[str, list[Take]]) -> dict[str, list[Take]]:
    """Give each take the true film of the next talk of its set; of a speaker where it is quiet."""

    def another(take: Take, number: int, takes: list[Take]) -> Take:
        quiet = take.scene.kind in ("silence", "noise")
        others = groups.get("speech", []) if quiet else takes
        if len(others) < 2:
            return take
        other = others[(number + 1) % len(others)].readings["truth"]
        return replace(take, readings=take.readings | {"another": other})

    return {
        name: [another(take, number, takes) for number, take in enumerate(takes)]
        for name, takes in groups.items()
    }


def true_frames(talk: Talk, *, size_px: int) -> Parts:
    """What a perfect model would make."""
    for part in _parts(len(talk.controls)):
        yield pixels(talk.frames(part, size_px=size_px))


def round_trip(pipe: LoopyPipeline, parts: Parts) -> Parts:
    """The same frames through the autoencoder."""
    for part in parts:
        pictures = from_pixels(part.permute(0, 3, 1, 2))
        latents = encode_images(pipe.vae, pictures.to(pipe.vae.device))
        yield pixels(decode_latents(pipe.vae, latents).cpu())


@torch.no_grad()
def without_past(
    pipe: LoopyPipeline, subject: Subject, audio: Float[Tensor, "samples"], *, seed: int
) -> Parts:
    """`LoopyPipeline.stream`, but no clip has motion frames: 20 zero features, as in training.

    The start noise is that of the real video.
    """
    dtype = pipe.network.denoiser.dtype
    portrait = subject.latents.to(pipe.network.denoiser.device)
    reference = pipe.network.encode_reference(portrait.to(dtype))
    state = RolloutState.first(portrait, seed=seed)
    samples = pipe.sound(audio).to(pipe.vae.device)
    left = len(pipe.audio_encoder.features(samples))
    for features in pipe.features(samples):
        latents, state = next_clip(
            pipe.network,
            pipe.scheduler,
            reference=reference,
            portrait=portrait,
            audio=features.to(dtype),
            state=replace(state, past=state.past[:, :0]),
            size=tuple(portrait.shape[1:]),  # pyright: ignore[reportArgumentType]  # three
            contract=pipe.settings.contract,
            sampling=pipe.settings.sampling,
        )
        frames = pixels(decode_latents(pipe.vae, latents[0, :left])).cpu()
        left -= len(frames)
        yield frames


def recorded(parts: Parts, talk: Talk, path: Path, *, size_px: int) -> Parts:
    """Hand frames on and write them beside the truth, with the sound.

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


def _parts(frames: int) -> Sequence[Tensor]:
    return torch.arange(frames).split(AT_ONCE)
