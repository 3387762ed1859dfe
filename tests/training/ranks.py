"""Runs of tiny networks in forked processes: one, or two as torchrun would start them."""

import os
import socket
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import multiprocessing

from loopy.segments import SegmentLayout
from loopy.training.checkpoint_files import checkpoint_weights, last_checkpoint
from loopy.training.checkpoints import LastCheckpoint
from loopy.training.ema import MovingAverage
from loopy.training.loss_plot import append_rows, read_rows
from loopy.training.stages import ClipStage
from loopy.training.store_clips import StoreClips

RATE = 1e-3


def start_ranks(work, ranks):
    """Starts a function in as many processes; ends them all when one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return multiprocessing.start_processes(
        _rank, (work, ranks, port), nprocs=ranks, start_method="fork", join=False
    )


def _rank(rank, work, ranks, port):
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ |= {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
            **{"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            "TORCHELASTIC_RUN_ID": "test",
        }
    work()


def _strategy(name):
    if name == "fsdp2":
        return ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    return DDPStrategy() if name == "ddp" else "auto"


class Losses(pl.Callback):
    """Writes the loss of each step, and of each validation; a picture of them would take long."""

    def on_train_start(self, trainer, pl_module):
        if trainer.is_global_zero:
            table = Path(trainer.default_root_dir) / "losses.csv"
            rows = [row for row in read_rows(table) if row[0] <= trainer.global_step]
            table.parent.mkdir(exist_ok=True)
            table.write_text("")
            append_rows(table, rows)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.write(trainer, "loss")

    def on_validation_end(self, trainer, pl_module):
        self.write(trainer, "val/loss")

    def write(self, trainer, name):
        if trainer.is_global_zero:
            row = (trainer.global_step, name, float(trainer.callback_metrics[name]))
            append_rows(Path(trainer.default_root_dir) / "losses.csv", [row])


class Runs:
    """Runs in folders, by a strategy; each rank has its share of two clips a step.

    Args:
        store: Clips.
        parts: Autoencoder and audio encoder.
        make_pipeline: Makes networks.
    """

    def __init__(self, store, parts, make_pipeline):
        self.store, self.parts, self.make_pipeline = store, parts, make_pipeline

    def start(
        self,
        folder,
        name,
        *,
        stage=ClipStage,
        network=None,
        callbacks=(),
        model=None,
        workers=0,
        **trainer,
    ):
        """Starts, or goes on from the folder's checkpoint.

        Args:
            folder: Of the run.
            name: ``one`` process, or two by ``ddp`` or ``fsdp2``.
            stage: Class of the module.
            network: Makes another network than `make_pipeline`'s.
            callbacks: Beside those that write.
            model: Options of the stage.
            workers: Processes that read clips, of each rank.
            **trainer: Options of the trainer.
        """
        ranks = 1 if name == "one" else 2
        last = last_checkpoint(folder)
        # other weights at first: all must come from the checkpoint
        resume, seed = (last, 1) if last.exists() else (None, 0)
        trainer = {"max_steps": 4, "val_check_interval": 4} | trainer

        def work():
            data = StoreClips(
                store=str(self.store),
                layout=SegmentLayout(stride=2, segments=2),
                clip_frames=3,
                batch_size=2 // ranks,
                validation_batches=1,
                workers=workers,
            )
            built = self.make_pipeline(seed=seed)
            networks = built.network if network is None else network()
            options = {"learning_rate": RATE} | (model or {})
            module = stage(networks, built.scheduler, built.settings, **options)
            pl.Trainer(
                accelerator="cpu",
                devices=ranks,
                strategy=_strategy(name),
                use_distributed_sampler=False,
                inference_mode=False,
                default_root_dir=folder,
                gradient_clip_val=0.05,  # it bites
                check_val_every_n_epoch=None,
                num_sanity_val_steps=0,
                logger=False,
                log_every_n_steps=1,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[
                    LastCheckpoint(2, ask_every=1),
                    MovingAverage(0.9),
                    Losses(),
                    *callbacks,
                ],
                **trainer,
            ).fit(module.train(), datamodule=data, ckpt_path=resume)

        return start_ranks(work, ranks)

    def train(self, folder, name, **options):
        """Runs to the end."""
        started = self.start(folder, name, **options)
        while not started.join():
            pass
        return folder


def losses(run):
    """Training losses of a run."""
    return [value for _, name, value in read_rows(run / "losses.csv") if name == "loss"]


def weights(run):
    """Averaged weights of a run, whole."""
    return checkpoint_weights(last_checkpoint(run))


def furthest(one, other):
    """Largest difference of averaged weights, as a share of the learning rate."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours) / RATE
