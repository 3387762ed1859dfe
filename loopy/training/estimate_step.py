"""A training step by shapes alone: what it holds in memory, and what it computes.

The step is the stage's own `training_step`, in the order in which lightning runs it: forward,
then the old gradients go, then backward.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from loopy.models.audio_to_latents import LANDMARK_WIDTH
from loopy.nn.spatial import SpatialTransformer
from loopy.nn.temporal import TemporalLayer
from loopy.records import Clip, ConditionMask
from loopy.timing import AudioWindow
from loopy.training.clip_sampler import FEWEST_HELD_OUT
from loopy.training.dropout import ConditionDropout
from loopy.training.estimate_ledger import Ledger, bytes_of
from loopy.training.estimate_precision import Device, autocast_as_on, cast, precision_plugin
from loopy.training.module import LoopyModule

UNITS = (ResnetBlock2D, SpatialTransformer, TemporalLayer)
"""Modules that `loopy.training.sharding` gathers; the rest is smaller."""


@dataclass(frozen=True)
class StepCost:
    """One training step on one device that holds the whole model; all in bytes.

    Attributes:
        ledger: What lives when, from the batch to the last gradient.
        validating: Most that a forward without gradients holds besides weights, of the batches
            that `loopy.training.clip_sampler` validates with.
        trained: Each parameter that is trained.
        unit: The largest module that FSDP2 gathers at once (`loopy.training.sharding`).
        device: Where the step is to run.
    """

    ledger: Ledger
    validating: int
    trained: tuple[int, ...]
    unit: int
    device: Device


def step_cost(
    make: Callable[[], LoopyModule],
    *,
    batch_size: int,
    latent_px: int,
    precision: str = "32-true",
    accumulates: bool = False,
    weighted: bool = False,
    device: Device = "cuda",
) -> StepCost:
    """Run a stage's training step by shapes alone.

    Fake tensors say they are on a CPU, for without a GPU torch's backward refuses those of a
    GPU. Its attention there keeps no matrix of scores, as the fused kernels of CUDA; what
    autocast computes in float32 on CUDA alone is cast here.

    Args:
        make: Builds the stage; called in the fake mode, so its weights take no memory.
        batch_size: Clips.
        latent_px: Side of the latents.
        precision: As lightning's trainer takes it.
        accumulates: Whether gradients of several batches are added up.
        weighted: Whether the loss has weights of places.
        device: Where the step is to run.

    Raises:
        ConfigurationError: A precision that is not known.
    """
    plugin = precision_plugin(precision)
    with FakeTensorMode(allow_non_fake_inputs=True), autocast_as_on(device), _quiet():
        stage = make()
        if precision in ("bf16-true", "16-true"):
            cast(stage, torch.bfloat16 if precision == "bf16-true" else torch.float16)
        stage.drops = Masking()
        stage.self_generated_history = (
            0.0  # drawn without gradients before the step, in less than it takes
        )
        trained = [p for p in stage.parameters() if p.requires_grad]
        held_out = fake_clip(stage, max(batch_size, FEWEST_HELD_OUT), latent_px, weighted=weighted)
        with Ledger() as ledger:
            with torch.no_grad(), plugin.forward_context():
                stage.training_step(held_out, 0)
            validating = ledger.most
        batch = fake_clip(stage, batch_size, latent_px, weighted=weighted)
        with Ledger() as ledger:
            ledger.follow((x for x in vars(batch).values() if x is not None), "batch")
            ledger.follow((*stage.parameters(), *stage.buffers()), "weights")
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            _follow_gradients(ledger, trained)
            with plugin.forward_context():
                loss = stage.training_step(batch, 0)
            if not accumulates:
                stage.zero_grad()
            loss.backward()
            _follow_gradients(ledger, trained)
        units = (m for m in stage.modules() if isinstance(m, UNITS))
        return StepCost(
            ledger,
            validating=validating,
            trained=tuple(bytes_of([p]) for p in trained),
            unit=max(bytes_of(unit.parameters()) for unit in units),
            device=device,
        )


class Masked(ConditionMask):
    """A batch in which some sample does not see the reference: it holds most."""

    def reference_mask(self, device: torch.device | str) -> Tensor:
        """A mask, whatever the values: fake ones cannot be asked."""
        return self.reference.to(device)


class Masking(ConditionDropout):
    """Draws such batches alone."""

    def presence(self, generators: list[torch.Generator]) -> ConditionMask:
        """As drawn, but masked."""
        return Masked(**vars(super().presence(generators)))


def _follow_gradients(ledger: Ledger, trained: list[nn.Parameter]) -> None:
    ledger.follow((p.grad for p in trained if p.grad is not None), "gradients")


def fake_clip(stage: LoopyModule, batch_size: int, latent_px: int, *, weighted: bool) -> Clip:
    """A batch of the shapes that a stage's data has."""
    denoiser, hearing = stage.network.denoiser.config, stage.network.audio_projection
    heard = (AudioWindow().frames, 13, 768)
    if hearing is not None:
        heard = tuple(hearing.config[name] for name in ("neighbours", "layers", "width"))
    frames, slots = stage.settings.clip_frames, stage.settings.contract.layout.slots
    dtype = stage.network.denoiser.dtype
    picture = (denoiser["in_channels"], latent_px, latent_px)

    def empty(*shape: int) -> Tensor:
        return torch.empty(batch_size, *shape, dtype=dtype)

    return Clip(
        latents=empty(frames, *picture),
        reference=empty(*picture),
        motion_frames=empty(slots, *picture),
        past_present=torch.ones(batch_size, slots, dtype=torch.bool),
        audio=empty(frames, *heard),
        landmarks=empty(frames, LANDMARK_WIDTH),
        measures=empty(2),
        weight=empty(frames, 1, latent_px, latent_px) if weighted else None,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No words about a step without a trainer: lightning allows it, and logs nothing then."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*self\.log\(\)")
        yield
