"""Bytes that are told before a training are those that the allocator gives out in one."""

import gc
from dataclasses import replace
from functools import partial
from itertools import accumulate

import lightning.pytorch as pl
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from loopy.diffusion.options import DiffusionContract, RolloutState
from loopy.diffusion.past import PastCache
from loopy.diffusion.rollout import next_clip
from loopy.diffusion.settings import Settings
from loopy.errors import ConfigurationError
from loopy.models import decode_latents
from loopy.segments import SegmentLayout
from loopy.training.ema import MovingAverage
from loopy.training.memory import (
    StorageTracker,
    TrainingSetup,
    fake_clip,
    step_cost,
    training_memory,
)
from loopy.training.memory_inference import inference_cost
from loopy.training.stages import ClipStage, ImageStage

pytestmark = pytest.mark.filterwarnings("ignore:.*Profiler clears events")

SIDE, BATCH = 16, 2
LAYOUT = SegmentLayout(stride=2, segments=2)
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
}


@pytest.fixture
def make_stage(make_dual):
    def make(kind=ClipStage, *, motion_gradient=False, **options):
        shape = {"clip_frames": None} if kind is ImageStage else None
        return kind(
            make_dual(shape=shape, motion_gradient=motion_gradient),
            DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
            Settings(size_px=128, clip_frames=3, contract=DiffusionContract(layout=LAYOUT)),
            **options,
        )

    return make


class Clips(pl.LightningDataModule):
    """The same random clips, and one batch to validate on."""

    def __init__(self, clip):
        super().__init__()
        self.clip = clip

    def train_dataloader(self):
        return DataLoader([0, 0], batch_size=1, collate_fn=lambda _: self.clip)

    val_dataloader = train_dataloader


def allocated(run):
    """Most bytes that torch's CPU allocator had given out at once; the profiler saw each."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def fit(make, clip, precision, *, accelerator="cpu", validates=False):
    """Two steps by lightning's trainer, with a moving average."""
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_steps=2,
        limit_val_batches=1 if validates else 0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[MovingAverage()],
    )
    trainer.fit(make(), Clips(clip))


def told(make, precision, **options):
    """Bytes at the largest moment of a training on one device, by the estimate."""
    options = {"batch_size": BATCH, "latent_px": SIDE, "device": "cpu"} | options
    setup = TrainingSetup(precision=precision, averaged=True, **options)
    return training_memory(step_cost(make, setup), setup)


def as_clip(make):
    """A real batch of the shapes that are reckoned with."""
    return fake_clip(make(), BATCH, SIDE)


FULL = {"motion_gradient": True}
IMAGE = {"kind": ImageStage, "targets": 2}
AGAIN = {"gradient_checkpointing": True}
FROZEN = {"trained": "added"}


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        (FROZEN | AGAIN, "bf16-mixed"),
        pytest.param(FULL, "32-true", marks=pytest.mark.slow),
        pytest.param(IMAGE, "bf16-mixed", marks=pytest.mark.slow),
        pytest.param(IMAGE | AGAIN, "32-true", marks=pytest.mark.slow),
        pytest.param(FULL, "bf16-mixed", marks=pytest.mark.slow),
        pytest.param(FULL | AGAIN, "bf16-mixed", marks=pytest.mark.slow),
        pytest.param(FULL | AGAIN, "32-true", marks=pytest.mark.slow),
        pytest.param(FROZEN, "32-true", marks=pytest.mark.slow),
    ],
)
def test_the_peak_is_the_allocators(make_stage, options, precision):
    def make():
        return make_stage(**options)

    clip = as_clip(make)
    measured = allocated(lambda: fit(make, clip.to("cpu"), precision))
    given = sum(x.nbytes for x in tree_leaves(vars(clip)) if x is not None)
    # the batch was there before the profiler
    assert told(make, precision).peak == pytest.approx(measured + given, rel=0.05)


@pytest.mark.slow
def test_the_peak_of_a_validation_is_the_allocators(make_stage):
    """Nothing is trained but little, so a step is small beside the copy of all weights."""

    def make():
        return make_stage(trained="added", gradient_checkpointing=True)

    clip = as_clip(make)
    measured = allocated(lambda: fit(make, clip.to("cpu"), "32-true", validates=True))
    given = sum(x.nbytes for x in tree_leaves(vars(clip)) if x is not None)
    assert told(make, "32-true").peak == pytest.approx(measured + given, rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_is_that_of_cuda(make_stage, checkpointing):
    def make():
        return make_stage(motion_gradient=True, gradient_checkpointing=checkpointing)

    batch, side = 8, 64  # beside them nothing else counts
    ones = torch.ones(8, 8, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    (ones @ ones).sum().backward()  # workspaces of both threads stay
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    fit(make, fake_clip(make(), batch, side), "bf16-mixed", accelerator="gpu")
    wanted = told(make, "bf16-mixed", batch_size=batch, latent_px=side, device="cuda").peak
    assert wanted == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.1)


def test_a_clip_of_inference_is_the_allocators(make_stage):
    vae = AutoencoderKL.from_config(dict(VAE)).eval()
    stage = make_stage().eval()
    network, settings = stage.network, stage.settings
    portrait = torch.randn(1, 4, SIDE, SIDE)

    @torch.no_grad()
    def run():
        reference, cache = network.encode_reference(portrait), PastCache()
        state = RolloutState(torch.randn(1, LAYOUT.past_frames, 4, SIDE, SIDE))
        for _ in range(3):
            latents, state = next_clip(
                network,
                stage.scheduler,
                reference=reference,
                portrait=portrait,
                audio=torch.randn(1, 3, 5, 3, 8),
                state=state,
                size=(4, SIDE, SIDE),
                contract=settings.contract,
                sampling=replace(settings.sampling, steps=1),
                cache=cache,
            )
            decode_latents(vae, latents[0])

    cost = inference_cost(make_stage, VAE, latent_px=SIDE)
    assert cost.transient == pytest.approx(allocated(run), rel=0.02)
    assert cost.networks == sum(p.nbytes for p in network.parameters())
    assert set(cost.keys) == {"reference", "past", "audio"}
    assert all(cost.keys.values())
    assert cost.seen == cost.keys["past"] / LAYOUT.slots / 2  # one frame, and no values


COSTS = {}


@pytest.fixture
def image_cost(make_stage):
    """A step of the image stage, on a CPU unless it is said: made once for all tests."""

    def cost(batch_size=1, *, checkpointing=False, **options):
        key = (batch_size, checkpointing, *options.items())
        if key not in COSTS:
            make = partial(make_stage, ImageStage, gradient_checkpointing=checkpointing)
            options = {"latent_px": 8, "device": "cpu"} | options
            COSTS[key] = step_cost(make, TrainingSetup(batch_size=batch_size, **options))
        return COSTS[key]

    return cost


def test_strategies_share_what_they_say(image_cost):
    cost, setup = image_cost(), partial(TrainingSetup, batch_size=1, latent_px=8, device="cpu")
    trained = sum(cost.trained)
    one, ddp, view, four = (
        training_memory(cost, setup(strategy=strategy, devices=4, bucket_view=view, averaged=True))
        for strategy, view in (("one", False), ("ddp", False), ("ddp", True), ("fsdp2", False))
    )
    assert one.step["optimiser"] == 2 * trained
    assert one.step["average"] == trained
    assert one.validation["average"] == trained + max(cost.trained)  # exchanged one by one
    assert ddp.peak == one.peak + trained
    assert view.step["gradients"] == trained
    assert view.step["buckets"] == 0
    assert view.peak < ddp.peak
    for part in ("weights", "optimiser", "average"):
        assert four.step[part] == pytest.approx(one.step[part] / 4, abs=2)
    assert four.step["gathered"] >= 2 * cost.unit
    eight = training_memory(cost, setup(optimizer="adamw_8bit"))
    large = sum(size // 4 for size in cost.trained if size >= 4 * 4096)
    assert 2 * large < eight.step["optimiser"] < 2 * trained - 5 * large


def test_a_batch_of_one_is_validated_with_two(image_cost):
    """As `ClipSampler` does, since clips are compared with each other."""
    one, two = map(image_cost, (1, 2))
    assert one.validating == two.validating
    assert one.tracker.most < two.tracker.most


def test_cuda_normalises_in_float32_under_autocast(image_cost):
    cpu, cuda = (
        image_cost(precision="bf16-mixed", device=device).tracker for device in ("cpu", "cuda")
    )
    assert cpu.peak()["activations"] * 1.1 < cuda.peak()["activations"]
    assert cpu.flops == cuda.flops


def test_checkpointing_computes_more_and_keeps_less(image_cost):
    plain, again = image_cost().tracker, image_cost(checkpointing=True).tracker
    assert again.peak()["activations"] < 0.7 * plain.peak()["activations"]
    assert 1.2 < again.flops / plain.flops < 1.4


def test_half_precision_halves_the_weights(image_cost):
    """As lightning's plugin does, which casts the whole stage."""
    whole, half = image_cost(), image_cost(precision="bf16-true")
    assert sum(half.trained) == sum(whole.trained) / 2
    assert half.tracker.peak()["weights"] == pytest.approx(
        whole.tracker.peak()["weights"] / 2, rel=0.02
    )


def test_the_tracker_knows_births_deaths_and_operations():
    with StorageTracker() as tracker:
        x = torch.zeros(8, 16)
        tracker.follow([x], "batch")
        y = x @ torch.zeros(16, 4)  # 512 bytes, 256 bytes, then 128
        view = y[1:]
        del y
        key = torch.zeros(1, 2, 5, 4)
        torch.nn.functional.scaled_dot_product_attention(key, key, key)
    assert tracker.flops == 2 * 8 * 16 * 4 + 2 * (2 * 2 * 5 * 5 * 4)
    assert tracker.held == x.nbytes + view.untyped_storage().nbytes() + key.nbytes
    assert tracker.peak().total() == tracker.most >= 512 + 256 + 128
    assert tracker.peak({"batch": 0.5})["batch"] == 256


def test_no_such_precision(make_stage):
    with pytest.raises(ConfigurationError, match="64-true"):
        step_cost(make_stage, TrainingSetup(batch_size=1, latent_px=8, precision="64-true"))
