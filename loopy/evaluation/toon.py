r"""The toon benchmark: faces and voices that no training saw, filmed by a model, then read.

::

    talk (true controls, voice) --> true frames --------------> tracker --> ceiling: truth
       |    |                          \--> VAE round trip ---> tracker --> ceiling: round trip
       |    \--> portrait, mouth shut -----------------------> tracker --> floor: still
       |              \                                         (another talk: floor: another)
       \--> voice --> pipeline --> generated frames ----------> tracker --> r with the true opening

One tracker reads all of them. It was trained on renders alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from loopy.errors import ConfigurationError
from loopy.evaluation.metrics import best_lag, correlation, correlation_with_others
from loopy.evaluation.tracker import OUTPUTS, Tracker
from loopy.models.latents import decode_latents, encode_images
from loopy.pipeline import LoopyPipeline
from loopy.randomness import generator
from loopy.synthetic.face import CONTROLS, render
from loopy.synthetic.talker import Talk, random_talk

HELD_OUT = 2**62
"""Seeds of held-out talks start here; training draws its own below 2**40 (`loopy.training`)."""

_POSE = {"yaw": 0.10, "pitch": 0.05, "roll": 0.04}
_AT_ONCE = 16


class Tracks(NamedTuple):
    """The truth of a held-out talk, and what the tracker reads; columns as in `OUTPUTS`.

    Attributes:
        truth: True controls.
        drawn: Read in the true frames.
        round_trip: Read in the true frames after the autoencoder.
        made: Read in the generated frames.
        still: Read in the portrait, shown all the time.
    """

    truth: Float[Tensor, "f 6"]
    drawn: Float[Tensor, "f 6"]
    round_trip: Float[Tensor, "f 6"]
    made: Float[Tensor, "f 6"]
    still: Float[Tensor, "f 6"]


@dataclass(frozen=True, eq=False)
class Take:
    """A held-out talk and the model's film of it.

    Attributes:
        talk: Who says what, and the truth of every frame.
        portrait: What the model was shown.
        truth: The true frames.
        made: The generated frames.
        tracks: What the tracker reads in them.
    """

    talk: Talk
    portrait: UInt8[Tensor, "h w 3"]
    truth: UInt8[Tensor, "f h w 3"]
    made: UInt8[Tensor, "f h w 3"]
    tracks: Tracks


@dataclass(frozen=True)
class Score:
    """Figures of one take: correlations (r) of mouth tracks, each in [-1, 1] or NaN.

    Attributes:
        r: True opening with that of the generated frames.
        others: The same frames with the true openings of the other voices, mean.
        lag: Frames by which the picture comes late, at the best r within 5 frames.
        tracked: Opening read in the true frames with that read in the generated ones.
        ceiling_drawn: True opening with that read in the true frames.
        ceiling_round_trip: True opening with that read after the autoencoder.
        floor_still: True opening with that of the portrait, which does not move.
        floor_another: True opening with that read in the true frames of the next talk.
        wide: As `r`, of lip width.
        wide_ceiling: As `ceiling_drawn`, of lip width.
        round: As `r`, of rounding.
        round_ceiling: As `ceiling_drawn`, of rounding.
    """

    r: float
    others: float
    lag: float
    tracked: float
    ceiling_drawn: float
    ceiling_round_trip: float
    floor_still: float
    floor_another: float
    wide: float
    wide_ceiling: float
    round: float
    round_ceiling: float


def held_out_talk(seed: int, number: int, *, seconds: float) -> Talk:
    """A talk of the benchmark.

    torch's CPU generator uses only the lower 32 bits of a seed, so a range of its own is not
    enough. Those bits are hashed: talks seeded 0, 1, 2 ... are others, and a talk with a random
    seed is this one with a chance of 2**-32.

    Args:
        seed: Of the benchmark.
        number: Which of its talks.
        seconds: Its length.
    """
    return random_talk(HELD_OUT + _entropy(seed, number), seconds=seconds)


def held_out_portrait(talk: Talk, draw: torch.Generator, *, size_px: int) -> UInt8[Tensor, "h w 3"]:
    """The talker at rest: mouth shut, eyes open, head turned a little, as a user would show it."""
    controls = torch.zeros(1, len(CONTROLS))
    for name, span in _POSE.items():
        controls[:, CONTROLS.index(name)] = span * (2 * torch.rand((), generator=draw) - 1)
    return pixels(render(talk.identity, controls, size_px=size_px))[0]


def film(
    pipe: LoopyPipeline, tracker: Tracker, *, pairs: int = 8, seconds: float = 4.0, seed: int = 0
) -> Iterator[Take]:
    """Let a model film held-out talks one after another, with a progress bar over its clips.

    Args:
        pipe: The model.
        tracker: Reads all frames.
        pairs: How many talks, each of another face and voice; 2 at least.
        seconds: Length of each; 1 at least.
        seed: Of the talks and of the model's noise.

    Raises:
        ConfigurationError: Too few or too short.
        DependencyError: The synthetic voice is not installed.
    """
    if pairs < 2 or seconds < 1:
        raise ConfigurationError(
            f"{pairs} pairs of {seconds} s say nothing; give 2 pairs and 1 s or more"
        )
    talks = (held_out_talk(seed, number, seconds=seconds) for number in range(pairs))
    with tqdm(desc="toon", unit="clip") as bar:
        for number, talk in enumerate(talks):
            bar.total = pairs * pipe.clips(talk.audio)
            draw = generator(seed, "held-out portrait", number)
            portrait = held_out_portrait(talk, draw, size_px=pipe.settings.size_px)
            subject = pipe.prepare(Image.fromarray(portrait.numpy()))
            clips = []
            for clip in pipe.stream(subject, talk.audio, seed=_entropy(seed, number)):
                clips.append(clip)
                bar.update()
            yield _take(pipe, tracker, talk, portrait, torch.cat(clips))


def score(tracks: Sequence[Tracks]) -> list[Score]:
    """Compare the tracks of all takes, each with its own truth and with the others'."""
    openings = torch.stack([each.truth[:, OUTPUTS.index("open")] for each in tracks])
    scores = []
    for own, each in enumerate(tracks):
        truth, drawn, round_trip, made, still = (track.T for track in each)
        another = tracks[(own + 1) % len(tracks)].drawn.T
        r, ceiling = correlation(truth, made).tolist(), correlation(truth, drawn).tolist()
        mouth, wide, rounded = (OUTPUTS.index(name) for name in ("open", "wide", "round"))
        scores.append(
            Score(
                r=r[mouth],
                others=correlation_with_others(openings, made[mouth], own),
                lag=best_lag(truth[mouth], made[mouth]).frames,
                tracked=float(correlation(drawn[mouth], made[mouth])),
                ceiling_drawn=ceiling[mouth],
                ceiling_round_trip=float(correlation(truth[mouth], round_trip[mouth])),
                floor_still=float(correlation(truth[mouth], still[mouth])),
                floor_another=float(correlation(truth[mouth], another[mouth])),
                wide=r[wide],
                wide_ceiling=ceiling[wide],
                round=r[rounded],
                round_ceiling=ceiling[rounded],
            )
        )
    return scores


def pixels(pictures: Float[Tensor, "n 3 H W"]) -> UInt8[Tensor, "n H W 3"]:
    """Pictures in [-1, 1] as the frames of a video."""
    return ((pictures + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _take(
    pipe: LoopyPipeline,
    tracker: Tracker,
    talk: Talk,
    portrait: UInt8[Tensor, "h w 3"],
    made: UInt8[Tensor, "f h w 3"],
) -> Take:
    truth, passed = [], []
    for part in torch.arange(len(made)).split(_AT_ONCE):
        pictures = talk.frames(part, size_px=pipe.settings.size_px)
        latents = encode_images(pipe.vae, pictures.to(pipe.vae.device))
        truth.append(pixels(pictures))
        passed.append(pixels(decode_latents(pipe.vae, latents).cpu()))
    frames = torch.cat(truth)
    tracks = Tracks(
        truth=talk.controls[:, [CONTROLS.index(name) for name in OUTPUTS]],
        drawn=tracker.track(frames),
        round_trip=tracker.track(torch.cat(passed)),
        made=tracker.track(made),
        still=tracker.track(portrait[None]).expand(len(made), -1),
    )
    return Take(talk, portrait, frames, made, tracks)


def _entropy(seed: int, number: int) -> int:
    return int(torch.randint(2**32, (), generator=generator(seed, "held-out talk", number)))
