"""Figures of single videos, averaged over videos; what all such torchmetrics classes share."""

import torch
from torch import Tensor
from torchmetrics import Metric

from loopy.errors import MetricError
from loopy.metrics.extractors import check_numbers


class MeanOverVideos(Metric):
    """The mean of figures that each video has by itself; a class below says how one is got.

    A figure that cannot be told raises `MetricError` in `update` and leaves the mean as it was,
    so that a caller may go on with the next video and say which ones are left out.

    Args:
        figures: Names of the figures of a video; `compute` gives a dictionary of them.
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    total: Tensor
    videos: Tensor

    def __init__(self, *figures: str, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.figures = figures
        zeros = torch.zeros(len(figures), dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("videos", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def add(self, *values: Tensor | float) -> None:
        """Count in one video.

        Raises:
            MetricError: A value is NaN or infinite.
        """
        row = torch.stack([torch.as_tensor(v, dtype=torch.float64).cpu() for v in values])
        check_numbers(row, name=f"the figures ({', '.join(self.figures)})")
        self.total += row.to(self.total.device)
        self.videos += 1

    def compute(self) -> dict[str, Tensor]:
        """The mean of each figure, and "videos": over how many.

        Raises:
            MetricError: No video was counted in.
        """
        if not int(self.videos):
            raise MetricError(f"no video has {', '.join(self.figures)}; give one at least")
        means = self.total / self.videos
        return dict(zip(self.figures, means.unbind(), strict=True)) | {"videos": self.videos}
