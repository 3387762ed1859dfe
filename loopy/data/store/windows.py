"""A training sample out of a stored shot: which rows it needs, and the reading of just those.

::

    |<---------------- at most 124 ---------------->|<- 12 ->|
    ... x   x   x   x x x x xxxxxxxx                 cccccccc        r
        slots of the past (20 rows)                  clip    reference, elsewhere

A window is drawn from a generator of the sample's own, so it is a function of (seed, sample).
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from loopy.data.store.description import TRACK
from loopy.data.store.shot_store import ShotStore
from loopy.errors import ConfigurationError
from loopy.motion import MotionSequence, expression_variance, head_motion_variance, mirrored
from loopy.records import Clip
from loopy.segments import SegmentLayout
from loopy.timing import AudioWindow

REFERENCE_DISTANCE = 30
"""Frames between the clip and its reference, where the video has them; a choice of ours."""


class Window(NamedTuple):
    """A place in a stored shot.

    Attributes:
        start: First frame of the clip to learn.
        history: How many frames before it exist for the sample.
        reference: Frame that is the portrait.
        mirrored: Whether the mirrored encoding is read.
        still: Slots beyond the history show the portrait, held still; else they do not exist.
    """

    start: int
    history: int
    reference: int
    mirrored: bool = False
    still: bool = False


def draw_window(
    frames: int,
    generator: torch.Generator,
    *,
    clip_frames: int,
    history: int,
    reference: str = "outside",
    mirror: float = 0.0,
    static_history: int | None = None,
) -> Window:
    """Draw a place in a video.

    Args:
        frames: Of the video.
        generator: The sample's.
        clip_frames: Frames to learn.
        history: Frames wanted before them. In a shorter video the clip is anywhere, after all whole
            clips that are before it: at its end alone, where most are, nobody speaks any more.
        reference: ``outside`` the clip, 30 frames away where there are such; or ``within`` it.
        mirror: How often the window is mirrored.
        static_history: A history shorter than this is that of a video which began with the
            portrait: the frame before it, or the first one. None: it is masked, and says nothing
            of that.

    Raises:
        ConfigurationError: The video is no longer than the clip: no portrait is left.
    """
    spare = frames - clip_frames
    if spare < 1:
        raise ConfigurationError(f"a video of {frames} frames has no clip of {clip_frames} to give")
    start = _draw(history if history <= spare else 0, spare + 1, generator)
    if history > spare:
        history = start // clip_frames * clip_frames
    turned = torch.rand((), generator=generator).item() < mirror
    if static_history is not None and history < static_history:
        return Window(start, history, max(start - history - 1, 0), turned, still=True)
    if reference == "within":
        portrait = _draw(start, start + clip_frames, generator)
        return Window(start, history, portrait, turned)
    for apart in (REFERENCE_DISTANCE, 1):
        before, first_after = max(start - apart + 1, 0), start + clip_frames - 1 + apart
        places = before + max(frames - first_after, 0)
        if places:
            break
    place = _draw(0, places, generator)
    portrait = place if place < before else first_after + place - before
    return Window(start, history, portrait, turned)


def read_window(
    store: ShotStore,
    row: int,
    window: Window,
    *,
    layout: SegmentLayout,
    clip_frames: int,
    audio_window: AudioWindow = AudioWindow(),  # noqa: B008 (frozen)
    noise: torch.Generator | None = None,
) -> tuple[Clip, MotionSequence]:
    """Read a sample: a clip of one video, and the track of its frames.

    Only the rows that the sample names are read: slots that exist, clip, portrait, the sound of
    the clip and of its neighbours, the track of the clip.

    Args:
        store: Where from.
        row: Of the index.
        window: See `draw_window`.
        layout: How the past is squeezed; a mode that reads one frame a slot.
        clip_frames: Frames to learn.
        audio_window: Whose sound a frame hears.
        noise: Latents are drawn from their posterior, each frame once: mean + exp(log-variance / 2)
            x noise of this generator. Not for mirrored windows. None takes the mean.

    Raises:
        StoreError: The file is missing, damaged, or lacks what is asked for.
    """
    start, stop = window.start, window.start + clip_frames
    distances = layout.distances()
    slots, present = window.start - 1 - distances, distances < window.history
    if window.still:
        slots, present = slots.where(present, window.reference), torch.ones_like(present)
    sound = _audio_rows(store, row, range(start, stop), audio_window)
    name = "latents_mirrored" if window.mirrored else "latents"
    pictures = torch.tensor([*slots[present].tolist(), *range(start, stop), window.reference])
    frames, places = pictures.unique(return_inverse=True)
    drawn = {} if noise is None else {"log_variance": frames}
    track = dict.fromkeys(TRACK, slice(start, stop))
    read = store.read(row, {name: frames, "audio": sound.flatten()} | track | drawn)
    latents = read[name].float()
    if noise is not None:
        deviation = (read["log_variance"].float() / 2).exp()
        latents = latents + deviation * torch.randn(latents.shape, generator=noise)
    latents = latents[places]
    past = latents.new_zeros(len(slots), *latents.shape[1:])
    past[present] = latents[: int(present.sum())]
    motion = MotionSequence(
        read["points"].float(), read["pose"].float(), read["valid"], store.description.size_px
    )
    if window.mirrored:
        motion = mirrored(motion)
    audio = read["audio"].float().unflatten(0, tuple(sound.shape)).mean(2)
    clip = Clip(
        latents=latents[-1 - clip_frames : -1][None],
        reference=latents[-1:],
        motion_frames=past[None],
        past_present=present[None],
        audio=audio[None],
        landmarks=motion.normalised()[None],
        measures=torch.stack([head_motion_variance(motion), expression_variance(motion)])[None],
    )
    return clip, motion


def _audio_rows(
    store: ShotStore, row: int, span: range, window: AudioWindow
) -> Int[Tensor, "f n r"]:
    """Rows of audio of each frame and its neighbours; two a frame in a store of 50 Hz."""
    frames = int(store.index["frames"][row])
    each = store.description.audio_rate_hz // store.description.fps
    return window.indices(span, frames)[..., None] * each + torch.arange(each)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high - 1."""
    return int(torch.randint(low, high, (), generator=generator))
