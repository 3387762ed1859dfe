"""What a run tells while it trains: losses by timestep, speed, samples, and where they go."""

import time
from importlib.util import find_spec

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from loopy.cli import main
from loopy.data.media.sound import read_audio
from loopy.errors import ConfigurationError
from loopy.training.autoencoder import AutoencoderStage, SyntheticFaces, small_autoencoder
from loopy.training.checkpoints import LastCheckpoint, last_checkpoint
from loopy.training.datamodule import LoopyDataModule
from loopy.training.loss_plot import append_rows, read_rows
from loopy.training.monitors import Throughput, TimestepLosses, bucket_names
from loopy.training.optim import StepSize
from loopy.training.samples import PortraitAndSound, ValidationSamples
from loopy.training.stages import ClipStage

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # between lightning and jsonargparse
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

EVERY, STEPS = 2, 6
SPEED = ("speed/clips_per_second", "speed/seconds_per_step", "speed/data_wait")


class Numbers(LoopyDataModule):
    """Batches that are their number and rank, and take a while to make."""

    def __init__(self, *, seconds=0.0):
        super().__init__(batch_size=2, validation_batches=1)
        self.seconds = seconds

    def batches(self):
        def made(purpose, number, rank, ranks):
            time.sleep(self.seconds)
            return torch.tensor([number, rank])

        return made


def told(number, rank):
    """Losses and timesteps of a batch: the highest bucket is empty up to step 4."""
    draw = torch.Generator().manual_seed(10 * number + rank)
    losses = 1 + torch.rand(3, generator=draw)
    last = 999 if number >= 4 else 500 + number
    return losses, torch.tensor([0, 249 + (number + rank) % 2, last])


class Rows(Logger):
    """Writes what lightning gives to loggers to rows.csv; a step counts from 1."""

    name = version = None

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def log_hyperparams(self, *params):
        pass

    @rank_zero_only
    def log_metrics(self, metrics, step):
        self.folder.mkdir(exist_ok=True)
        rows = [(step + 1, name, value) for name, value in metrics.items() if "/" in name]
        append_rows(self.folder / "rows.csv", rows)


class Told(ClipStage):
    """Claims the losses of `told`, and moves one weight."""

    step_seconds = validation_seconds = 0.0

    def setup(self, stage):
        pass

    def training_step(self, batch, batch_idx):
        time.sleep(self.step_seconds)
        self.latest_losses = told(*batch.tolist())
        return 0 * self.network.denoiser.conv_in.bias.sum()

    def validation_step(self, batch, batch_idx):
        time.sleep(self.validation_seconds)

    def configure_optimizers(self):
        return torch.optim.SGD([self.network.denoiser.conv_in.bias], 0.1)


@pytest.fixture
def fit(make_dual, make_pipeline, tmp_path):
    """Trains `Told`: (name of the run, callbacks, options); its rows by step and name."""

    def trained(name, *callbacks, data=None, steps=STEPS, resume=False, step=0.0, val=0.0, **more):
        built = make_pipeline()
        stage = Told(built.network.train(), built.scheduler, built.settings)
        stage.requires_grad_(False).network.denoiser.conv_in.bias.requires_grad_(True)
        stage.step_seconds, stage.validation_seconds = step, val
        folder = tmp_path / name
        pl.Trainer(
            accelerator="cpu",
            max_steps=steps,
            default_root_dir=folder,
            log_every_n_steps=EVERY,
            val_check_interval=4,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=Rows(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*callbacks, LastCheckpoint(every=3)],
            **more,
        ).fit(
            stage,
            datamodule=data or Numbers(),
            ckpt_path=last_checkpoint(folder) if resume else None,
        )
        return {(step, name): value for step, name, value in read_rows(folder / "rows.csv")}

    return trained


def expected(ranks):
    """Means by bucket of two steps each, as a newcomer would reckon them."""
    rows = {}
    for last in range(EVERY, STEPS + 1, EVERY):
        seen = [
            (int(t), float(loss))
            for number in (last - 2, last - 1)
            for rank in range(ranks)
            for loss, t in zip(*told(number, rank), strict=True)
        ]
        for low, name in zip((0, 250, 500, 750), bucket_names(4, 1000), strict=True):
            inside = [loss for t, loss in seen if low <= t < low + 250]
            if inside:
                rows[last, name] = pytest.approx(np.mean(inside), rel=1e-6)
    return rows


def test_buckets_have_names_by_their_timesteps():
    assert bucket_names(4, 1000) == [
        f"loss_by_timestep/{span}" for span in ("000-249", "250-499", "500-749", "750-999")
    ]
    assert bucket_names(3, 1000)[1] == "loss_by_timestep/334-666"  # t = 333 has 3 t // 1000 = 0


def by_bucket(rows):
    return {at: value for at, value in rows.items() if at[1].startswith("loss_by")}


def test_losses_by_timestep_are_means_since_the_last_log(fit):
    rows, wanted = by_bucket(fit("run", TimestepLosses())), expected(ranks=1)
    assert {at: rows[at] for at in wanted} == wanted
    # in step 2 and 4 nothing fell into the last bucket
    assert (4, "loss_by_timestep/750-999") not in rows
    assert (6, "loss_by_timestep/750-999") in rows


def test_losses_by_timestep_go_on_behind_a_checkpoint(fit):
    """Step 3 is no log step: its sums are in the checkpoint alone."""
    whole = fit("whole", TimestepLosses())
    fit("killed", TimestepLosses(), steps=3)
    assert fit("killed", TimestepLosses(), resume=True) == whole


@pytest.mark.slow  # four processes that import all of it
def test_losses_by_timestep_are_those_of_all_ranks(fit):
    options = {"devices": 2, "strategy": "ddp_fork"}
    fit("run", TimestepLosses(), steps=3, **options)
    rows, wanted = fit("run", TimestepLosses(), resume=True, **options), expected(ranks=2)
    assert {at: by_bucket(rows)[at] for at in wanted} == wanted


def test_what_has_no_timesteps_is_refused(tmp_path):
    stage = AutoencoderStage(
        small_autoencoder(widths=(8, 16), latent_channels=4, groups=4, size_px=32)
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[TimestepLosses()],
    )
    data = SyntheticFaces(size_px=32, batch_size=2, validation_batches=1)
    with pytest.raises(ConfigurationError, match="AutoencoderStage draws no timesteps"):
        trainer.fit(stage, datamodule=data)


def test_a_slow_loader_is_seen(fit):
    """However slow the machine is; no checkpoint is written meanwhile."""
    rows = fit("slow", Throughput(), data=Numbers(seconds=1.0), steps=2)
    assert rows[2, "speed/data_wait"] > 0.3
    assert rows[2, "speed/clips_per_second"] < 2 / 1.0
    assert rows[2, "speed/seconds_per_step"] > 1.0


def test_a_fast_loader_costs_nothing_and_validations_are_left_out(fit):
    """One validation, behind step 4, sleeps as long as 15 steps."""
    rows = fit("fast", Throughput(), step=0.2, val=3.0)
    assert rows[6, "speed/data_wait"] < 0.2
    assert rows[6, "speed/seconds_per_step"] < 3.4 / 2
    assert rows[6, "speed/clips_per_second"] > 4 / 3.4


def test_the_gradient_is_measured_before_it_is_clipped(make_pipeline, make_clip, tmp_path):
    built = make_pipeline()
    stage = ClipStage(built.network.train(), built.scheduler, built.settings, learning_rate=1e-4)

    class Clips(Numbers):
        def batches(self):
            return lambda *place: make_clip(2)

    norms = []

    class Norm(pl.Callback):
        def on_after_backward(self, trainer, pl_module):
            flat = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
            norms.append(torch.cat(flat).norm())

    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        gradient_clip_val=1e-3,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Norm(), StepSize()],
    )
    trainer.fit(stage, datamodule=Clips())
    assert norms[0] > 2e-3
    torch.testing.assert_close(trainer.callback_metrics["gradient_norm"], norms[0])
    assert trainer.callback_metrics["learning_rate"] == pytest.approx(1e-4)


def of(path, **init_args):
    return {"class_path": f"loopy.training.{path}", "init_args": init_args}


@pytest.fixture
def loopy_fit(clip_recipe, make_store, make_pipeline, write_speech, tmp_path):
    """`loopy fit` with all that watches: (options); the exit code."""
    make_pipeline().save_pretrained(tmp_path / "parts")
    store = make_store(tmp_path / "store", [str(number) for number in range(12)], noise=True)
    Image.effect_noise((40, 50), 90).convert("RGB").save(tmp_path / "anna.png")
    write_speech(tmp_path / "hello.wav", 0.5)
    speech = {"portrait": str(tmp_path / "anna.png"), "sound": str(tmp_path / "hello.wav")}
    recipe = clip_recipe(store, tmp_path / "parts")
    average, _ = recipe["trainer"]["callbacks"]  # without its plot
    recipe["trainer"] |= {
        "logger": True,
        "log_every_n_steps": 1,
        "val_check_interval": 2,
        "enable_model_summary": False,
        "callbacks": [
            average,
            of("monitors.TimestepLosses"),
            of("optim.StepSize"),
            of("monitors.Throughput"),
            of("samples.ValidationSamples", speeches=[speech], seconds=0.3),
            of("checkpoints.LastCheckpoint", every=2),
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["fit", "--config", str(tmp_path / "recipe.yaml")]
    return lambda *options: main(
        [*words, f"--trainer.default_root_dir={tmp_path / 'run'}", *options]
    )


def test_tensorboard_has_numbers_and_sheets_and_a_resumed_run_adds_to_them(loopy_fit, tmp_path):
    for steps in (2, 4):
        assert loopy_fit(f"--trainer.max_steps={steps}") == 0
    log = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0, "images": 0})
    log.Reload()
    scalars, images = set(log.Tags()["scalars"]), log.Tags()["images"]
    logged = [event.step for event in log.Scalars("loss")]
    shown = [event.step for event in log.Images("samples/anna_hello")]
    sensitivities = {f"val/{name}_sensitivity" for name in ("audio", "past", "reference")}
    assert scalars >= {"loss", "val/loss", "learning_rate", "gradient_norm", *SPEED} | sensitivities
    assert any(name.startswith("loss_by_timestep/") for name in scalars)
    assert logged == [0, 1, 2, 3]  # lightning counts from 0
    assert sorted(images) == ["samples/anna_hello", "samples/held_out"]
    assert shown == [2, 4]
    heard = read_audio(tmp_path / "run/samples/step_000004_anna_hello.mp4")
    assert len(heard) == pytest.approx(0.3 * 16_000, abs=0.05 * 16_000)
    assert heard.std() > 0.01


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_a_logger_that_is_not_installed_is_one_line(loopy_fit, capsys):
    options = ("--trainer.logger=lightning.pytorch.loggers.WandbLogger", "--trainer.max_steps=2")
    assert loopy_fit(*options) == 2
    assert "needs a package that is missing" in capsys.readouterr().err
    assert loopy_fit("--trainer.logger=false", "--trainer.max_steps=1") == 0


def test_portraits_that_are_missing_are_told_before_the_first_step(loopy_fit, tmp_path, capsys):
    (tmp_path / "hello.wav").unlink()
    assert loopy_fit("--trainer.max_steps=2") == 2
    assert "hello.wav" in capsys.readouterr().err
    assert not (tmp_path / "run/checkpoints").exists()


def test_two_videos_of_one_name_are_refused(tmp_path):
    files = [(tmp_path / folder / "a.png", tmp_path / "b.wav") for folder in "xy"]
    with pytest.raises(ConfigurationError, match="a_b"):
        ValidationSamples([PortraitAndSound(*pair) for pair in files])
