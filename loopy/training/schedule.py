"""The learning rate over a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_cosine(optimizer: Optimizer, *, warmup_steps: int, total_steps: int | None) -> LambdaLR:
    """Linear warm-up, then half a cosine down to zero at the last step, or no decay at all.

    Args:
        optimizer: Its learning rates are the peak.
        warmup_steps: Steps until the peak.
        total_steps: Length of the run; None keeps the peak.
    """

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if total_steps is None:
            return 1.0
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, progress))

    return LambdaLR(optimizer, share)
