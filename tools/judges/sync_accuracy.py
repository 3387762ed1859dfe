"""How well the sync judge does on speakers and voices that it never met."""

from collections import defaultdict

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.evaluation.toon.talks import pixels
from loopy.metrics.sync_scores import scores_of
from loopy.models.folder import ASSETS, load_part
from loopy.models.latents import encode_images
from loopy.models.probe import AT_ONCE
from loopy.models.sync import LARGEST_OFFSET, MOUTH_CELLS, SyncJudge
from loopy.randomness import generator
from loopy.synthetic.talker import Talk, random_talk
from loopy.timing import SAMPLE_RATE_HZ
from tools.judges.augmentation import versions

CLIP_S = 5
SHOWN = range(LARGEST_OFFSET, LARGEST_OFFSET + 25 * CLIP_S)
"""Frames of a talk that are judged; what is heard may be of 15 frames before or behind."""


def late(talk: Talk, frames: int) -> Float[Tensor, " samples"]:
    """What is heard beside `SHOWN` frames of a talk, if the sound is too late by some frames."""
    start = (SHOWN.start - frames) * (SAMPLE_RATE_HZ // 25)
    return talk.audio[start : start + CLIP_S * SAMPLE_RATE_HZ]


def unseen_talk(seed: int, number: int) -> Talk:
    """A talk of 5 s and 15 frames before and behind, that no training and no benchmark has."""
    drawn = int(torch.randint(2**40, (), generator=generator(seed, "sync accuracy", number)))
    return random_talk(drawn, seconds=CLIP_S + 2 * LARGEST_OFFSET / 25)


@torch.no_grad()
def accuracy(judge: SyncJudge, *, talks: int = 40, seed: int = 0) -> dict[str, dict[str, float]]:
    """Judge talks of 5 s with their own sound, with it moved, and with a mismatched sound.

    Returns:
        For each form, and for pictures as drawn, blurred to half their size, and corrupted: shares
        of talks whose offset is right, and right within a frame, in place and moved by up to 15
        frames; the 5 % quantile and the median of the confidence with the own sound; the median
        and the 95 % quantile of that with the sound of another talk; the mean distances.
    """
    hearing = load_part(ASSETS / "toon", "audio_encoder").float()
    vae = load_part(ASSETS / "toon", "vae").float()
    found: dict[str, list[list[float]]] = defaultdict(list)
    other = hearing.features(late(unseen_talk(seed, talks), 0))
    for number in range(talks):
        talk, draw = unseen_talk(seed, number), generator(seed, "sync shifts", number)
        shift = int(torch.randint(-LARGEST_OFFSET, LARGEST_OFFSET + 1, (), generator=draw))
        own = hearing.features(late(talk, 0))
        heard = [
            judge.embed_sound(each) for each in (own, hearing.features(late(talk, shift)), other)
        ]
        pictures = talk.frames(SHOWN)
        latents = torch.cat([encode_images(vae, part) for part in pictures.split(AT_ONCE)])
        points = talk.motion.points[SHOWN.start : SHOWN.stop]
        for kind, seen in _forms(judge, pictures, points, latents, draw).items():
            scores = [scores_of(each, seen) for each in heard]
            wrong = (scores[0].offset, scores[1].offset + shift)
            confidence, distance = scores[0].confidence, scores[0].distance
            stranger = scores[2].confidence, scores[2].distance
            found[kind].append([*wrong, confidence, stranger[0], distance, stranger[1]])
        other = own
    return {kind: _summary(torch.tensor(rows)) for kind, rows in found.items()}


def _forms(
    judge: SyncJudge, pictures: Tensor, points: Tensor, latents: Tensor, draw: torch.Generator
) -> dict[str, Float[Tensor, "g d"]]:
    """Unit vectors of each form of one talk; the shaken points err by 2 of 512 px."""
    shaken = points + 2 * torch.randn(points.shape, generator=draw)
    kinds = versions(pictures, draw).items()
    names = ("pictures", "pictures, blurred", "pictures, corrupted")
    return {
        **{
            name: judge.embed_frames(pixels(shown).split(AT_ONCE))
            for name, (_, shown) in zip(names, kinds, strict=True)
        },
        "landmarks": judge.embed_points(points),
        "landmarks, shaken": judge.embed_points(shaken),
        "latents": judge.latents(latents[None, :, :, *MOUTH_CELLS])[0],
    }


def _summary(rows: Float[Tensor, "n 6"]) -> dict[str, float]:
    place, moved, own, stranger, near, far = rows.unbind(1)
    return {
        "right": (place == 0).double().mean().item(),
        "right_within_1": (place.abs() <= 1).double().mean().item(),
        "moved_right": (moved == 0).double().mean().item(),
        "moved_right_within_1": (moved.abs() <= 1).double().mean().item(),
        "confidence_5": own.quantile(0.05).item(),
        "confidence": own.quantile(0.5).item(),
        "stranger_confidence": stranger.quantile(0.5).item(),
        "stranger_confidence_95": stranger.quantile(0.95).item(),
        "distance": near.mean().item(),
        "stranger_distance": far.mean().item(),
    }
