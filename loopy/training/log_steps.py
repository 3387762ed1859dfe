"""When callbacks log: in the steps that lightning logs."""

import lightning.pytorch as pl


def is_logged(trainer: pl.Trainer, step: int) -> bool:
    """Whether lightning logs at the end of an optimiser step, counted from 1."""
    return step % trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]  # set later


def ends_logged_step(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a batch, counted from 0 in the one epoch of a run, is the last one of such a step."""
    stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return stepped and is_logged(trainer, trainer.global_step)
