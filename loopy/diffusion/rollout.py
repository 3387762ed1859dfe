"""Clip after clip: who becomes whose motion frame.

::

    past (at most 124 frames, latents)          clip 3 (12 frames)
    [ clip 0 | clip 1 | clip 2 ]  --segments-->  20 slots + clip --sampler--> latents
                                                   |
    past' = [ clip 0 | clip 1 | clip 2 | clip 3 ]  <-

Latents stay latents: the past is never decoded and encoded again. The first clip has no past
and attends to 20 zero features, the state that 40 % of the training saw; later ones have a
partial past whose empty slots are masked. What `next_clip` makes is a function of its arguments
alone, so a video can be stopped, saved and continued at any clip; the cache of motion frames is
filled anew then.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.diffusion.guidance import GuidanceTerm, combine
from loopy.diffusion.options import GUIDANCE, DiffusionContract, RolloutState, Sampling
from loopy.diffusion.past import PastCache
from loopy.diffusion.sampler import Scheduler, sample
from loopy.models.dual import NONE, DualUNet, SiteKeys
from loopy.randomness import generator
from loopy.records import BranchLayout
from loopy.segments import SegmentLayout

NO_CONDITIONS: Mapping[str, Tensor] = MappingProxyType({})


@torch.no_grad()
def next_clip(
    network: DualUNet,
    scheduler: Scheduler,
    *,
    reference: SiteKeys,
    portrait: Float[Tensor, "b c h w"] | None = None,
    audio: Float[Tensor, "b f n k d"],
    state: RolloutState,
    size: tuple[int, int, int],
    contract: DiffusionContract,
    sampling: Sampling,
    conditions: Mapping[str, Float[Tensor, "b f v"]] = NO_CONDITIONS,
    cache: PastCache | None = None,
    penalties: Mapping[str, Tensor] | None = None,
) -> tuple[Float[Tensor, "b f c h w"], RolloutState]:
    """Make the next clip.

    Args:
        network: The networks.
        scheduler: Noise schedule, any of diffusers that `loopy.diffusion.sampler` takes.
        reference: `DualUNet.encode_reference` of the portrait.
        portrait: Its latents, for a denoiser with ``reference_input`` and for ``residual``.
        audio: Sound features of the clip's frames and their neighbours.
        state: Where the video stands.
        size: Latent channels, height, width.
        contract: What the weights were trained for.
        sampling: How to sample.
        conditions: Values of the network's further conditions; NaN = none of a frame.
        cache: What the clips before have seen of the past, which this clip adds to; None: nothing.
        penalties: `DualUNet.penalties` of this size; None: they are computed.

    Returns:
        The clip's latents, and the state behind it.

    Raises:
        ConfigurationError: No portrait where it is needed.
    """
    videos, frames = audio.shape[:2]
    dtype = network.denoiser.dtype  # the sampler's state is float32, cast at the network's door
    cache = PastCache() if cache is None else cache
    past, present = _past(network, state, contract.layout, frames, cache)
    tokens, motion = _sound(network, audio)
    if contract.guidance_input:
        ratios = audio.new_tensor((sampling.audio_ratio, sampling.reference_ratio))
        conditions = {**conditions, GUIDANCE: ratios.expand(videos, frames, 2)}
        sampling = contract.network_sampling(sampling)
    motion = network.embed_frames(motion, conditions)
    sound = network.project_audio(tokens)
    penalties = network.penalties(*size[1:]) if penalties is None else penalties

    def run(latents: Tensor, timestep: Tensor, branches: tuple[GuidanceTerm, ...]) -> Tensor:
        seeing = sum(branch.reference for branch in branches)
        keeping = len(branches) if sampling.base_keeps_past else seeing
        hearing = sum(branch.audio for branch in branches)
        rows = timestep.expand(len(branches) * videos)
        return network.denoiser(
            latents.repeat(len(branches), 1, 1, 1, 1).to(dtype),
            rows,
            network.contexts(
                reference=reference if seeing else NONE,
                past=past if keeping else NONE,
                audio=sound if hearing else NONE,
                penalties=penalties,
            ),
            motion=None if motion is None else _silent_after(motion, len(branches), hearing),
            portrait=None if portrait is None else portrait.to(dtype),
            branches=BranchLayout(len(branches), seeing, hearing, keeping),
            past_present=None if present is None else present.repeat(keeping, 1),
        )

    def predict(latents: Tensor, timestep: Tensor, progress: float) -> Tensor:
        branches = sampling.branches(progress)
        groups = [branches] if sampling.stacked else [(branch,) for branch in branches]
        return combine(torch.cat([run(latents, timestep, g) for g in groups]), branches)

    # Of this clip alone: noise that the past was made of would make its errors grow.
    draw = generator(state.seed, "clip", state.clip)
    noise = contract.noise((videos, frames, *size), draw).to(audio.device)
    latents = contract.from_residual(
        sample(scheduler, predict, noise, steps=sampling.steps, generator=draw), portrait
    )
    history = torch.cat([state.past.to(latents), latents], 1)[:, -contract.layout.past_frames :]
    return latents, RolloutState(history, state.clip + 1, state.seed)


def rows_of_clip(
    conditions: Mapping[str, Float[Tensor, "frames v"]],
    clip: int,
    audio: Float[Tensor, "b f n k d"],
) -> dict[str, Float[Tensor, "1 f v"]]:
    """Of a video's conditions the rows of a clip, filled up with NaN, where its sound is."""
    frames, values = audio.shape[1], {}
    for name, rows in conditions.items():
        given = rows[clip * frames :][:frames]
        absent = given.new_full((frames - len(given), rows.shape[1]), torch.nan)
        values[name] = torch.cat([given, absent])[None].to(audio.device)
    return values


def _past(
    network: DualUNet,
    state: RolloutState,
    layout: SegmentLayout,
    clip_frames: int,
    cache: PastCache,
) -> tuple[SiteKeys, Tensor | None]:
    """Keys and values of the past, and which of its slots exist (None = all)."""
    if not state.past.shape[1]:
        return network.null_past(), None
    past = state.past.to(network.denoiser.device, network.denoiser.dtype)
    slots, present = layout.select(past, generator(state.seed, "segments", state.clip))
    tokens = cache.tokens(network, slots, present[0].tolist(), layout.readings(clip_frames))
    return network.project_tokens(tokens), None if present.all() else present


def _sound(network: DualUNet, audio: Tensor) -> tuple[Tensor, Tensor | None]:
    """Audio tokens and motion latents of a clip."""
    if network.audio_projection is None:
        return audio, None
    tokens = network.audio_projection(audio)
    return tokens, network.audio_to_latents and network.audio_to_latents(tokens)


def _silent_after(motion: Tensor, branches: int, hearing: int) -> Tensor:
    """Motion latents of the branches that hear, zeros for those behind."""
    return torch.cat([motion] * hearing + [torch.zeros_like(motion)] * (branches - hearing))
