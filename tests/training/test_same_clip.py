"""One clip is learned, and how near sampling comes to it is said."""

from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from loopy.diffusion.options import DiffusionContract, RolloutState, Sampling
from loopy.diffusion.rollout import next_clip
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError
from loopy.models import AudioProjection
from loopy.models.latents import decode_latents
from loopy.segments import SegmentLayout
from loopy.training.datamodule import ResumableSampler
from loopy.training.loss_plot import LossPlot, read_rows
from loopy.training.same_clip import SameClip
from loopy.training.samples import ValidationSamples
from loopy.training.stages import ClipStage
from loopy.training.start import FrozenParts
from loopy.training.store_clips import StoreClips

LAYOUT = SegmentLayout(stride=2, segments=2)


@pytest.fixture
def data(make_store, tmp_path):
    """The same clip of a small store, three times in a batch."""
    store = make_store(tmp_path / "store", [str(number) for number in range(8)], noise=True)
    given = {"layout": LAYOUT, "clip_frames": 3, "batch_size": 2}
    given |= {"static_history": True, "store": str(store)}
    return SameClip(StoreClips(**given), batch_size=3, validation_batches=2)


def test_every_batch_is_the_first_clip(data):
    data.data.setup("fit")
    first = data.data.sampler.batch("training", 0, 0, 1)
    for purpose, number, rank in (("training", 0, 0), ("training", 7, 1), ("validation", 1, 0)):
        batch = data.batches()(purpose, number, rank, 2)
        assert len(batch) == 3
        for name in ("latents", "reference", "motion_frames", "audio", "landmarks", "measures"):
            rows = getattr(batch, name)
            assert torch.equal(rows, getattr(first, name)[:1].expand_as(rows))


def test_neither_it_nor_a_real_run_goes_on_from_the_other(data):
    """They may share a folder by mistake."""
    data.data.setup("fit")
    runs = [
        ResumableSampler(4, place=lambda: 2, data_signature=each.data_signature())
        for each in (data, data.data)
    ]
    for ours, theirs in (runs, runs[::-1]):
        ours.load_state_dict(ours.state_dict())
        with pytest.raises(ConfigurationError, match="the first of"):
            ours.load_state_dict(theirs.state_dict())


def test_it_says_how_near_sampling_comes(data, make_dual, make_pipeline, awaken, tmp_path):
    """Of a clip that is what the network makes of its portrait and sound: exactly there."""
    torch.manual_seed(0)
    sampling = Sampling(steps=2)
    contract = DiffusionContract(LAYOUT, static_history=True)
    settings = Settings(16, 3, sampling, contract)
    schedule = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    network, parts = awaken(make_dual()), make_pipeline()

    def near(folder):
        """Decibels and sheet after one step that changes nothing."""
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            val_check_interval=1,
            check_val_every_n_epoch=None,
            default_root_dir=folder,
            logger=False,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[LossPlot(every=1), ValidationSamples(psnr=True)],
        )
        stage = ClipStage(network, schedule, settings, learning_rate=0.0)
        stage.frozen = FrozenParts(parts.vae, parts.audio_encoder)
        trainer.fit(stage, datamodule=data)
        rows = {name: value for _, name, value in read_rows(folder / "losses.csv")}
        with Image.open(folder / "samples/step_000001.png") as opened:
            sheet = torch.frombuffer(bytearray(opened.convert("RGB").tobytes()), dtype=torch.uint8)
        return rows, sheet.view(2, 16, 48, 3).float()

    rows, (truth, made) = near(tmp_path / "far")
    far = rows["val/psnr_db"]
    with torch.no_grad():
        decoded = decode_latents(parts.vae, data.clip.latents[0]).clamp(-1, 1)
        assert torch.equal(truth, ((decoded + 1) * 127.5).round().permute(2, 0, 3, 1).flatten(1, 2))
        error = ((made - truth) / 255).square().mean()
        assert -10 * error.log10() == pytest.approx(far, abs=0.1)
        still = decode_latents(parts.vae, data.clip.reference).clamp(-1, 1)
        error = ((still - decoded) / 2).square().mean()
        assert -10 * error.log10() == pytest.approx(rows["val/portrait_psnr_db"], abs=1e-3)
        latents, _ = next_clip(
            network,
            schedule,
            reference=network.encode_reference(data.clip.reference),
            audio=data.clip.audio,
            state=RolloutState.first(data.clip.reference, still_frames=LAYOUT.past_frames),
            size=(4, 8, 8),
            contract=contract,
            sampling=sampling,
        )
    data.clip = replace(data.clip, latents=latents)
    rows, (truth, same) = near(tmp_path / "there")
    assert rows["val/psnr_db"] > 80 > far + 40
    assert torch.equal(same, made)
    assert torch.equal(same, truth)


def test_model_and_data_must_still_agree(data, make_dual, tmp_path):
    schedule = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    settings = Settings(size_px=16, clip_frames=3)  # of another layout
    trainer = pl.Trainer(accelerator="cpu", max_steps=1, barebones=True)
    with pytest.raises(ConfigurationError, match="layout"):
        trainer.fit(ClipStage(make_dual(), schedule, settings), datamodule=data)
    network = make_dual()
    network.audio_projection = AudioProjection(
        layers=3, width=8, hidden=16, tokens=2, token_width=12, neighbours=3
    )
    settings = Settings(16, 3, contract=DiffusionContract(LAYOUT, static_history=True))
    with pytest.raises(ConfigurationError, match=r"audio_window: the model says .*before=1"):
        trainer.fit(ClipStage(network, schedule, settings), datamodule=data)
