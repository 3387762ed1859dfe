"""Which conditions a training sample may see: Loopy sec. 3.4.

Everything is drawn from a generator of the sample's own, so that batches are the same on any
number of ranks and after a resume.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from loopy.errors import ConfigurationError
from loopy.models import CONDITIONS
from loopy.records import ConditionMask


@dataclass(frozen=True)
class ConditionDropout:
    """How often each condition is hidden.

    Args:
        audio: Audio tokens set to zero (10 %), and motion latents with them.
        motion_latents: Motion latents set to zero, drawn apart; None (the default) hides them
            together with the audio tokens, so that guidance's silent branch is in distribution.
        reference: Reference and motion frames not attended to (15 %).
        past: Motion frames' features set to zero, drawn apart (40 %).
        full_history: Share of samples that keep the whole past (60 %); the others keep a number
            of whole clips drawn evenly, none included (ours: the paper never trains them).
        conditions: Odds of the four conditions of audio-to-latents (equal).

    Raises:
        ConfigurationError: A rate outside [0, 1], or odds that are not four, or that leave nothing
            where neither measure is known.
    """

    audio: float = 0.1
    motion_latents: float | None = None
    reference: float = 0.15
    past: float = 0.4
    full_history: float = 0.6
    conditions: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)

    def __post_init__(self) -> None:
        """Refuse impossible rates."""
        for name in ("audio", "motion_latents", "reference", "past", "full_history"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate <= 1:
                raise ConfigurationError(f"{name} is a rate in [0, 1], got {rate}")
        if len(self.conditions) != len(CONDITIONS) or min(self.conditions) < 0:
            raise ConfigurationError(f"conditions are four odds, got {self.conditions}")
        if sum(self.conditions[:2]) == 0:
            raise ConfigurationError("the odds of audio or landmarks must be positive")

    def presence(self, generators: list[torch.Generator]) -> ConditionMask:
        """Draw who may see what, one generator a sample."""
        draws = torch.stack([torch.rand(4, generator=g) for g in generators])
        audio = draws[:, 0] >= self.audio
        motion = audio if self.motion_latents is None else draws[:, 1] >= self.motion_latents
        return ConditionMask(audio, motion, draws[:, 2] >= self.reference, draws[:, 3] >= self.past)

    def choice(
        self, generators: list[torch.Generator], known: Bool[Tensor, "b 2"]
    ) -> Int[Tensor, "b"]:
        """Draw the condition of audio-to-latents, one generator a sample.

        ``known``: whether head motion and expression could be measured; else they are not drawn.
        """
        odds = torch.tensor(self.conditions, dtype=torch.float).repeat(len(generators), 1)
        odds[:, 2:] *= known.cpu()
        pairs = zip(odds, generators, strict=True)
        return torch.cat([torch.multinomial(each, 1, generator=g) for each, g in pairs])

    def history(self, generator: torch.Generator, *, longest: int, clip_frames: int) -> int:
        """Draw how many past frames exist: all that the segments reach, or whole clips."""
        share, clips = torch.rand(2, generator=generator).tolist()
        if share < self.full_history:
            return longest
        return int(clips * -(-longest // clip_frames)) * clip_frames
