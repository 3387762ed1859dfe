"""The diffusion process: objective, guidance, sampler, and the way from clip to clip."""

from loopy.diffusion.guidance import Branch, GuidanceScales
from loopy.diffusion.rollout import RolloutOptions, RolloutState, next_clip
from loopy.diffusion.sampler import ddim

__all__ = ["Branch", "GuidanceScales", "RolloutOptions", "RolloutState", "ddim", "next_clip"]
