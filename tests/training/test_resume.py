"""Killed and resumed = not killed: same losses, weights and averages, whenever that was."""

import os

import lightning.pytorch as pl
import pytest
import torch
from torch.multiprocessing import ProcessRaisedException

from loopy.errors import ConfigurationError
from loopy.segments import SegmentLayout
from loopy.training.autoencoder import AutoencoderStage, SyntheticFaces, psnr, small_autoencoder
from loopy.training.checkpoint_files import AVERAGE
from loopy.training.checkpoints import LastCheckpoint, last_checkpoint
from loopy.training.ema import MovingAverage
from loopy.training.loss_plot import LossPlot, append_rows, read_rows
from loopy.training.stages import ClipStage
from loopy.training.store_clips import StoreClips
from tests.training.ranks import start_ranks

STEPS, VALIDATION, CHECKPOINT = 6, 3, 2
MOMENTS = {("step", 5): 4, ("validation", 3): 2, ("validation", 6): 4, ("end", 6): 6}
"""When a run is killed, and the step of the checkpoint that it has then."""


class Kill(pl.Callback):
    """Stops the process' work at a moment, as a power cut would."""

    def __init__(self, moment, step):
        self.moment = moment, step

    def strike(self, *moment):
        if moment == self.moment:
            raise ConnectionAbortedError

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.strike("step", trainer.global_step)

    def on_validation_batch_end(self, trainer, *batch):
        self.strike("validation", trainer.global_step)

    def on_train_end(self, trainer, pl_module):
        self.strike("end", trainer.global_step)


def trainer(folder, *more, steps=STEPS, **options):
    return pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        default_root_dir=folder,
        gradient_clip_val=1.0,
        val_check_interval=VALIDATION,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # in front: the order of the others must not matter
        callbacks=[LastCheckpoint(CHECKPOINT), MovingAverage(0.9), LossPlot(every=1), *more],
        **options,
    )


def stage(seed=0):
    torch.manual_seed(seed)
    network = small_autoencoder(widths=(8, 16), latent_channels=4, groups=4, size_px=32)
    return AutoencoderStage(network, warmup_steps=2)


def faces(batch_size=2):
    return SyntheticFaces(size_px=32, batch_size=batch_size, validation_batches=1)


def check_same(whole, killed, tables=("losses.csv", "losses.png")):
    """Compares two runs by all that they leave behind."""
    for name in tables:
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    files = [sorted(path.name for path in run.rglob("*")) for run in (whole, killed)]
    assert files[0] == files[1]
    one, other = (torch.load(last_checkpoint(run)) for run in (whole, killed))
    assert one["global_step"] == other["global_step"] == STEPS
    for name in ("state_dict", AVERAGE, "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    trainer(folder).fit(stage(), datamodule=faces())
    return folder


def test_every_number_is_written(whole):
    rows = read_rows(whole / "losses.csv")
    assert [step for step, name, _ in rows if name == "loss"] == list(range(1, STEPS + 1))
    assert [step for step, name, _ in rows if name == "val/psnr"] == [3, 6]
    last = torch.load(last_checkpoint(whole))
    assert any(
        not torch.equal(average, last["state_dict"][name])
        for name, average in last[AVERAGE]["averages"].items()
    )


@pytest.mark.parametrize(("moment", "kept"), MOMENTS.items(), ids=str)
def test_killed_and_resumed_is_not_killed(whole, tmp_path, moment, kept):
    with pytest.raises(ConnectionAbortedError):
        trainer(tmp_path, Kill(*moment)).fit(stage(), datamodule=faces())
    last = last_checkpoint(tmp_path)
    assert torch.load(last)["global_step"] == kept
    # other weights at first: all must come from the checkpoint
    trainer(tmp_path).fit(stage(seed=1), datamodule=faces(), ckpt_path=last)
    check_same(whole, tmp_path)


@pytest.mark.parametrize("steps", [STEPS, STEPS - 2])
def test_a_finished_run_stays_finished(whole, steps):
    before = (whole / "losses.csv").read_bytes()
    last = last_checkpoint(whole)
    trainer(whole, steps=steps).fit(stage(), datamodule=faces(), ckpt_path=last)
    assert (whole / "losses.csv").read_bytes() == before


def test_a_run_begun_anew_replaces_the_old_one(tmp_path):
    """The next start must not go on with the run before."""
    weights = []
    for folder, seed in ((tmp_path, 0), (tmp_path, 1), (tmp_path / "fresh", 1)):
        trainer(folder, steps=2).fit(stage(seed), datamodule=faces())
        weights.append(torch.load(last_checkpoint(folder))["state_dict"])
    torch.testing.assert_close(weights[1], weights[2])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.filterwarnings("ignore:Total length of `DataLoader` across ranks is zero")
def test_the_last_step_is_kept_also_where_nothing_is_validated(tmp_path):
    """Step 3 is no multiple of two, and a validation is due in it."""
    data = SyntheticFaces(size_px=32, batch_size=2, validation_batches=0)
    trainer(tmp_path, steps=3).fit(stage(), datamodule=data)
    assert torch.load(last_checkpoint(tmp_path))["global_step"] == 3


def test_a_line_that_was_cut_off_is_no_number(tmp_path):
    rows = [(1, "loss", 0.25), (2, "loss", 0.125)]
    append_rows(tmp_path / "losses.csv", rows)
    content = (tmp_path / "losses.csv").read_bytes()
    for end in range(len(content)):
        (tmp_path / "losses.csv").write_bytes(content[:end])
        read = read_rows(tmp_path / "losses.csv")
        assert read == rows[: len(read)]


def test_other_batches_are_refused(whole):
    last = last_checkpoint(whole)
    with pytest.raises(ConfigurationError, match="batch_size 2, now 3"):
        trainer(whole).fit(stage(), datamodule=faces(batch_size=3), ckpt_path=last)


def test_batches_gathered_for_a_step_are_not_changed_in_mid_run(tmp_path):
    """With half of them, four steps have taken more batches than six steps will."""
    trainer(tmp_path, steps=4, accumulate_grad_batches=2).fit(stage(), datamodule=faces())
    last = last_checkpoint(tmp_path)
    with pytest.raises(ConfigurationError, match="accumulate_grad_batches 2, now 1"):
        trainer(tmp_path).fit(stage(), datamodule=faces(), ckpt_path=last)


@pytest.mark.parametrize(
    ("workers", "gathered", "moment", "validated"),
    [
        (2, 2, ("step", 5), [1, 3, 4, 6]),  # each second validation lies within a step
        (0, 2, ("validation", 4), [1, 3, 4, 6]),
    ],
)
def test_a_clip_stage_from_a_store_resumes(
    make_store, make_pipeline, tmp_path, monkeypatch, workers, gathered, moment, validated
):
    monkeypatch.setattr("loopy.training.loss_plot.plot_losses", lambda table: None)  # takes long
    names = [str(number) for number in range(12)]
    store = make_store(tmp_path / "store", names, noise=True)

    def run(folder, *more, seed=0, resume=None, store=store):
        data = StoreClips(
            store=str(store),
            layout=SegmentLayout(stride=2, segments=2),
            clip_frames=3,
            batch_size=2,
            workers=workers,
        )
        assert len(data.sampler.rows) < 2 * STEPS  # more than an epoch
        built = make_pipeline(seed=seed)
        clips = ClipStage(
            built.network.train(),
            built.scheduler,
            built.settings,
            learning_rate=1e-3,
            self_generated_history=0.5,
        )
        options = {"accumulate_grad_batches": gathered}
        trainer(folder, *more, **options).fit(clips, datamodule=data, ckpt_path=resume)

    run(tmp_path / "whole")
    with pytest.raises(ConnectionAbortedError):
        run(tmp_path / "killed", Kill(*moment))
    last = last_checkpoint(tmp_path / "killed")
    assert torch.load(last)["global_step"] == 4
    run(tmp_path / "killed", seed=1, resume=last)
    check_same(tmp_path / "whole", tmp_path / "killed", tables=["losses.csv"])
    steps = {"loss": list(range(1, STEPS + 1)), "val/loss": validated}
    rows = read_rows(tmp_path / "whole" / "losses.csv")
    for name, expected in steps.items():  # each step once
        assert [step for step, of, _ in rows if of == name] == expected
    other = make_store(tmp_path / "other", [*names[1:], "12"], noise=True)
    with pytest.raises(ConfigurationError, match="clips"):
        run(tmp_path / "killed", store=other, resume=last)


def test_a_checkpoint_that_one_rank_does_not_see_is_refused(whole, tmp_path):
    """It would begin anew beside the others, and all would average their weights."""

    def work():
        last = last_checkpoint(whole) if os.environ["RANK"] == "0" else None
        ranks = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
        trainer(tmp_path, **ranks).fit(stage(), datamodule=faces(), ckpt_path=last)

    with pytest.raises(ProcessRaisedException, match="some ranks go on from another checkpoint"):
        start_ranks(work, 2).join()


def test_two_ranks_resume_and_are_judged_together(tmp_path):
    ranks = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": False}

    def run(folder, *more, seed=0, resume=None):
        trainer(folder, *more, **ranks).fit(stage(seed), datamodule=faces(), ckpt_path=resume)

    run(tmp_path / "whole")
    with pytest.raises(ProcessRaisedException, match="ConnectionAbortedError"):
        run(tmp_path / "killed", Kill("step", 5))
    last = last_checkpoint(tmp_path / "killed")
    assert torch.load(last)["global_step"] == 4
    run(tmp_path / "killed", seed=1, resume=last)
    check_same(tmp_path / "whole", tmp_path / "killed")

    judged = stage()
    judged.load_state_dict(torch.load(last)[AVERAGE]["averages"])
    batches = [faces().batches()("validation", 0, rank, 2).pictures for rank in (0, 1)]
    with torch.no_grad():
        each = [psnr((judged.reconstruct(batch) - batch).square()) for batch in batches]
    held_out = [
        value for _, name, value in read_rows(tmp_path / "whole/losses.csv") if name == "val/psnr"
    ]
    assert held_out[-1] == pytest.approx(float(sum(each) / 2), abs=1e-4)
    assert abs(each[0] - each[1]) > 1e-2  # of the first rank alone it would be another figure
