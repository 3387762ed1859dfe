"""Tiny networks and records; one thread, fixed seeds, no network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from loopy.models import AudioProjection, AudioToLatents, DualUNet, UNet
from loopy.records import Clip

torch.set_num_threads(1)

FRAMES, SLOTS, SIDE = 3, 4, 8
NEIGHBOURS, LAYERS, WIDTH = 5, 3, 8  # of the sound
TOKENS, TOKEN_WIDTH = 2, 12
SHAPE = {
    "block_out_channels": (16, 24),
    "attention": (True, False),
    "layers_per_block": 1,
    "heads": 2,
    "norm_num_groups": 4,
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def make_denoiser():
    """A denoiser with audio and temporal layers; keyword arguments override."""

    def make(**changes):
        options = {"audio_dim": TOKEN_WIDTH, "clip_frames": FRAMES, "motion_slots": SLOTS}
        return UNet(**SHAPE | options | changes)

    return make


@pytest.fixture
def make_dual(make_denoiser):
    """All trained networks; ``shape`` overrides both UNets, the rest goes to `DualUNet`."""

    def make(*, shape=None, **options):
        denoiser = make_denoiser(**shape or {})
        time_dim = denoiser.config.block_out_channels[0] * 4
        return DualUNet(
            UNet(**SHAPE | (shape or {}) | {"out_channels": None}),
            denoiser,
            AudioProjection(
                layers=LAYERS, width=WIDTH, hidden=16, tokens=TOKENS, token_width=TOKEN_WIDTH
            ),
            AudioToLatents(
                audio_width=TOKENS * TOKEN_WIDTH,
                time_dim=time_dim,
                num_embeddings=6,
                dim=16,
                heads=2,
            ),
            **options,
        )

    return make


@pytest.fixture
def make_clip():
    """Random samples; keyword arguments replace fields."""

    def make(videos=2, *, seed=0, frames=FRAMES, **fields):
        def noise(*shape):
            return torch.randn(videos, *shape, generator=generator)

        generator = torch.Generator().manual_seed(seed)
        drawn = {
            "latents": noise(frames, 4, SIDE, SIDE),
            "reference": noise(4, SIDE, SIDE),
            "motion_frames": noise(SLOTS, 4, SIDE, SIDE),
            "past_present": torch.ones(videos, SLOTS, dtype=torch.bool),
            "audio": noise(frames, NEIGHBOURS, LAYERS, WIDTH),
            "landmarks": noise(frames, 204),
            "measures": noise(2).exp(),
        }
        return Clip(**drawn | fields)

    return make


@pytest.fixture
def awaken():
    """Give every parameter that is zero at birth random values, as training would."""

    def wake(network, seed=1):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        return network

    return wake
