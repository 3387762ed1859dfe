"""What passes between the networks: small immutable records, each with its null form.

Letters: b videos, f frames of the clip, m motion frames (oldest first), n audio neighbours,
k wav2vec2 layers, d their width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from loopy.errors import ConfigurationError


@dataclass
class Clip:
    """A batch of training samples: clips with their portrait, past, sound and movement.

    Nothing here alters one, but it is not frozen: for a precision such as bf16-true lightning
    copies a batch and sets the copy's fields.

    Args:
        latents: The clip to learn, scaled latents.
        reference: The portrait, scaled latents.
        motion_frames: The squeezed past, oldest first; zero where there is none.
        past_present: Which motion frames exist.
        audio: Encoder features of each frame and its neighbours, all layers.
        landmarks: `MotionSequence.normalised` of the clip.
        measures: Head motion and expression variance, px^2 at 512; NaN = unknown.
        weight: Weight of the loss at each place (1 = plain); None = plain everywhere.
        conditions: Values of each frame for the network's `FrameCondition`s, by name; NaN = none.
    """

    latents: Float[Tensor, "b f c h w"]
    reference: Float[Tensor, "b c h w"]
    motion_frames: Float[Tensor, "b m c h w"]
    past_present: Bool[Tensor, "b m"]
    audio: Float[Tensor, "b f n k d"]
    landmarks: Float[Tensor, "b f 204"]
    measures: Float[Tensor, "b 2"]
    weight: Float[Tensor, "b f 1 h w"] | None = None
    conditions: Mapping[str, Float[Tensor, "b f v"]] = field(default_factory=dict[str, Tensor])

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.latents)

    def to(self, device: torch.device | str) -> Self:
        """Move every tensor."""
        return self._each(lambda tensor: tensor.to(device))

    def inputs_as(self, dtype: torch.dtype) -> Self:
        """In a network's precision, as far as it is seen: portrait, motion frames and audio."""
        names = ("reference", "motion_frames", "audio")
        return replace(self, **{name: getattr(self, name).to(dtype) for name in names})

    def rows(self, rows: slice | Int[Tensor, "r"]) -> Self:
        """Some of the samples."""
        return self._each(lambda tensor: tensor[rows])

    @classmethod
    def cat(cls, clips: Sequence[Self]) -> Self:
        """All samples of batches in order; all or none of them have a weight, or a condition."""
        given = [name for name, value in vars(clips[0]).items() if isinstance(value, Tensor)]
        fields = {name: torch.cat([getattr(clip, name) for clip in clips]) for name in given}
        named = clips[0].conditions
        conditions = {name: torch.cat([clip.conditions[name] for clip in clips]) for name in named}
        return cls(**fields, conditions=conditions)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        given = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        changed = {name: change(value) for name, value in given.items()}
        conditions = {name: change(value) for name, value in self.conditions.items()}
        return replace(self, **changed, conditions=conditions)


@dataclass(frozen=True)
class ConditionMask:
    """Which conditions each sample may see; its null form is `ConditionMask.none`.

    The same record serves training dropout (random) and validation (all). It stays on the CPU,
    where `reference_mask` asks it without waiting for a GPU.

    Args:
        audio: Audio tokens (else zero).
        motion_latents: Motion latents (else zero).
        reference: Reference tokens, and with them the motion frames (else dropped: not attended).
        past: Motion frames' features (else zero, but attended).
    """

    audio: Bool[Tensor, "b"]
    motion_latents: Bool[Tensor, "b"]
    reference: Bool[Tensor, "b"]
    past: Bool[Tensor, "b"]

    def reference_mask(self, device: torch.device | str) -> Bool[Tensor, "b"] | None:
        """Who sees the reference; None where all do, for masks rule out the fastest attention."""
        return None if self.reference.all() else self.reference.to(device)

    @classmethod
    def all(cls, videos: int, device: torch.device | str | None = None) -> Self:
        """Everything is seen."""
        return cls(*torch.ones(4, videos, dtype=torch.bool, device=device).unbind())

    @classmethod
    def none(cls, videos: int, device: torch.device | str | None = None) -> Self:
        """Nothing is seen. What guidance's base branch sees; in `BranchLayout` it has no row."""
        return cls(*torch.zeros(4, videos, dtype=torch.bool, device=device).unbind())


@dataclass(frozen=True)
class BranchLayout:
    """How the rows of a denoiser call are laid out: ``(branches b)``, those that see more first.

    Plain integers, so that a compiled graph is fixed by them.

    Args:
        total: Runs of guidance that are stacked.
        reference: How many of them, from the front, see the reference.
        audio: How many of them, from the front, hear the audio.
        past: How many of them, from the front, see the motion frames; None = as ``reference``.

    Raises:
        ConfigurationError: More bearing branches than branches.
    """

    total: int = 1
    reference: int = 1
    audio: int = 1
    past: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible counts."""
        bearing = (self.reference, self.audio, self.seeing_past)
        if self.total < 1 or not all(0 <= count <= self.total for count in bearing):
            raise ConfigurationError(f"each count must lie in 0..total, got {self}")

    @property
    def seeing_past(self) -> int:
        """How many branches see the motion frames."""
        return self.reference if self.past is None else self.past


@dataclass(frozen=True)
class SiteFeatures:
    """What the reference net saw at one site.

    Args:
        maps: Outputs of the site's block, for motion frames (n = motion frames).
        tokens: Normalised tokens its self-attention saw; None where there is no attention.
    """

    maps: Float[Tensor, "n c h w"] | None = None
    tokens: Float[Tensor, "n l c"] | None = None
