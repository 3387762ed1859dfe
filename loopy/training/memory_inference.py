"""The bytes that one clip of inference takes, and its operations, by shapes alone.

The clip is one of a long video: what the clips before have seen of its past is not seen again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from itertools import pairwise
from math import gcd
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from transformers import Wav2Vec2Config

from loopy.diffusion.guidance import GuidanceTerm
from loopy.diffusion.settings import Settings
from loopy.models import AudioEncoder, AudioProjection, DualUNet, decode_latents
from loopy.models.dual import SiteKeys, SiteTokens
from loopy.models.narrow import NarrowDecoderKL
from loopy.models.tiny import NormedTiny
from loopy.pixels import to_pixels
from loopy.records import BranchLayout
from loopy.training.memory import StorageTracker, fake_clip
from loopy.training.module import LoopyModule


@dataclass(frozen=True)
class InferenceCost:
    """One clip of one video.

    Attributes:
        networks: Bytes of the weights of reference net, denoiser and audio modules.
        around: Of the weights of the autoencoder and the audio encoder.
        keys: Of keys and values at all sites, by whose they are: reference, past, audio.
        seen: Of the motion frames' tokens that later clips read again.
        denoising: Most that one diffusion step holds besides weights, keys included.
        decoding: Most that decoding the clip holds, what later clips need included.
        once: Floating-point operations for the portrait's keys, once a video.
        clip: For motion frames that are new, and the past's and the sound's keys, once a clip.
        step: Of the denoiser in one guided diffusion step, all branches.
        plain: Of the denoiser in one that is not guided.
        decode: Of the autoencoder, once a clip.
        frames: Of the clip.
        steps: Of diffusion.
        guided: How many of them are guided.
    """

    networks: int
    around: int
    keys: Mapping[str, int]
    seen: int
    denoising: int
    decoding: int
    once: int
    clip: int
    step: int
    plain: int
    decode: int
    frames: int
    steps: int
    guided: int

    @property
    def peak(self) -> int:
        """Bytes at the largest moment."""
        return self.networks + self.around + self.transient

    @property
    def transient(self) -> int:
        """Of them, those that are no weights."""
        return max(self.denoising, self.decoding)

    @property
    def flops_a_frame(self) -> float:
        """Operations for one frame of a long video."""
        denoise = self.guided * self.step + (self.steps - self.guided) * self.plain
        return (self.clip + denoise + self.decode) / self.frames


def inference_cost(
    make: Callable[[], LoopyModule], vae: Mapping[str, object], *, latent_px: int
) -> InferenceCost:
    """Run one clip of a long video by shapes alone, as `loopy.diffusion.rollout.next_clip` does.

    Args:
        make: Builds the stage whose networks are used; called in the fake mode.
        vae: Configuration of the autoencoder, which stays in float32.
        latent_px: Side of the latents.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), StorageTracker() as tracker:
        stage = make()
        network, settings = stage.network.eval(), stage.settings
        sampling = settings.contract.network_sampling(settings.sampling)
        decoder = _autoencoder(vae)
        networks, around = (sum(p.nbytes for p in part.parameters()) for part in (network, decoder))
        before, marks = tracker.held, [tracker.flops]
        clip = fake_clip(stage, 1, latent_px)
        reference = network.encode_reference(clip.reference)
        marks.append(tracker.flops)
        past, seen = _past(network, clip.motion_frames, settings)
        tokens, motion = clip.audio, None
        if network.audio_projection is not None:
            tokens = network.audio_projection(clip.audio)
            motion = network.audio_to_latents and network.audio_to_latents(tokens)
        motion = network.embed_frames(motion, clip.conditions)
        audio = network.project_audio(tokens)
        marks.append(tracker.flops)
        keys = {
            name: sum(x.nbytes for x in tree_leaves(values))
            for name, values in (("reference", reference), ("past", past), ("audio", audio))
        }
        plans = [sampling.branches(step / sampling.steps) for step in range(sampling.steps)]
        full = max(plans, key=len)

        def denoise(branches: tuple[GuidanceTerm, ...]) -> None:
            seeing = sum(branch.reference for branch in branches)
            hearing = sum(branch.audio for branch in branches)
            keeping = len(branches) if sampling.base_keeps_past else seeing
            network.denoiser(
                clip.latents.repeat(len(branches), 1, 1, 1, 1),
                torch.zeros(len(branches), dtype=torch.long),
                network.contexts(
                    reference=reference if seeing else {},
                    past=past if keeping else {},
                    audio=audio if hearing else {},
                ),
                motion=None if motion is None else motion.repeat(len(branches), 1, 1),
                portrait=clip.reference,
                branches=BranchLayout(len(branches), seeing, hearing, keeping),
            )

        tracker.most = tracker.held
        denoise(min(plans, key=len))
        marks.append(tracker.flops)
        for group in [full] if sampling.stacked else [(branch,) for branch in full]:
            denoise(group)
        marks.append(tracker.flops)
        denoising = tracker.most - before
        del past, audio, tokens, motion  # the next clip has others
        tracker.most = tracker.held
        to_pixels(decode_latents(decoder, clip.latents[0]))
        marks.append(tracker.flops)
        decoding = tracker.most - before
    flops = zip(("once", "clip", "plain", "step", "decode"), pairwise(marks), strict=True)
    return InferenceCost(
        networks=networks,
        around=around + _audio_encoder_bytes(network.audio_projection),
        keys=keys,
        denoising=denoising,
        decoding=decoding,
        seen=sum(x.nbytes for x in seen.values()),
        frames=settings.clip_frames,
        steps=sampling.steps,
        guided=sum(len(branches) == len(full) for branches in plans),
        **{name: after - before for name, (before, after) in flops},
    )


def _autoencoder(config: Mapping[str, object]) -> Any:
    """The one that a configuration describes, with random weights."""
    kinds: tuple[Any, ...] = (NarrowDecoderKL, NormedTiny, AutoencoderTiny)
    kind = {each.__name__: each for each in kinds}.get(
        str(config.get("_class_name")), AutoencoderKL
    )
    sizes = dict(config)
    if kind is AutoencoderTiny:  # writes one that it does not read
        sizes.pop("block_out_channels", None)
    if kind.__module__.startswith("loopy"):
        sizes = {k: v for k, v in sizes.items() if k in signature(kind).parameters}
    return kind.from_config(sizes)


def _past(
    network: DualUNet, motion_frames: Tensor, settings: Settings
) -> tuple[SiteKeys, SiteTokens]:
    """Keys and values of a past whose new frames alone are seen, and what is kept of it."""
    readings = settings.contract.layout.readings(settings.clip_frames)
    new = [until for since, until in readings if not since]
    made = network.frame_tokens(motion_frames[:, : len(new)])
    seen, slots = (
        {site: x.new_empty(x.shape[0], frames, x.shape[2]) for site, x in made.items()}
        for frames in (sum(new), len(readings))
    )
    return network.project_tokens(slots), seen


def _audio_encoder_bytes(projection: AudioProjection | None) -> int:
    """Of a wav2vec2 with the layers and width that the networks were built for."""
    if projection is None:
        return 0
    width = projection.config["width"]
    config = Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=projection.config["layers"] - 1,
        num_attention_heads=max(width // 64, 1),
        intermediate_size=4 * width,
        num_conv_pos_embedding_groups=gcd(16, width),
    )
    with FakeTensorMode():
        return sum(p.nbytes for p in AudioEncoder.from_config(config).parameters())
