"""A clip store that fits the tiny networks, and is written at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loopy.data.clips import ClipRecord, Provenance, clip_id
from loopy.data.description import StoreDescription, create_store
from loopy.data.index import build_index
from loopy.data.store import write_clip
from loopy.motion import MotionSequence
from loopy.randomness import generator

SIZE, SIDE, FRAMES = 16, 8, 20


def _make_record(name: str, *, frames: int = FRAMES, noise: bool = False) -> ClipRecord:
    draw = generator(name)
    motion = MotionSequence(
        4 + 8 * torch.rand(frames, 68, 2, generator=draw),
        torch.zeros(frames, 3),
        torch.ones(frames, 68, dtype=torch.bool),
        SIZE,
    )
    about = Provenance(f"{name}.mp4", name, 0, frames / 25, (0, 0, 16, 16), 25, identity=name)
    latents = torch.full((frames, 4, SIDE, SIDE), float(name))
    if noise:
        latents = torch.randn(latents.shape, generator=draw)
    audio = torch.randn(frames, 3, 8, generator=draw)
    return ClipRecord(clip_id(name, 0, 1, {}), latents, audio, motion, about)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., ClipRecord]:
    """A clip of a person of that name, a number; its latents are that number, or noise."""
    return _make_record


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Path]:
    """An indexed store of `make_record`'s clips: (folder, names, options of records and index)."""

    def make(root, names, *, noise=False, validation=0.3, test=0.0):
        create_store(root, StoreDescription(SIZE, (4, SIDE, SIDE), (3, 8)))
        for name in names:
            write_clip(root, _make_record(name, noise=noise))
        build_index(root, validation=validation, test=test)
        return root

    return make
