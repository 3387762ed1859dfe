"""What moves the weights: the learning rate, and the norm of the gradient."""

import lightning.pytorch as pl
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from loopy.training.log_steps import is_logged


class StepSize(pl.Callback):
    """Logs the learning rate, and the norm of all gradients as it is before it is clipped."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measures in the steps that lightning logs."""
        if not is_logged(trainer, trainer.global_step + 1):
            return
        pl_module.log("learning_rate", optimizer.param_groups[0]["lr"])
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:  # DeepSpeed keeps them to itself
            norm = get_total_norm(gradients)
            pl_module.log("gradient_norm", getattr(norm, "full_tensor", lambda: norm)())
