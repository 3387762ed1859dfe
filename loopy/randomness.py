"""Randomness as a function of a key: (seed, step, sample) gives the same draws on every machine."""

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on its key alone; draw there, then move to the device.

    Args:
        key: For example a seed, a step and a sample's number.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """A number between two."""
    return low + (high - low) * float(torch.rand((), generator=generator))
