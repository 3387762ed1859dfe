"""A shot store that fits the tiny networks, and is written at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from loopy.data.store.description import StoreDescription, create_store
from loopy.data.store.index_build import build_index
from loopy.data.store.shots import Provenance, ShotRecord, shot_id, write_shot
from loopy.diffusion.settings import Settings
from loopy.motion import MotionSequence
from loopy.randomness import generator
from loopy.training.stages import ClipStage, ImageStage
from tests.training.ranks import Runs

SIZE, SIDE, FRAMES = 16, 8, 20


def _make_record(name: str, *, frames: int = FRAMES, noise: bool = False) -> ShotRecord:
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
    return ShotRecord(shot_id(name, 0, 1, {}), latents, audio, motion, about)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., ShotRecord]:
    """A clip of a person of that name, a number; its latents are that number, or noise."""
    return _make_record


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Path]:
    """An indexed store of `make_record`'s clips: (folder, names, options of records and index)."""

    def make(root, names, *, noise=False, validation=0.3, test=0.0):
        create_store(root, StoreDescription(SIZE, (4, SIDE, SIDE), (3, 8)))
        for name in names:
            write_shot(root, _make_record(name, noise=noise))
        build_index(root, validation=validation, test=test)
        return root

    return make


LAYOUT = {"stride": 2, "segments": 2}
UNET = {
    "block_out_channels": [16, 24],
    "attention": [True, False],
    "layers_per_block": 1,
    "heads": 2,
    "norm_num_groups": 4,
}


def _of(class_path, **init_args):
    return {"class_path": class_path, "init_args": init_args}


def _clip_recipe(store, parts):
    """The clip stage of the tiny networks from a store, with all callbacks that write."""
    network = _of(
        "loopy.models.DualUNet",
        reference_net=_of("loopy.models.UNet", **UNET, out_channels=None),
        denoiser=_of("loopy.models.UNet", **UNET, audio_dim=12, clip_frames=3, motion_slots=4),
        audio_projection=_of(
            "loopy.models.AudioProjection", layers=3, width=8, hidden=16, tokens=2, token_width=12
        ),
        audio_to_latents=_of(
            "loopy.models.AudioToLatents",
            audio_width=24,
            time_dim=64,
            num_embeddings=6,
            dim=16,
            heads=2,
        ),
    )
    scheduler = _of("diffusers.DDIMScheduler", clip_sample=False, set_alpha_to_one=False)
    settings = {
        "size_px": 16,
        "clip_frames": 3,
        "sampling": {"steps": 2},
        "contract": {"layout": LAYOUT},
    }
    return {
        "seed_everything": 0,
        "model": _of(
            "loopy.training.stages.ClipStage",
            network=network,
            scheduler=scheduler,
            settings=settings,
            parts=str(parts),
            learning_rate=1e-3,
            cosine=True,
            self_generated_history=0.3,
        ),
        "data": _of(
            "loopy.training.store_clips.StoreClips",
            store=str(store),
            layout=LAYOUT,
            clip_frames=3,
            batch_size=2,
            workers=0,
        ),
        "trainer": {
            "accelerator": "cpu",
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": [
                _of("loopy.training.ema.MovingAverage", decay=0.9),
                _of("loopy.training.loss_plot.LossPlot", every=1),
            ],
        },
    }


@pytest.fixture(scope="session")
def clip_recipe() -> Callable[..., dict]:
    """A recipe for `loopy fit`: (store, parts)."""
    return _clip_recipe


@pytest.fixture
def runs(make_store, make_pipeline, tmp_path) -> Runs:
    """Runs of the tiny networks on 12 clips, by one process or two."""
    make_pipeline().save_pretrained(tmp_path / "parts")
    store = make_store(tmp_path / "store", [str(number) for number in range(12)], noise=True)
    return Runs(store, tmp_path / "parts", make_pipeline)


@pytest.fixture
def schedule():
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@pytest.fixture
def make_stage(make_dual, awaken, schedule):
    """A stage around tiny networks with nothing silent; ``shape`` is both UNets'."""

    def make(kind=ClipStage, *, shape=None, settings=None, **options):
        torch.manual_seed(0)
        if kind is ImageStage:
            shape = {"clip_frames": None} | (shape or {})
        settings = settings or Settings(size_px=16, clip_frames=3)
        return kind(awaken(make_dual(shape=shape)), schedule, settings, **options)

    return make
