"""A look at a model while it trains: a held-out portrait speaks, through the real pipeline."""

from pathlib import Path

import torch
from PIL import Image

from loopy.data.video import Video, contact_sheet
from loopy.pipeline import LoopyPipeline
from loopy.synthetic.talker import random_talk

SEED = 2**62 + 0x5EED_CAFE
"""A talk of its own: with N training talks it is one of them with a chance of N / 2^32."""


def rehearse(pipeline: LoopyPipeline, video: Path, *, seconds: float = 1.92) -> Image.Image:
    """Let a held-out toon portrait speak.

    Args:
        pipeline: The model.
        video: Where its video goes (mp4).
        seconds: How long it speaks.

    Returns:
        A sheet of 24 frames: each row of truth above the same frames as made.
    """
    talk = random_talk(SEED, seconds=seconds + 1)
    size_px = pipeline.settings.size_px
    audio = talk.audio[16_000:]
    truth = _pixels(talk.frames(range(25, len(talk.controls)), size_px=size_px))
    portrait = Image.fromarray(_pixels(talk.frames([0], size_px=size_px))[0].numpy())
    frames = torch.cat(list(pipeline.stream(portrait, audio)))
    video.parent.mkdir(parents=True, exist_ok=True)
    Video(frames, audio=audio).save(video)
    picked = torch.linspace(0, min(len(frames), len(truth)) - 1, 24).long()
    rows = torch.stack(
        [truth[picked].unflatten(0, (2, 12)), frames[picked].unflatten(0, (2, 12))], 1
    )
    return contact_sheet(rows.flatten(0, 2), columns=12)


def _pixels(pictures: torch.Tensor) -> torch.Tensor:
    return ((pictures.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8)
