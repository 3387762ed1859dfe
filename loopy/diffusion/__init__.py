"""The diffusion process: objective, guidance, sampler, and the way from clip to clip."""

from loopy.diffusion.guidance import GuidanceTerm
from loopy.diffusion.options import DiffusionContract, RolloutState, Sampling, SamplingOptions
from loopy.diffusion.rollout import next_clip
from loopy.diffusion.sampler import Scheduler, sample

__all__ = [
    "DiffusionContract",
    "GuidanceTerm",
    "RolloutState",
    "Sampling",
    "SamplingOptions",
    "Scheduler",
    "next_clip",
    "sample",
]
