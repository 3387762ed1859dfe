"""Sensitivity to conditions: how the loss on held-out clips grows when one of them is mismatched.

Noise, timesteps and target are those of training; only the condition is exchanged, with that of
another talker's clip.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from loopy.diffusion.objective import add_noise, diffusion_loss, target
from loopy.errors import MetricError
from loopy.evaluation.toon.talks import held_out_talk
from loopy.metrics.extractors import check_numbers
from loopy.models import AudioToLatents, DualUNet
from loopy.models.latents import encode_images
from loopy.motion import box_mask, expression_variance, head_motion_variance
from loopy.pipeline import LoopyPipeline
from loopy.randomness import generator
from loopy.records import Clip, ConditionMask

CLIPS, QUICK_CLIPS, FIRST = 32, 4, 1000
"""How many clips, in a quick look too, and the number of the first one's talk."""

TIMES = (0.5, 0.85)
"""Where in the noise schedule: at the middle, and where little but the conditions is left."""

_AFTER_S = 0.56
_MOUTH, _MARGIN_CELLS = slice(48, 68), 0.5
_AT_ONCE = 4
"""Clips of a batch, in which the mismatched condition is that of the clip before."""


def held_out_clips(
    pipe: LoopyPipeline,
    *,
    clips: int = CLIPS,
    seed: int = 0,
    past_frames: int = 0,
    workers: int = 0,
) -> Clip:
    """Clips of held-out speech with their whole true past, in one batch, with a progress bar.

    Their weight is 1 at the mouth, else 0. At least `past_frames` of the talk lie before each clip,
    so that models of other layouts are measured on the same clips.
    """
    past = max(past_frames, pipe.settings.contract.layout.past_frames)
    made = partial(_held_out_clip, pipe, seed, past)
    loader = DataLoader(range(clips), batch_size=None, collate_fn=made, num_workers=workers)  # pyright: ignore[reportArgumentType]  # a range is a data set
    return Clip.cat(list(tqdm(loader, desc="clips", unit="clip")))


def _held_out_clip(pipe: LoopyPipeline, seed: int, past: int, number: int) -> Clip:
    layout, frames = pipe.settings.contract.layout, pipe.settings.clip_frames
    dice = generator(seed, "held-out clip", number)
    talk = held_out_talk(seed, FIRST + number, seconds=(past + frames) / 25 + _AFTER_S)
    portrait = torch.randint(max(past - 30, 1), (1,), generator=dice)
    if layout.mode == "mean":
        read = torch.arange(past - layout.past_frames, past)
    else:
        read = past - 1 - layout.distances(dice)
    wanted = torch.cat([portrait, read, torch.arange(past, past + frames)])
    pictures = talk.frames(wanted, size_px=pipe.settings.size_px)
    latents = encode_images(pipe.vae, pictures.to(pipe.vae.device)).float()
    features = pipe.audio_encoder.features(talk.audio.to(pipe.vae.device)).float()
    window = pipe.audio_window.indices(range(past, past + frames), len(features))
    motion_frames = latents[1 : 1 + len(read)].cpu()
    if layout.mode == "mean":
        motion_frames = layout.select(motion_frames[None])[0][0]
    clip = talk.motion[past : past + frames]
    cells = latents.shape[-1]
    mouth = clip.points[:, _MOUTH] * (cells / clip.size_px)
    fields = {
        "latents": latents[1 + len(read) :].cpu(),
        "reference": latents[0].cpu(),
        "motion_frames": motion_frames,
        "past_present": torch.ones(len(motion_frames), dtype=torch.bool),
        "audio": features[window.to(features.device)].cpu(),
        "landmarks": clip.normalised(),
        "measures": torch.stack([head_motion_variance(clip), expression_variance(clip)]),
        "weight": box_mask(mouth, size_px=cells, margin_px=_MARGIN_CELLS),
    }
    return Clip(**{name: value[None] for name, value in fields.items()}, conditions={})


def condition_sensitivity(pipe: LoopyPipeline, clips: Clip) -> dict[str, Float[Tensor, "b"]]:
    """How much each clip's loss grows with a mismatched condition, relative to its own loss.

    Args:
        pipe: The model.
        clips: Held-out clips, 2 at least; their weight marks the mouth.

    Returns:
        "past": motion frames of another talker, loss over the whole picture. "voice": the voice of
        another; "keys": in the audio keys and values alone; "latents": in audio-to-latents alone;
        all over the mouth's box. Without what the model does not have.
    """
    network, found = pipe.network, {}
    if network.sees_past:
        whole = replace(clips, weight=None)
        mismatched = _losses(pipe, network, whole, mismatched=["motion_frames"])
        found["past"] = growth(_losses(pipe, network, whole), mismatched)
    if network.audio_projection is None:
        return found
    own = _losses(pipe, network, clips)
    found["voice"] = growth(own, _losses(pipe, network, clips, mismatched=["audio"]))
    if network.audio_to_latents is None:
        return found | {"keys": found["voice"]}
    found["latents"] = growth(own, _losses(pipe, _with_mismatched_latents(network, 1), clips))
    # the keys get the mismatched voice, and audio-to-latents its own one again
    network = _with_mismatched_latents(network, -1)
    found["keys"] = growth(own, _losses(pipe, network, clips, mismatched=["audio"]))
    return found


def growth(own: Float[Tensor, "b"], mismatched: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """How much a loss grows, relative to itself.

    Raises:
        MetricError: Losses that are not finite, or own ones of 0: the model is broken.
    """
    check_numbers(torch.stack([own, mismatched], 1), name="losses of held-out clips")
    if not (own > 0).all():
        raise MetricError("a loss of a held-out clip is 0, of which nothing can be a share")
    return mismatched / own - 1


class MismatchedAudio(nn.Module):
    """Audio-to-latents that is given the audio tokens of another row, so many before.

    Args:
        inner: The model's own.
        shift: That row is so many before.
    """

    def __init__(self, inner: AudioToLatents, shift: int) -> None:
        super().__init__()
        self.inner, self.shift = inner, shift

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the model's own."""
        return self.inner.config

    def forward(self, audio: Tensor, **known: Tensor | None) -> Tensor:
        """As `AudioToLatents.forward`."""
        return self.inner(audio.roll(self.shift, 0), **known)


def _with_mismatched_latents(network: DualUNet, shift: int) -> DualUNet:
    return DualUNet(
        network.reference_net,
        network.denoiser,
        network.audio_projection,
        MismatchedAudio(network.audio_to_latents, shift),  # pyright: ignore[reportArgumentType]  # is called alike
        reference_projection=network.reference_projection,  # pyright: ignore[reportArgumentType]  # checked there
    )


@torch.no_grad()
def _losses(
    pipe: LoopyPipeline, network: DualUNet, clips: Clip, *, mismatched: Collection[str] = ()
) -> Float[Tensor, "b"]:
    """Loss of each clip, mean over the timesteps; some fields are those of the clip before."""
    config, device, dtype = pipe.scheduler.config, pipe.vae.device, pipe.network.denoiser.dtype
    alphas = pipe.scheduler.alphas_cumprod.to(device)
    contract, losses = pipe.settings.contract, []
    for rows in torch.arange(len(clips)).tensor_split(max(1, len(clips) // _AT_ONCE)):
        clip = clips.rows(rows)
        clip = replace(clip, **{name: getattr(clip, name).roll(1, 0) for name in mismatched})
        clip = clip.to(device)
        given = clip.inputs_as(dtype)
        clean = contract.to_residual(clip.latents, clip.reference)
        total = torch.zeros(len(rows))
        for time in TIMES:
            timestep = torch.full((len(rows),), round(time * (len(alphas) - 1)), device=device)
            dice = [generator("held-out noise", row, int(timestep[0])) for row in rows.tolist()]
            noise = torch.stack([contract.noise(clean.shape[1:], each) for each in dice])
            noise = noise.to(clean)
            wanted = target(
                clean, noise, timestep, alphas, prediction_type=config["prediction_type"]
            )
            noisy = add_noise(clean, noise, timestep, alphas).to(dtype)
            guess = network(noisy, timestep, given, ConditionMask.all(len(rows)))
            total += diffusion_loss(guess, wanted, place_weight=clip.weight).cpu() / len(TIMES)
        losses.append(total)
    return torch.cat(losses)
