"""Every torchmetrics class: what two ranks saw is as one rank had seen it all.

Independent reference: the same class, given everything in one process.
"""

from datetime import timedelta

import pytest
import torch
from torch import distributed, multiprocessing

from loopy.errors import MetricError
from loopy.metrics.beat import HeadBeats
from loopy.metrics.blinks import BlinkRate
from loopy.metrics.diversity import SeedDiversity
from loopy.metrics.drift import Drift
from loopy.metrics.frechet import FrechetDistance
from loopy.metrics.identity import IdentitySimilarity
from loopy.metrics.motion_variance import MotionVariance
from loopy.metrics.quality import ImageQuality
from loopy.metrics.sensitivity import Sensitivity
from loopy.metrics.smoothness import MotionSmoothness, linear
from loopy.metrics.sync_scores import LipSync
from loopy.motion import MotionSequence


def film():
    return (torch.randint(0, 256, (30, 6, 8, 3), dtype=torch.uint8),)


def track():
    found = torch.ones(30, 68, dtype=torch.bool)
    return MotionSequence(torch.rand(30, 68, 2) * 512, torch.zeros(30, 3), found, 512)


def brightness(frames):
    return frames.float().mean((1, 2, 3))


MAKE = {
    "sync": (LipSync, lambda: (torch.randn(30, 4), torch.randn(30, 4))),
    "smooth": (lambda: MotionSmoothness(linear), film),
    "variance": (MotionVariance, lambda: (track(),)),
    "drift": (Drift, film),
    "blinks": (BlinkRate, lambda: (track(),)),
    "diversity": (SeedDiversity, lambda: ([track(), track(), track()],)),
    "beat": (HeadBeats, lambda: (track(), torch.randn(640 * 30))),
    "identity": (IdentitySimilarity, lambda: (torch.randn(3, 4), torch.randn(4))),
    "quality": (lambda: ImageQuality(brightness), film),
    "sensitivity": (Sensitivity, lambda: (torch.rand(5) + 0.1, torch.rand(5))),
}


def figures(metric):
    found = metric.compute()
    found = found if isinstance(found, dict) else {"figure": found}
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("name", MAKE)
def test_two_ranks_are_as_one(name):
    make, draw = MAKE[name]
    videos = [draw() for _ in range(3)]
    whole, first, second = make(), make(), make()
    for video in videos:
        whole.update(*video)
    first.update(*videos[0])
    second.update(*videos[1])
    second.update(*videos[2])
    second.merge_state(first)
    assert figures(second) == pytest.approx(figures(whole))
    alone = make()
    alone.update(*videos[0])
    assert figures(alone) != pytest.approx(figures(whole))
    whole.reset()
    whole.update(*videos[0])
    assert figures(whole) == pytest.approx(figures(alone))


def test_without_a_video_there_is_no_figure():
    with (
        pytest.warns(UserWarning, match="before the ``update``"),
        pytest.raises(MetricError, match="no video has sync_c"),
    ):
        LipSync().compute()


def test_a_figure_that_is_no_number_is_not_counted_in():
    metric = LipSync()
    with pytest.raises(MetricError, match="sync_c, sync_d, offset"):
        metric.add(1.0, float("nan"), 0)
    metric.add(1.0, 2.0, 3.0)
    assert metric.total.tolist() == [1, 2, 3]
    assert int(metric.videos) == 1


def _rows(seed):
    return torch.randn(8 + seed, 5, generator=torch.Generator().manual_seed(seed)).double()


def _rank(rank, store, results):
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(minutes=1)
    )
    frechet, smooth = FrechetDistance(5), IdentitySimilarity()
    for real in (True, False):
        frechet.update(_rows(2 * rank + real), real=real)
    for row in _rows(rank):
        smooth.update(row[None], torch.ones(5).double())
    results[rank] = (frechet.compute().distance, figures(smooth))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path):
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (tmp_path / "store", results), nprocs=2)
        found = dict(results)
    frechet, smooth = FrechetDistance(5), IdentitySimilarity()
    for rank in (0, 1):
        for real in (True, False):
            frechet.update(_rows(2 * rank + real), real=real)
        for row in _rows(rank):
            smooth.update(row[None], torch.ones(5).double())
    for distance, identity in found.values():
        assert distance == pytest.approx(frechet.compute().distance)
        assert identity == pytest.approx(figures(smooth))
    assert set(found) == {0, 1}
    assert found[0][1]["videos"] == 8 + 9
