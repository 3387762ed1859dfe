"""Two records that never mix: what a caller may choose, and what the weights were trained for.

`SamplingOptions` is a caller's, for one call; a field that is not given is the model's own.
`Sampling` is the model's own, complete. `DiffusionContract` belongs to the weights: with any other
than the one that was trained they make no picture, so that no call takes one.
"""

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from loopy.devices import Precision, named
from loopy.diffusion.guidance import GuidanceTerm
from loopy.errors import ConfigurationError
from loopy.segments import SegmentLayout
from loopy.typed_values import check_fields

GUIDANCE = "guidance"
"""Condition of a network that has learned its guidance: audio and reference ratio."""

Preset = Literal["quality", "balanced", "fast"]
SHARES: dict[Preset, tuple[int, int]] = {"quality": (1, 1), "balanced": (2, 2), "fast": (4, 2)}
"""Of each preset: by what the model's own steps are divided, and how often of them are guided."""


@dataclass(frozen=True)
class SamplingOptions:
    """What a caller may choose of how clips are sampled; None is what the model itself says.

    Args:
        steps: Denoising steps of a clip, in place of the model's own.
        audio_ratio: How strongly the sound leads, in place of the model's own.
        reference_ratio: How strongly the portrait leads, in place of the model's own.
        guidance_start: Share of the steps, in [0, 1], after which guidance begins.
        guidance_stop: Share of the steps, in [0, 1], after which it ends.
        stacked: Run the guidance branches as one batch; false runs one after another, in less
            memory. Same result.
        base_keeps_past: The branch without sound and portrait keeps the motion frames.
        guidance_every: Every so many steps one is guided, the first one of them; 1 = all.
        preset: How much work a clip is worth: "quality", what the model itself says; "balanced",
            half of its steps, every second one guided; "fast", a quarter of its steps. What is
            given beside it counts.

    Raises:
        ConfigurationError: No step, a ratio that is not finite, or an empty interval.
    """

    steps: int | None = None
    audio_ratio: float | None = None
    reference_ratio: float | None = None
    guidance_start: float | None = None
    guidance_stop: float | None = None
    stacked: bool | None = None
    base_keeps_past: bool | None = None
    guidance_every: int | None = None
    preset: Preset | None = None

    def __post_init__(self) -> None:
        """Refuse what no model could sample with."""
        check_fields(self)
        Sampling().altered(self)


def named_with(options: SamplingOptions, model: str, dtype: Precision) -> str:
    """A model's name in reports, with what is not as it says itself."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    return ", ".join([named(model, dtype), *(f"{name} {value}" for name, value in given.items())])


@dataclass(frozen=True)
class Sampling:
    """How a model samples unless a call says otherwise; the defaults are the paper's.

    Args:
        steps: DDIM steps (25).
        audio_ratio: Guidance ratio of the audio (5).
        reference_ratio: Guidance ratio of the reference (3).
        guidance_start: Share of the steps after which guidance begins (0 = from the first).
        guidance_stop: Share of the steps after which it ends (1 = to the last).
        stacked: Run the guidance branches as one batch.
        base_keeps_past: e_base keeps the motion frames. False, the default, drops them with the
            reference, the only such state that training shows (docs/decisions.md).
        guidance_every: Every so many steps one is guided (1 = all).

    Raises:
        ConfigurationError: No step, a ratio that is not finite, or an empty interval.
    """

    steps: int = 25
    audio_ratio: float = 5.0
    reference_ratio: float = 3.0
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    stacked: bool = True
    base_keeps_past: bool = False
    guidance_every: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        check_fields(self)
        for name in ("steps", "guidance_every"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.guidance_start < self.guidance_stop <= 1:
            raise ConfigurationError(
                f"guidance runs from start to stop, 0 <= start < stop <= 1; got "
                f"{self.guidance_start} to {self.guidance_stop}"
            )

    def branches(self, progress: float = 0.0) -> tuple[GuidanceTerm, ...]:
        """The runs that guidance needs at a point of the sampling, those that see more first.

        A branch whose coefficient is 0 is left out: e_ref when both ratios are equal, e_base when
        the reference ratio is 1. Outside of its interval, and between steps that are guided, the
        plain conditional prediction is used.

        Args:
            progress: Share of the steps already done, in [0, 1).
        """
        inside = self.guidance_start <= progress < self.guidance_stop
        if not inside or round(progress * self.steps) % self.guidance_every:
            return (GuidanceTerm(1.0, True, True),)
        every = (
            GuidanceTerm(self.audio_ratio, True, True),
            GuidanceTerm(self.reference_ratio - self.audio_ratio, False, True),
            GuidanceTerm(1.0 - self.reference_ratio, False, False),
        )
        return tuple(branch for branch in every if branch.coefficient)

    @property
    def runs(self) -> int:
        """Runs of the denoiser for one clip, in branches, over all its steps."""
        return sum(len(self.branches(step / self.steps)) for step in range(self.steps))

    def preset(self, name: Preset) -> "Sampling":
        """The same with a share of its work."""
        divisor, every = SHARES[name]
        steps = max(1, self.steps // divisor)
        return replace(self, steps=steps, guidance_every=self.guidance_every * every)

    def altered(self, options: SamplingOptions | None) -> "Sampling":
        """The same, but for what a caller gives.

        Raises:
            ConfigurationError: Something else than `SamplingOptions`.
        """
        if options is None:
            return self
        if not isinstance(options, SamplingOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"options are loopy.SamplingOptions, got {type(options).__name__}; what the "
                "weights were trained for cannot be chosen in a call"
            )
        given = {name: value for name, value in vars(options).items() if value is not None}
        preset = given.pop("preset", None)
        return replace(self if preset is None else self.preset(preset), **given)


@dataclass(frozen=True)
class DiffusionContract:
    """What the weights were trained for, and are sampled with; part of the model.

    Args:
        layout: How the past is squeezed (124 frames to 20).
        residual: Diffuse what differs from the portrait, x_0 = (latents - portrait) / residual, so
            that what stands still is zero; a usual deviation of that difference. None, the
            paper, diffuses the latents themselves.
        shared_noise: Variance share of the start noise that all frames of a clip have in common. 0
            is the paper; more steadies a small model.
        static_history: The past of the first clip is the portrait held still, so that the video
            begins where the portrait is. False, the paper: it has no past.
        guidance_input: The ratios of guidance are a condition of the network, `GUIDANCE`, and one
            run answers what the branches would together (arXiv 2210.03142, sec. 3). False, the
            paper: guidance runs the network for each branch.

    Raises:
        ConfigurationError: A share outside [0, 1], or a deviation that is none.
    """

    layout: SegmentLayout = field(default_factory=SegmentLayout)
    residual: float | None = None
    shared_noise: float = 0.0
    static_history: bool = False
    guidance_input: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        check_fields(self)
        if not 0 <= self.shared_noise <= 1:
            raise ConfigurationError(f"shared_noise lies in [0, 1], got {self.shared_noise}")
        if self.residual is not None and not (self.residual > 0 and isfinite(self.residual)):
            raise ConfigurationError(f"residual is a finite deviation > 0, got {self.residual}")

    def network_sampling(self, sampling: Sampling) -> Sampling:
        """How the network itself is run: without branches where its guidance is an input."""
        if not self.guidance_input:
            return sampling
        return replace(sampling, audio_ratio=1.0, reference_ratio=1.0)

    def to_residual(
        self, latents: Float[Tensor, "b f c h w"], portrait: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b f c h w"]:
        """What is diffused (x_0) of given latents."""
        if self.residual is None:
            return latents
        return (latents - portrait[:, None]) / self.residual

    def from_residual(
        self, clean: Float[Tensor, "b f c h w"], portrait: Float[Tensor, "b c h w"] | None
    ) -> Float[Tensor, "b f c h w"]:
        """The latents of what was diffused: `to_residual` undone.

        Raises:
            ConfigurationError: No portrait where it is needed.
        """
        if self.residual is None:
            return clean
        if portrait is None:
            raise ConfigurationError("a residual needs the latents of the portrait too")
        return self.residual * clean + portrait[:, None]

    def noise(self, shape: tuple[int, ...], draw: torch.Generator) -> Float[Tensor, "*b f c h w"]:
        """Noise of unit variance for clips, ``shared_noise`` of it common to a clip's frames."""
        common = torch.randn((*shape[:-4], 1, *shape[-3:]), generator=draw)
        fresh = torch.randn(shape, generator=draw)
        return self.shared_noise**0.5 * common + (1 - self.shared_noise) ** 0.5 * fresh

    def first_state(self, portrait: Float[Tensor, "b c h w"], *, seed: int) -> "RolloutState":
        """The state before the first clip of a portrait, as ``static_history`` says."""
        frames = self.layout.past_frames if self.static_history else 0
        return RolloutState.first(portrait, seed=seed, still_frames=frames)


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
