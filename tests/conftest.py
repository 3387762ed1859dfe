"""Tiny networks and records; one thread, fixed seeds, no network."""

import os
import shutil
import wave

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of new processes too, beside those of xdist

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from PIL import Image
from transformers import Wav2Vec2Config

from loopy.diffusion.options import DiffusionContract, Sampling
from loopy.diffusion.settings import Settings
from loopy.faces.networks import installed, models_folder
from loopy.models import AudioEncoder, AudioProjection, AudioToLatents, DualUNet, UNet
from loopy.pipeline import LoopyPipeline
from loopy.records import Clip
from loopy.segments import SegmentLayout

torch.set_num_threads(1)
# portraits are framed alike on every machine: tests that want the face networks ask for them
DATA_HOME = os.environ.setdefault("LOOPY_DATA_HOME", os.environ.get("XDG_DATA_HOME", ""))
os.environ["XDG_DATA_HOME"] = os.devnull

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
    yield
    torch.set_flush_denormal(False)  # `loopy fit` sets it for its process; hypothesis refuses it


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
            UNet(
                **SHAPE
                | (shape or {})
                | {"out_channels": None, "text_dim": None, "reference_input": False}
            ),
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


@pytest.fixture
def make_pipeline(make_dual, awaken):
    """A whole pipeline of 16 px pictures and clips of `FRAMES`; keyword arguments set it up."""

    def make(*, seed=0, sampling=None, contract=None, **settings):
        torch.manual_seed(seed)
        hearing = Wav2Vec2Config(
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS - 1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            norm_num_groups=4,
        )
        scheduler = DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        )
        sampling = Sampling(**{"steps": 2} | (sampling or {}))
        layout = {"layout": SegmentLayout(stride=2, segments=2)}
        contract = DiffusionContract(**layout | (contract or {}))
        return LoopyPipeline(
            awaken(make_dual()).eval(),
            AudioEncoder.from_config(hearing),
            vae.eval(),
            scheduler,
            Settings(16, FRAMES, sampling, contract, **settings),
        )

    return make


def _write_speech(path, seconds, seed=0):
    samples = np.random.default_rng(seed).normal(0, 3000, round(16_000 * seconds))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.fixture
def write_speech():
    """Noise in place of a voice: (path, seconds, seed)."""
    return _write_speech


@pytest.fixture
def tiny_model(make_pipeline, tmp_path_factory):
    """The folder of the tiny model, saved once and for copies only."""
    folder = tmp_path_factory.getbasetemp() / "tiny"
    if not folder.exists():
        make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def desk(tiny_model, write_speech, tmp_path, monkeypatch):
    """The working directory of a user: a portrait, 0.3 s of speech, a tiny model."""
    shutil.copytree(tiny_model, tmp_path / "tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "portrait.png")
    write_speech(tmp_path / "speech.wav", 0.3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def face_networks():
    """The folder of the face networks, which ``loopy faces install`` fills."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", DATA_HOME)
        if not installed():
            pytest.skip("the face networks are not installed; run: loopy faces install")
        return models_folder()


@pytest.fixture
def faces_installed(face_networks, monkeypatch):
    """Portraits are framed by their faces, as where they are installed."""
    monkeypatch.setenv("XDG_DATA_HOME", DATA_HOME)
