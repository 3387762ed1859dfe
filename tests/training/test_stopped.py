"""Asked to stop, or killed, at five random moments: it ends like a run that nobody touched."""

import os
import shutil
import signal
import subprocess

import lightning.pytorch as pl
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from loopy.errors import ModelError
from loopy.randomness import generator
from loopy.stopping import StopSignals
from loopy.training.checkpoint_files import AVERAGE, check_whole, last_checkpoint
from tests.training.ranks import losses

STEPS, VALIDATION, STRIKES = 8, 4, 5
MOMENTS = ("batch_start", "before_optimizer_step", "batch_end", "validation")


class Strike(pl.Callback):
    """Sends a signal to the process of a rank, at a moment of a step."""

    def __init__(self, step, moment, rank, number):
        self.step, self.rank, self.number = step, rank, number
        self.moment = "batch_end" if moment == "validation" and step % VALIDATION else moment

    def _strike(self, trainer, moment):
        if (trainer.global_step, trainer.global_rank, moment) == (
            self.step,
            self.rank,
            self.moment,
        ):
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self._strike(trainer, "batch_start")

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._strike(trainer, "before_optimizer_step")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._strike(trainer, "batch_end")

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self._strike(trainer, "validation")


class StrikeAll(pl.Callback):
    """Sends a signal to the process and to all it has started, as torchrun does."""

    def setup(self, trainer, pl_module, stage):
        os.setpgrp()  # the tests are not meant

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 2:
            # by another process: what a parent sends to its workers is no surprise to them
            subprocess.run(["kill", "-s", "TERM", "--", f"-{os.getpgrp()}"], check=False)


def content(run, scratch):
    """All that a run's checkpoint holds of numbers."""
    last = last_checkpoint(run)
    check_whole(last)
    if last.is_file():
        kept = torch.load(last)
        return {k: kept[k] for k in ("state_dict", AVERAGE, "optimizer_states", "lr_schedulers")}
    dcp_to_torch_save(last, scratch)  # torch's own
    meta = torch.load(last / "meta.pt")
    numbers = torch.load(scratch)
    numbers["optimizer_0"].pop("param_groups")  # names
    return numbers | {"lr": meta["lr_schedulers"], AVERAGE: meta[AVERAGE]}


@pytest.mark.parametrize(
    "name",
    [
        "one",
        pytest.param("ddp", marks=pytest.mark.slow),
        pytest.param("fsdp2", marks=pytest.mark.slow),
    ],
)
def test_struck_five_times_the_run_is_the_same(runs, tmp_path, name):
    options = {
        "max_steps": STEPS,
        "val_check_interval": VALIDATION,
        "model": {"self_generated_history": 0.3, "cosine": True},
    }
    whole = runs.train(tmp_path / "whole", name, **options)
    struck = tmp_path / "struck"
    draw = generator("strikes")
    for strike, step in enumerate(
        sorted((1 + torch.randperm(STEPS - 1, generator=draw))[:STRIKES].tolist())
    ):
        number = (signal.SIGTERM, signal.SIGKILL)[strike % 2]
        moment, rank = torch.randint(4, (2,), generator=draw).tolist()
        strike = Strike(step, MOMENTS[moment], 0 if name == "one" else rank % 2, number)
        processes = runs.start(struck, name, callbacks=[strike], **options).processes
        for process in processes:  # none waits for a dead one
            process.join(120)
        codes = {process.exitcode for process in processes}
        if number == signal.SIGTERM:
            assert codes == {128 + number}
            assert len(losses(struck)) in (step, step + 1)  # of that very step
        else:
            assert codes >= {-number}
            assert not codes & {0, None}
        if last_checkpoint(struck).exists():
            check_whole(last_checkpoint(struck))
    runs.train(struck, name, **options)
    assert len(losses(whole)) == STEPS
    assert (whole / "losses.csv").read_bytes() == (struck / "losses.csv").read_bytes()
    one, other = (content(run, tmp_path / "scratch") for run in (whole, struck))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_signal_to_all_processes_leaves_a_checkpoint(runs, tmp_path):
    """Those that read clips do not die of it, else the training would before it has saved."""
    options = {"callbacks": [StrikeAll()], "workers": 2, "limit_val_batches": 0}
    [process] = runs.start(tmp_path, "one", max_steps=9, **options).processes
    process.join(120)
    assert process.exitcode == 128 + signal.SIGTERM
    check_whole(last_checkpoint(tmp_path))


def test_a_signal_is_noted_and_a_deaf_process_stays_deaf():
    """As it is under nohup, which makes a process deaf to the terminal that closes."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals = StopSignals()
        signals.watch()
        os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        signals.release()
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.slow
def test_a_copied_folder_is_gone_on_from_and_leaves_nothing_behind(runs, tmp_path):
    """Copied with `cp -rL` it is no link."""
    run = runs.train(tmp_path / "run", "fsdp2", max_steps=2, limit_val_batches=0)
    copy = tmp_path / "copy"
    shutil.copytree(last_checkpoint(run), last_checkpoint(copy))
    runs.train(copy, "fsdp2", max_steps=4, limit_val_batches=0)
    last = last_checkpoint(copy)
    check_whole(last)
    assert torch.load(last / "meta.pt")["global_step"] == 4
    assert {path.name for path in last.parent.iterdir()} == {last.name, last.readlink().name}
    shutil.copytree(last, last.parent / ".last.1.ckpt", dirs_exist_ok=True)  # by a kill
    last.unlink()
    runs.train(copy, "one", max_steps=2, limit_val_batches=0)  # as with --resume=false
    assert [path.name for path in last.parent.iterdir()] == [last.name]


@pytest.mark.slow
def test_a_folder_that_is_cut_off_is_said(runs, tmp_path):
    """Whatever file of it is missing or short."""
    last = last_checkpoint(runs.train(tmp_path / "run", "fsdp2", max_steps=2, limit_val_batches=0))
    check_whole(last)
    names = sorted(path.name for path in last.iterdir())
    assert names == [".metadata", "__0_0.distcp", "__1_0.distcp", "meta.pt"]
    for name in names:
        for cut in (True, False):
            shutil.copytree(last, tmp_path / "copy")
            path = tmp_path / "copy" / name
            path.write_bytes(path.read_bytes()[:-100]) if cut else path.unlink()
            with pytest.raises(ModelError, match="is cut off"):
                check_whole(tmp_path / "copy")
            shutil.rmtree(tmp_path / "copy")
