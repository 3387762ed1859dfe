"""Two devices, by DDP and by FSDP2, train what one device trains on the joined batch."""

import os
import socket

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import multiprocessing

from loopy.segments import SegmentLayout
from loopy.training.callbacks import MovingAverage
from loopy.training.checkpoint_files import last_checkpoint, read_weights
from loopy.training.checkpoints import LastCheckpoint
from loopy.training.loss_plot import LossPlot, read_rows
from loopy.training.stages import ClipStage
from loopy.training.store_clips import StoreClips

STEPS, RATE = 4, 1e-3


def run_ranks(work):
    """Runs a function in two processes as torchrun would, and waits for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(_rank, (work, port), nprocs=2, start_method="fork")


def _rank(rank, work, port):
    torch.set_num_threads(1)
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
        **{"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
    }
    work()


def strategy(name):
    if name == "fsdp2":
        return ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    return DDPStrategy() if name == "ddp" else "auto"


@pytest.fixture
def store(make_store, make_pipeline, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "parts")
    return make_store(tmp_path / "store", [str(n) for n in range(12)], noise=True)


@pytest.fixture
def train(make_pipeline, store, tmp_path):
    """Trains in a folder, by a strategy, each rank on its share of two clips a step."""

    def train(folder, name, *, stage=ClipStage, seed=0, network=None, resume=None, **options):
        ranks = 1 if name == "one" else 2
        trainer = {"max_steps": STEPS, "precision": "32-true"}
        trainer |= {key: options.pop(key) for key in [*trainer, "callbacks"] if key in options}
        more = trainer.pop("callbacks", [])

        def work():
            data = StoreClips(
                store=str(store),
                parts=tmp_path / "parts",
                layout=SegmentLayout(stride=2, segments=2),
                clip_frames=3,
                batch_size=2 // ranks,
                validation_batches=1,
                workers=0,
            )
            built = make_pipeline(seed=seed)
            nets = (network or (lambda: built.network))()
            module = stage(nets, built.scheduler, built.settings, learning_rate=RATE, **options)
            pl.Trainer(
                accelerator="cpu",
                devices=ranks,
                strategy=strategy(name),
                use_distributed_sampler=False,
                inference_mode=False,
                default_root_dir=folder,
                gradient_clip_val=0.05,  # it bites
                val_check_interval=2,
                check_val_every_n_epoch=None,
                num_sanity_val_steps=0,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[LastCheckpoint(2), MovingAverage(0.9), LossPlot(every=1), *more],
                **trainer,
            ).fit(module.train(), datamodule=data, ckpt_path=resume)

        work() if name == "one" else run_ranks(work)
        return folder

    return train


def losses(run):
    return [value for _, name, value in read_rows(run / "losses.csv") if name == "loss"]


def check_same(one, other, *, tolerance=2e-5):
    """The same losses, and averaged weights nearer than a hundredth of what they moved."""
    assert len(losses(one)) == STEPS
    assert losses(other) == pytest.approx(losses(one), rel=tolerance)
    ours, theirs = (read_weights(last_checkpoint(run)) for run in (one, other))
    assert ours.keys() == theirs.keys()
    far = {name: float((ours[name] - theirs[name]).abs().max()) for name in ours}
    print(sorted(far.items(), key=lambda x: -x[1])[:5])
    assert max(far.values()) < 0.01 * RATE


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_two_devices_train_what_one_does(train, tmp_path, name):
    one = train(tmp_path / "one", "one", own_past=0.5, motion_noise=0.1)
    two = train(tmp_path / name, name, own_past=0.5, motion_noise=0.1)
    check_same(one, two)
