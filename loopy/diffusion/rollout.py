"""Clip after clip: who becomes whose motion frame.

::

    past (at most 124 frames, latents)          clip 3 (12 frames)
    [ clip 0 | clip 1 | clip 2 ]  --segments-->  20 slots + clip --DDIM--> latents
                                                   |
    past' = [ clip 0 | clip 1 | clip 2 | clip 3 ]  <-

Latents stay latents: the past is never decoded and encoded again. The first clip has no past
and attends to 20 zero features, the state that 40 % of the training saw; later ones have a
partial past whose empty slots are masked. `next_clip` is a function of its arguments alone, so
a video can be stopped, saved and continued at any clip.
"""

from dataclasses import dataclass, field, replace

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from loopy.diffusion.guidance import Branch, GuidanceScales, combine
from loopy.diffusion.sampler import ddim
from loopy.errors import ConfigurationError
from loopy.models.dual import NONE, DualUNet, SiteKeys
from loopy.randomness import generator
from loopy.records import Branches
from loopy.segments import SegmentLayout


@dataclass(frozen=True)
class RolloutOptions:
    """How clips are sampled. Part of a checkpoint, so training and sampling cannot disagree.

    Args:
        steps: DDIM steps (25).
        guidance: Ratios (audio 5, reference 3).
        layout: How the past is squeezed (124 frames to 20).
        noise_share: Variance share of the start noise that all frames of a clip have in common. 0
            is the paper; more steadies a small model.
        stacked: Run the guidance branches as one batch; False runs one after another, in less
            memory. Same result.
        residual: Diffuse what differs from the portrait, x_0 = (latents - portrait) / residual, so
            that what stands still is zero; a usual deviation of that difference. None, the
            paper, diffuses the latents themselves.
        still_start: The past of the first clip is the portrait held still, so that the video
            begins where the portrait is. False, the paper: it has no past.
        base_keeps_past: e_base keeps the motion frames. False, the default, drops them with the
            reference, the only such state that training shows (docs/decisions.md).

    Raises:
        ConfigurationError: No step, or a share outside [0, 1].
    """

    steps: int = 25
    guidance: GuidanceScales = field(default_factory=GuidanceScales)
    layout: SegmentLayout = field(default_factory=SegmentLayout)
    noise_share: float = 0.0
    stacked: bool = True
    residual: float | None = None
    still_start: bool = False
    base_keeps_past: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        if self.steps < 1:
            raise ConfigurationError(f"steps must be at least 1, got {self.steps}")
        if not 0 <= self.noise_share <= 1:
            raise ConfigurationError(f"noise_share lies in [0, 1], got {self.noise_share}")
        if self.residual is not None and self.residual <= 0:
            raise ConfigurationError(f"residual is a deviation above 0, got {self.residual}")

    def clean(
        self, latents: Float[Tensor, "b f c h w"], portrait: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b f c h w"]:
        """What is diffused (x_0) of given latents."""
        if self.residual is None:
            return latents
        return (latents - portrait[:, None]) / self.residual

    def latents(
        self, clean: Float[Tensor, "b f c h w"], portrait: Float[Tensor, "b c h w"] | None
    ) -> Float[Tensor, "b f c h w"]:
        """The latents of what was diffused: `clean` undone.

        Raises:
            ConfigurationError: No portrait where it is needed.
        """
        if self.residual is None:
            return clean
        if portrait is None:
            raise ConfigurationError("residual rollouts need the latents of the portrait too")
        return self.residual * clean + portrait[:, None]

    def noise(self, shape: tuple[int, ...], draw: torch.Generator) -> Float[Tensor, "*b f c h w"]:
        """Noise of unit variance for clips, ``noise_share`` of it common to a clip's frames."""
        common = torch.randn((*shape[:-4], 1, *shape[-3:]), generator=draw)
        fresh = torch.randn(shape, generator=draw)
        return self.noise_share**0.5 * common + (1 - self.noise_share) ** 0.5 * fresh

    def first_state(self, portrait: Float[Tensor, "b c h w"], *, seed: int) -> "RolloutState":
        """The state before the first clip of a portrait, as ``still_start`` says."""
        frames = self.layout.past_frames if self.still_start else 0
        return RolloutState.first(portrait, seed=seed, still_frames=frames)

    def altered(
        self,
        *,
        steps: int | None = None,
        audio_ratio: float | None = None,
        reference_ratio: float | None = None,
    ) -> "RolloutOptions":
        """The same options, but for what is given."""
        ratios = {"audio": audio_ratio, "reference": reference_ratio}
        given = {name: ratio for name, ratio in ratios.items() if ratio is not None}
        guidance = replace(self.guidance, **given)
        return replace(self, steps=self.steps if steps is None else steps, guidance=guidance)


@dataclass(frozen=True)
class RolloutState:
    """Where a video stands between two clips.

    Args:
        past: Latents made so far, oldest first; only what the segments can reach.
        clip: Number of the next clip.
        seed: Seed of the video's noise.
    """

    past: Float[Tensor, "b p c h w"]
    clip: int = 0
    seed: int = 0

    @classmethod
    def first(
        cls, portrait: Float[Tensor, "b c h w"], *, seed: int = 0, still_frames: int = 0
    ) -> "RolloutState":
        """The state before the first clip of a portrait.

        Args:
            portrait: Its latents.
            seed: Seed of the video's noise.
            still_frames: How long a past in which it does not move; 0 is the paper.
        """
        return cls(portrait[:, None].expand(-1, still_frames, -1, -1, -1), seed=seed)


@torch.no_grad()
def next_clip(
    network: DualUNet,
    scheduler: DDIMScheduler,
    *,
    reference: SiteKeys,
    portrait: Float[Tensor, "b c h w"] | None = None,
    audio: Float[Tensor, "b f n k d"],
    state: RolloutState,
    size: tuple[int, int, int],
    options: RolloutOptions,
) -> tuple[Float[Tensor, "b f c h w"], RolloutState]:
    """Make the next clip.

    Args:
        network: The networks.
        scheduler: Noise schedule.
        reference: `DualUNet.encode_reference` of the portrait.
        portrait: Its latents, for a denoiser with ``reference_input`` and for ``residual``.
        audio: Sound features of the clip's frames and their neighbours.
        state: Where the video stands.
        size: Latent channels, height, width.
        options: How to sample.

    Returns:
        The clip's latents, and the state behind it.

    Raises:
        ConfigurationError: No portrait where it is needed.
    """
    videos, frames = audio.shape[:2]
    past, present = _past(network, state, videos, size, options)
    tokens, motion = _sound(network, audio)
    sound = network.project_audio(tokens)

    def run(latents: Tensor, timestep: Tensor, branches: tuple[Branch, ...]) -> Tensor:
        seeing = sum(branch.reference for branch in branches)
        keeping = len(branches) if options.base_keeps_past else seeing
        hearing = sum(branch.audio for branch in branches)
        rows = timestep.expand(len(branches) * videos)
        return network.denoiser(
            latents.repeat(len(branches), 1, 1, 1, 1),
            rows,
            network.contexts(
                reference=reference if seeing else NONE,
                past=past if keeping else NONE,
                audio=sound if hearing else NONE,
            ),
            motion=None if motion is None else _silent_after(motion, len(branches), hearing),
            portrait=portrait,
            branches=Branches(len(branches), seeing, hearing, keeping),
            past_present=None if present is None else present.repeat(keeping, 1),
        )

    def predict(latents: Tensor, timestep: Tensor, progress: float) -> Tensor:
        branches = options.guidance.branches(progress)
        groups = [branches] if options.stacked else [(branch,) for branch in branches]
        return combine(torch.cat([run(latents, timestep, g) for g in groups]), branches)

    # Of this clip alone: noise that the past was made of would make its errors grow.
    draw = generator(state.seed, "clip", state.clip)
    noise = options.noise((videos, frames, *size), draw).to(audio)
    latents = options.latents(ddim(scheduler, predict, noise, steps=options.steps), portrait)
    history = torch.cat([state.past.to(latents), latents], 1)[:, -options.layout.past_frames :]
    return latents, RolloutState(history, state.clip + 1, state.seed)


def _past(
    network: DualUNet,
    state: RolloutState,
    videos: int,
    size: tuple[int, int, int],
    options: RolloutOptions,
) -> tuple[SiteKeys, Tensor | None]:
    """Keys and values of the past, and which of its slots exist (None = all)."""
    device, dtype = network.denoiser.device, network.denoiser.dtype
    if not state.past.shape[1]:
        zeros = torch.zeros(videos, options.layout.slots, *size, device=device, dtype=dtype)
        return network.encode_past(zeros, zeros.new_zeros(videos).bool()), None
    slots, present = options.layout.select(
        state.past.to(device, dtype), generator(state.seed, "segments", state.clip)
    )
    return network.encode_past(slots), None if present.all() else present


def _sound(network: DualUNet, audio: Tensor) -> tuple[Tensor, Tensor | None]:
    """Audio tokens and motion latents of a clip."""
    if network.audio_projection is None:
        return audio, None
    tokens = network.audio_projection(audio)
    return tokens, network.audio_to_latents and network.audio_to_latents(tokens)


def _silent_after(motion: Tensor, branches: int, hearing: int) -> Tensor:
    """Motion latents of the branches that hear, zeros for those behind."""
    return torch.cat([motion] * hearing + [torch.zeros_like(motion)] * (branches - hearing))
