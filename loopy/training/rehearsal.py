"""A look at a model while it trains: a held-out face speaks, by the sampling of inference."""

import warnings
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from loopy.data.media.video import Video, contact_sheet
from loopy.diffusion.rollout import next_clip
from loopy.errors import DependencyError, StoreError
from loopy.models.latents import decode_latents
from loopy.pipeline import LoopyPipeline
from loopy.pixels import to_pixels
from loopy.records import Clip
from loopy.synthetic.talker import random_talk
from loopy.timing import FPS
from loopy.training.datamodule import LoopyDataModule
from loopy.training.sharding import is_sharded

SEED = 2**62 + 0x5EED_CAFE
"""A talk of its own: with N training talks it is one of them with a chance of N / 2^32."""


def rehearse(
    pipeline: LoopyPipeline, data: LoopyDataModule, video: Path | None, *, seconds: float = 1.92
) -> Image.Image | None:
    """Lets a held-out face speak: a person of the shot store that is trained on, else a toon.

    Args:
        pipeline: The model.
        data: What it is trained on.
        video: Where the video goes (mp4); None = nowhere. A person's is silent: a store holds no
            sound, only what the audio encoder heard.
        seconds: How long the face speaks; a shorter clip of a store ends sooner.

    Returns:
        A sheet of 24 frames: each row of truth above the same frames as made. None, with a
        warning, where the toon's voice is not installed, or the clip is damaged.

    Raises:
        DependencyError: The same, where weights are spread over devices: the others would wait.
        StoreError: Likewise.
    """
    try:
        clips = data.held_out_stretch(round(seconds * FPS))
        truth, made = _person(pipeline, clips) if clips else _toon(pipeline, seconds)
    except (DependencyError, StoreError) as error:
        if is_sharded(pipeline.network):
            raise
        warnings.warn(f"there are no sample sheets: {error}", stacklevel=2)
        return None
    if video is not None:
        video.parent.mkdir(parents=True, exist_ok=True)
        made.save(video)
    shown = torch.linspace(0, min(len(made.frames), len(truth)) - 1, 24).long()
    rows = [frames[shown].unflatten(0, (2, 12)) for frames in (truth, made.frames)]
    return contact_sheet(torch.stack(rows, 1).flatten(0, 2), columns=12)


def _toon(pipeline: LoopyPipeline, seconds: float) -> tuple[UInt8[Tensor, "f h w 3"], Video]:
    """The truth from second 1 on, and what is made of frame 0 and of the sound of second 1 on."""
    talk = random_talk(SEED, seconds=seconds + 1)
    size_px = pipeline.settings.size_px
    audio = talk.audio[16_000:]
    truth = _pixels(talk.frames(range(25, len(talk.controls)), size_px=size_px))
    portrait = _pixels(talk.frames([0], size_px=size_px))[0]
    return truth, Video(torch.cat(list(pipeline.stream(portrait, audio))), audio=audio)


@torch.no_grad()
def _person(pipeline: LoopyPipeline, clips: list[Clip]) -> tuple[UInt8[Tensor, "f h w 3"], Video]:
    """Clips of a held-out person, and what is made of the portrait and the sound."""
    network, settings = pipeline.network, pipeline.settings
    portrait = clips[0].reference.to(network.denoiser.device, network.denoiser.dtype)
    keys = network.encode_reference(portrait)
    state = settings.contract.first_state(portrait, seed=0)
    _, channels, height, width = portrait.shape
    truth, made = [], []
    for clip in clips:
        latents, state = next_clip(
            network,
            pipeline.scheduler,
            reference=keys,
            portrait=portrait,
            audio=clip.audio.to(portrait),
            state=state,
            size=(channels, height, width),
            contract=settings.contract,
            sampling=settings.sampling,
        )
        for shown, frames in ((truth, clip.latents), (made, latents)):
            shown.append(_pixels(decode_latents(pipeline.vae, frames[0].to(pipeline.vae.device))))
    return torch.cat(truth), Video(torch.cat(made))


def _pixels(pictures: Float[Tensor, "f 3 h w"]) -> UInt8[Tensor, "f h w 3"]:
    return to_pixels(pictures.permute(0, 2, 3, 1)).cpu()
