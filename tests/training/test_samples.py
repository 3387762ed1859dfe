"""Samples of a training: a person of the store, or a toon, and what is made of them."""

import sys
import warnings
from dataclasses import replace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from loopy.data.media.video import Video
from loopy.data.store.shots import write_shot
from loopy.errors import StoreError
from loopy.models.latents import decode_latents
from loopy.segments import SegmentLayout
from loopy.training.datamodule import LoopyDataModule
from loopy.training.samples import HeldOut, ValidationSamples, held_out_sample
from loopy.training.stages import ClipStage
from loopy.training.start import FrozenParts
from loopy.training.store_clips import StoreClips

CLIP, SIZE_PX = 3, 16
NOBODY = LoopyDataModule(batch_size=1, validation_batches=1)  # without held-out people
NAMES = [str(number) for number in range(12)]  # of clips of 20 frames: a portrait and six clips


@pytest.fixture
def no_voice(monkeypatch):
    """The extra `synthetic` is not installed."""
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline()


@pytest.fixture
def open_data(make_store, tmp_path):
    """Opens the store as it is then."""
    store = make_store(tmp_path / "store", NAMES, noise=True)

    def opened():
        return StoreClips(
            store=str(store),
            layout=SegmentLayout(stride=2, segments=2),
            clip_frames=CLIP,
            batch_size=2,
            workers=0,
        )

    return opened


@pytest.fixture
def held_out(open_data, make_record):
    """The record of the first held-out clip."""
    sampler = open_data().sampler
    wanted = sampler.store.index.id(int(sampler.held_out_rows[0]))
    [record] = [r for r in (make_record(name, noise=True) for name in NAMES) if r.id == wanted]
    return record


def spoken(pipeline, data, **options):
    """Frames of truth, and as made."""
    sample = held_out_sample(pipeline, data, **options)
    return sample.truth, sample.made.frames


def test_a_person_of_the_store_speaks_without_the_voice(pipeline, open_data, held_out, no_voice):
    truth, made = spoken(pipeline, open_data())
    latents = held_out.latents[1:19].half().float()  # behind the portrait, whole clips
    expected = ((decode_latents(pipeline.vae, latents) + 1) * 127.5).round().byte()
    assert torch.equal(truth, expected.permute(0, 2, 3, 1))
    assert made.shape == truth.shape


def test_a_sheet_has_rows_of_truth_above_those_of_what_was_made():
    truth = torch.arange(18, dtype=torch.uint8).view(18, 1, 1, 1).expand(-1, SIZE_PX, SIZE_PX, 3)
    sheet = HeldOut(truth, Video(100 + truth), {}).sheet()
    assert sheet.size == (12 * SIZE_PX, 4 * SIZE_PX)
    shown = np.asarray(sheet)[::SIZE_PX, ::SIZE_PX, 0]
    wanted = torch.linspace(0, 17, 24).long().view(2, 12).numpy()
    assert np.array_equal(shown[::2], wanted)
    assert np.array_equal(shown[1::2], 100 + wanted)


def test_each_frame_hears_its_own_sound(pipeline, open_data, held_out, tmp_path):
    """From frame 12 on another sound: the clip of frames 10 to 12 hears it, those before do not."""
    truth, made = spoken(pipeline, open_data())
    audio = held_out.audio.clone()
    audio[12:] = -audio[12:]
    write_shot(tmp_path / "store", replace(held_out, audio=audio))
    other_truth, other = spoken(pipeline, open_data())
    assert torch.equal(truth, other_truth)
    same = (made == other).flatten(1).all(1)
    assert torch.equal(same, torch.arange(18) < 9)  # counted from frame 1


def test_another_portrait_is_another_face(pipeline, open_data, held_out, tmp_path):
    _, made = spoken(pipeline, open_data())
    latents = held_out.latents.clone()
    latents[0] = -latents[0]
    write_shot(tmp_path / "store", replace(held_out, latents=latents))
    _, other = spoken(pipeline, open_data())
    assert not (made == other).flatten(1).all(1).any()


def test_a_training_from_a_store_needs_no_voice(make_pipeline, open_data, no_voice, tmp_path):
    built = make_pipeline()
    stage = ClipStage(built.network.train(), built.scheduler, built.settings)
    stage.frozen = FrozenParts(built.vae, built.audio_encoder)
    pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        default_root_dir=tmp_path / "run",
        val_check_interval=1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ValidationSamples()],
    ).fit(stage, datamodule=open_data())
    names = sorted(path.name for path in (tmp_path / "run/samples").iterdir())
    assert names == ["step_000001.mp4", "step_000001.png"]


def test_without_the_voice_toons_are_left_out_with_one_warning(pipeline, no_voice):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        samples = [held_out_sample(pipeline, NOBODY) for _ in range(3)]
    assert samples == [None] * 3
    assert ["loopy-portrait[synthetic]" in str(each.message) for each in told] == [True]


def test_a_damaged_clip_stops_no_training(pipeline, open_data, held_out, tmp_path):
    """Where damage is fatal, the validation before the sheet has said so."""
    [file] = (tmp_path / "store").rglob(f"{held_out.id}.safetensors")
    data = open_data()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError):
        next(data.held_out())
    with pytest.warns(UserWarning, match=f"no sample sheets.*{file.name}"):
        assert held_out_sample(pipeline, data) is None


def test_a_toon_speaks(pipeline):
    pytest.importorskip("espeakng_loader")
    truth, made = spoken(pipeline, NOBODY, seconds=0.4)
    assert truth.float().std() > 10
    assert not torch.equal(truth, made)
