"""The bytes that a training takes on each device, and its operations, before any run.

A training is largest at one of three moments. In a step old gradients, then activations and new
gradients are held; at the update the optimiser's own tensors; while validating one tensor more (raw
weights and average exchange places), and what sampling takes.

The step is the stage's own `training_step`, run under torch's FakeTensorMode in the order in which
lightning runs it: forward, then the old gradients go, then backward. What DDP and FSDP2 add is by
formula.
"""

import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from diffusers.models.resnet import ResnetBlock2D
from lightning.pytorch.plugins import HalfPrecision, MixedPrecision, Precision
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop
from torch.utils.weak import WeakIdKeyDictionary

from loopy.errors import ConfigurationError
from loopy.models.audio_to_latents import LANDMARK_WIDTH
from loopy.nn.spatial import SpatialTransformer
from loopy.nn.temporal import TemporalLayer
from loopy.records import Clip, ConditionMask
from loopy.timing import AudioWindow
from loopy.training.dropout import ConditionDropout
from loopy.training.module import LoopyModule
from loopy.training.optim import OptimiserName
from loopy.training.store_clips import FEWEST_HELD_OUT

Kind = Literal["weights", "gradients", "batch", "casts", "activations"]
"""What tensors of a step are for; casts are copies of weights in a lower precision."""
Strategy = Literal["one", "ddp", "fsdp2"]
"""One device; DDP; or FSDP2 by `loopy.training.sharding`."""
PARTS: dict[str, str] = {
    **{"weights": "weights", "gradients": "gradients", "optimiser": "state of the optimiser"},
    **{"average": "moving average", "buckets": "buckets of DDP", "gathered": "gathered by FSDP2"},
    **{"batch": "batch", "casts": "weights in half precision", "activations": "activations"},
}
"""What memory is for, in the order of the table, and in words."""
UNITS = (ResnetBlock2D, SpatialTransformer, TemporalLayer)
"""Modules that `loopy.training.sharding` gathers; the rest is smaller."""
IN_FLOAT32 = (torch.layer_norm, torch.group_norm)
"""Of what our networks call, autocast computes these in float32 on CUDA, and not on a CPU."""
BLOCK, SMALL = 256, 4096
"""Of bitsandbytes: values that share a scale; tensors with fewer keep moments in float32."""
aten = torch.ops.aten
FLOPS: dict[Any, Callable[..., int]] = flop_registry | {
    aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}


class StorageTracker(TorchDispatchMode):
    """Follows all storages that are born inside its context, and counts operations.

    Torch's own MemTracker refuses frozen parameters, takes the casts of autocast for activations,
    and knows the peak of an undivided model only. What a kernel takes for itself is not seen; a
    view of a tensor from outside that was not `follow`ed is taken for new.

    Attributes:
        flops: Floating-point operations (a multiplication and an addition are two), of matrix
            products, convolutions and attention; the rest is under a hundredth.
        held: Bytes that live now.
        most: Most bytes that lived at once; may be set to look for a later peak.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.held = self.most = 0
        self._kinds: list[Kind] = []
        self._events: list[tuple[int, int]] = []
        """Number of a storage, and its bytes at its birth or, negative, at its death."""
        self._numbers = WeakIdKeyDictionary(ref_type=weakref.ref)  # pyright: ignore[reportArgumentType]  # as torch's own MemTracker does

    def follow(self, tensors: Iterable[Tensor | None], kind: Kind) -> None:
        """Name what these tensors are for, from their birth on; they may be new here."""
        for tensor in tensors:
            if tensor is not None:
                self._kinds[self._number(tensor, kind)] = kind

    def peak(self, share: Mapping[Kind, float] | None = None) -> Counter[Kind]:
        """Bytes of each kind at the moment when their sum was largest.

        Args:
            share: Part of a kind's bytes that counts (1 where it is not named): what is cut up
                between devices counts less, and the peak may lie elsewhere.
        """
        parts = share or {}
        held: Counter[Kind] = Counter()
        most, best = -1.0, held
        for number, size in self._events:
            held[self._kinds[number]] += size
            total = sum(size * parts.get(kind, 1.0) for kind, size in held.items())
            if total > most:
                most, best = total, held.copy()
        return Counter({kind: round(size * parts.get(kind, 1.0)) for kind, size in best.items()})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation by shapes, and write down what it made."""
        answer, kind = func(*args, **(kwargs or {})), "activations"
        if func is aten._to_copy.default:
            source = self._numbers.get(args[0].untyped_storage())
            kind = "casts" if source is not None and self._kinds[source] == "weights" else kind
        for made in tree_leaves(answer):
            if isinstance(made, Tensor):
                self._number(made, kind)
        if formula := FLOPS.get(func.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=answer)
        return answer

    def _number(self, tensor: Tensor, kind: Kind) -> int:
        storage = tensor.untyped_storage()
        if storage not in self._numbers:
            number = self._numbers[storage] = len(self._kinds)
            self._kinds.append(kind)
            self._happened(number, storage.nbytes())
            weakref.finalize(storage, self._happened, number, -storage.nbytes())
        return self._numbers[storage]

    def _happened(self, number: int, size: int) -> None:
        self._events.append((number, size))
        self.held += size
        self.most = max(self.most, self.held)


@dataclass(frozen=True)
class TrainingSetup:
    """What the memory of a training depends on besides its stage.

    Args:
        batch_size: Clips on each device.
        latent_px: Side of the latents.
        precision: As lightning's trainer takes it.
        accumulates: Whether gradients of several batches are added up.
        device: Where it is to run.
        strategy: See `Strategy`.
        devices: How many.
        bucket_view: Whether DDP's gradients are views of its buckets.
        optimizer: Of the weights; the stage's own.
        averaged: Whether there is a moving average of the weights.
    """

    batch_size: int
    latent_px: int
    precision: str = "32-true"
    accumulates: bool = False
    device: Literal["cuda", "cpu"] = "cuda"
    strategy: Strategy = "one"
    devices: int = 1
    bucket_view: bool = False
    optimizer: OptimiserName = "adamw"
    averaged: bool = False


@dataclass(frozen=True)
class StepCost:
    """One training step on one device that holds the whole model; all in bytes.

    Attributes:
        tracker: What lives when, from the batch to the last gradient.
        validating: Most that a forward without gradients holds besides weights.
        trained: Each parameter that is trained.
        unit: The largest module that FSDP2 gathers at once.
    """

    tracker: StorageTracker
    validating: int
    trained: tuple[int, ...]
    unit: int


def step_cost(make: Callable[[], LoopyModule], setup: TrainingSetup) -> StepCost:
    """Run a stage's training step by shapes alone.

    Fake tensors say they are on a CPU, for without a GPU torch's backward refuses those of a
    GPU. Its attention there keeps no matrix of scores, as the fused kernels of CUDA; what
    autocast computes in float32 on CUDA alone is cast here.

    Args:
        make: Builds the stage; called in the fake mode, so its weights take no memory.
        setup: Of the training; how it is spread over devices does not matter.
    """
    plugin = _precision_plugin(setup.precision)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        _autocast_as_on(setup.device),
        warnings.catch_warnings(action="ignore"),  # a step without a trainer logs nothing
    ):
        with plugin.module_init_context():  # in half precision, where that trains so
            stage = make()
        stage.drops = _MaskedDropout()
        stage.self_generated_history = 0.0  # drawn without gradients, in less than the step takes
        batch = fake_clip(stage, setup.batch_size, setup.latent_px)
        held_out = fake_clip(stage, max(setup.batch_size, FEWEST_HELD_OUT), setup.latent_px)
        with StorageTracker() as validation, torch.no_grad(), plugin.forward_context():
            stage.training_step(held_out, 0)
        trained = [p for p in stage.parameters() if p.requires_grad]
        with StorageTracker() as tracker:
            tracker.follow(tree_leaves(vars(batch)), "batch")
            tracker.follow((*stage.parameters(), *stage.buffers()), "weights")
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            tracker.follow((p.grad for p in trained), "gradients")
            with plugin.forward_context():
                loss = stage.training_step(batch, 0)
            if not setup.accumulates:
                stage.zero_grad()
            loss.backward()
            tracker.follow((p.grad for p in trained), "gradients")
        unit = max(_nbytes(module) for module in stage.modules() if isinstance(module, UNITS))
    return StepCost(tracker, validation.most, tuple(p.nbytes for p in trained), unit)


def fake_clip(stage: LoopyModule, batch_size: int, latent_px: int) -> Clip:
    """A batch of the shapes that a stage's data has."""
    network, frames = stage.network, stage.settings.clip_frames
    audio, slots = (AudioWindow().frames, 13, 768), stage.settings.contract.layout.slots
    if network.audio_projection is not None:
        config = network.audio_projection.config
        audio = tuple(config[name] for name in ("neighbours", "layers", "width"))
    picture = (network.denoiser.config["in_channels"], latent_px, latent_px)
    empty = partial(torch.empty, dtype=network.denoiser.dtype)
    asked: Any = network.conditions
    widths: dict[str, int] = {name: each.config["width"] for name, each in asked.items()}
    return Clip(
        latents=empty(batch_size, frames, *picture),
        reference=empty(batch_size, *picture),
        motion_frames=empty(batch_size, slots, *picture),
        past_present=torch.ones(batch_size, slots, dtype=torch.bool),
        audio=empty(batch_size, frames, *audio),
        landmarks=empty(batch_size, frames, LANDMARK_WIDTH),
        measures=empty(batch_size, 2),
        conditions={name: empty(batch_size, frames, width) for name, width in widths.items()},
    )


def _nbytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def _precision_plugin(precision: str) -> Precision:
    """Lightning's plugin of a precision, for tensors that say they are on a CPU."""
    match precision:
        case "32" | "32-true":
            return Precision()
        case "bf16-mixed" | "16-mixed":
            return MixedPrecision(precision, "cpu")
        case "bf16-true" | "16-true":
            return HalfPrecision(precision)
    raise ConfigurationError(
        f"no estimate for precision {precision!r}; give 32-true, bf16-mixed, 16-mixed, bf16-true "
        "or 16-true"
    )


@contextmanager
def _autocast_as_on(device: str) -> Iterator[None]:
    """Let autocast of tensors on a CPU compute in float32 what it would on ``device``."""

    def in_float32(operation: Callable[..., Tensor], x: Tensor, *rest: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return operation(x.float(), *rest)

    # the dispatcher is asked in recomputations too
    with torch.library._scoped_library("aten", "IMPL") as library:
        for operation in IN_FLOAT32 if device == "cuda" else ():
            library.impl(operation.__name__, partial(in_float32, operation), "AutocastCPU")
        yield


class _Masked(ConditionMask):
    """A batch in which some sample does not see the reference: it holds most."""

    def reference_mask(self, device: torch.device | str) -> Tensor:
        return self.reference.to(device)  # fake values cannot be asked


class _MaskedDropout(ConditionDropout):
    def presence(self, generators: list[torch.Generator]) -> ConditionMask:
        return _Masked(**vars(super().presence(generators)))


@dataclass(frozen=True)
class MemoryBreakdown:
    """Bytes on each device at the three moments, by what they are for (`PARTS`)."""

    step: Counter[str]
    update: Counter[str]
    validation: Counter[str]

    @property
    def largest(self) -> str:
        """Name of the largest moment."""
        return max(vars(self), key=lambda name: vars(self)[name].total())

    @property
    def peak(self) -> int:
        """Bytes at that moment."""
        return vars(self)[self.largest].total()


def training_memory(cost: StepCost, setup: TrainingSetup, *, sampling: int = 0) -> MemoryBreakdown:
    """Bytes on each device.

    FSDP2 keeps a part of weights, gradients, moments and average on each device. Of what it
    gathers two units are there at once, the one that runs and the next (each as it came and as
    parameters), and a unit's gradients in float32 on their way to the others. DDP keeps a second
    copy of all gradients, its buckets, unless gradients are views of them. AdamW takes roots of
    the second moments: of all at once on CUDA, else one by one, twice.

    Args:
        cost: One step with the whole model on one device.
        setup: What the step was, and over which devices it is spread.
        sampling: Most bytes that samples take while validating; networks are there already.
    """
    trained = sum(cost.trained)
    part = 1 / setup.devices if setup.strategy == "fsdp2" else 1.0
    share: dict[Kind, float] = {"weights": part, "gradients": part}
    moments, updating = 2 * trained, trained if setup.device == "cuda" else 2 * max(cost.trained)
    if setup.optimizer == "adamw_8bit":
        counts = [size // 4 for size in cost.trained]
        moments = sum(2 * n + 8 * -(-n // BLOCK) if n >= SMALL else 8 * n for n in counts)
        updating = 0
    held = Counter(optimiser=round(moments * part))
    if setup.averaged:
        held["average"] = round(trained * part)
    gradients = round(trained * part)
    if setup.strategy == "fsdp2":
        half = setup.precision == "bf16-mixed"
        if half:  # what is gathered is in half precision already
            share["casts"] = 0.0
        held["gathered"] = cost.unit + 4 * (cost.unit // (2 if half else 1))
    if setup.strategy == "ddp":
        held["gradients" if setup.bucket_view else "buckets"] = trained
        if setup.bucket_view:
            share["gradients"], gradients = 0.0, 0
    in_step = cost.tracker.peak(share)
    between = held + Counter(weights=in_step["weights"], gradients=gradients)
    swapped = round(max(cost.trained) * part) if setup.averaged else 0
    return MemoryBreakdown(
        step=held + Counter({str(kind): size for kind, size in in_step.items()}),
        update=between + Counter(activations=round(updating * part)),
        validation=between + Counter(average=swapped, activations=max(cost.validating, sampling)),
    )
