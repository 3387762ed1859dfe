"""One clip of inference by shapes alone: what `LoopyPipeline.stream` holds and computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import torch
from diffusers import AutoencoderKL
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from transformers import Wav2Vec2Config

from loopy.models import AudioEncoder, decode_latents
from loopy.pixels import to_pixels
from loopy.records import BranchLayout
from loopy.training.estimate_ledger import Ledger, bytes_of
from loopy.training.estimate_precision import cast
from loopy.training.estimate_step import fake_clip
from loopy.training.module import LoopyModule


@dataclass(frozen=True)
class InferenceCost:
    """One clip of one video; bytes and floating-point operations.

    Attributes:
        networks: Weights of reference net, denoiser and audio modules.
        around: Weights of the autoencoder and the audio encoder.
        keys: Keys and values at all sites, by whose they are: reference, past, audio.
        denoising: Most that one diffusion step holds besides weights, keys included.
        decoding: Most that turning the clip's latents into pictures holds, the portrait's keys
            included.
        frames: Frames of the clip.
        once: Operations of the portrait's keys, once a video.
        clip: Operations of the past's and the sound's keys, once a clip.
        step: Operations of the denoiser in one diffusion step, all branches.
        decode: Operations of the autoencoder, once a clip.
        steps: Diffusion steps.
    """

    networks: int
    around: int
    keys: Mapping[str, int]
    denoising: int
    decoding: int
    frames: int
    once: int
    clip: int
    step: int
    decode: int
    steps: int

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
        return (self.clip + self.steps * self.step + self.decode) / self.frames


def inference_cost(
    make: Callable[[], LoopyModule],
    vae: Mapping[str, object],
    *,
    latent_px: int,
    dtype: torch.dtype = torch.float32,
) -> InferenceCost:
    """Run one clip with a whole past by shapes alone, as `LoopyPipeline` does.

    Args:
        make: Builds the stage whose networks are used; called in the fake mode.
        vae: Configuration of the autoencoder, which stays in float32.
        latent_px: Side of the latents.
        dtype: Of the networks, as `LoopyPipeline.to` takes it.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        stage = make()
        network = stage.network.eval()
        cast(network, dtype)
        decoder: AutoencoderKL = AutoencoderKL.from_config(dict(vae))  # pyright: ignore[reportAssignmentType]  # no tuple: not asked for
        networks = bytes_of(network.parameters())
        around = bytes_of(decoder.parameters()) + _audio_encoder_bytes(stage)
        clip = fake_clip(stage, 1, latent_px, weighted=False)
        with Ledger() as ledger:
            ledger.follow(network.parameters(), "weights")  # or a view of one is taken for new
            ledger.follow(decoder.parameters(), "weights")
            weights = ledger.held
            marks = [ledger.flops]
            reference = network.encode_reference(clip.reference)
            marks.append(ledger.flops)
            past = network.encode_past(clip.motion_frames)
            tokens, motion = clip.audio, None
            if network.audio_projection is not None:
                tokens = network.audio_projection(clip.audio)
                motion = network.audio_to_latents and network.audio_to_latents(tokens)
            audio = network.project_audio(tokens)
            marks.append(ledger.flops)
            sizes = {
                name: bytes_of(tree_leaves(keys))
                for name, keys in (("reference", reference), ("past", past), ("audio", audio))
            }

            sampling = stage.settings.sampling
            branches = sampling.guidance.branches()
            groups = [branches] if sampling.stacked else [(branch,) for branch in branches]
            ledger.forget_peak()
            for group in groups:
                seeing = sum(branch.reference for branch in group)
                hearing = sum(branch.audio for branch in group)
                keeping = len(group) if sampling.base_keeps_past else seeing
                network.denoiser(
                    clip.latents.repeat(len(group), 1, 1, 1, 1),
                    torch.zeros(len(group), dtype=torch.long),
                    network.contexts(
                        reference=reference if seeing else {},
                        past=past if keeping else {},
                        audio=audio if hearing else {},
                    ),
                    motion=None if motion is None else motion.repeat(len(group), 1, 1),
                    portrait=clip.reference,
                    branches=BranchLayout(len(group), seeing, hearing, keeping),
                )
            marks.append(ledger.flops)
            denoising = ledger.most - weights
            del past, audio, tokens, motion  # the next clip has others
            ledger.forget_peak()
            pictures = decode_latents(decoder, clip.latents[0])
            to_pixels(pictures)
            marks.append(ledger.flops)
            once, every_clip, step, decode = (b - a for a, b in pairwise(marks))
            return InferenceCost(
                networks=networks,
                around=around,
                keys=sizes,
                denoising=denoising,
                decoding=ledger.most - weights,
                frames=stage.settings.clip_frames,
                once=once,
                clip=every_clip,
                step=step,
                decode=decode,
                steps=sampling.steps,
            )


def _audio_encoder_bytes(stage: LoopyModule) -> int:
    """Of a wav2vec2 with the layers and width that the networks were built for."""
    hearing = stage.network.audio_projection
    if hearing is None:
        return 0
    width = hearing.config["width"]
    config = Wav2Vec2Config(
        hidden_size=width,
        num_hidden_layers=hearing.config["layers"] - 1,
        num_attention_heads=max(width // 64, 1),
        intermediate_size=4 * width,
        num_conv_pos_embedding_groups=gcd(16, width),
    )
    return bytes_of(AudioEncoder.from_config(config).parameters())
