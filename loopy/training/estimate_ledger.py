"""What a piece of torch code would hold in memory, and compute, without memory or computing.

Under torch's FakeTensorMode every operation runs by shapes alone. The ledger stands between and
writes down when each storage is born and when the last tensor of it dies.
"""

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

Kind = Literal["weights", "gradients", "batch", "casts", "activations"]

aten = torch.ops.aten


@dataclass
class Life:
    """A storage, from birth to death.

    Attributes:
        size: Bytes.
        born: Number of the event.
        died: Likewise; None while it lives.
        kind: What it is for; ``casts`` are copies of weights in a lower precision.
    """

    size: int
    born: int
    died: int | None
    kind: Kind


class Ledger(TorchDispatchMode):
    """Follows all storages that are born inside its context, and counts operations.

    What a kernel takes for itself and gives back before it answers is not seen. What is seen too
    much: under any such mode torch adds the bias of a linear map of a strided input in a new
    tensor, for a moment. A view of a tensor from outside that was not `follow`ed is taken for new.

    Attributes:
        lives: In order of birth.
        flops: Floating-point operations (a multiplication and an addition are two), of matrix
            products, convolutions and attention; the rest is under a hundredth.
        held: Bytes that live now.
        most: Most bytes that lived at once, since the beginning or `forget_peak`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lives: list[Life] = []
        self.flops = self.held = self.most = 0
        self._known = WeakIdKeyDictionary(ref_type=weakref.ref)  # pyright: ignore[reportArgumentType]  # as torch's own MemTracker does
        self._now = 0

    def follow(self, tensors: Iterable[Tensor], kind: Kind) -> None:
        """Name what these tensors are for, from their birth on; they may be new here."""
        for tensor in tensors:
            self._life(tensor, kind).kind = kind

    def forget_peak(self) -> None:
        """Look for the largest moment from now on."""
        self.most = self.held

    def peak(self, share: Mapping[Kind, float] | None = None) -> Counter[Kind]:
        """Bytes of each kind at the moment when their sum was largest.

        Args:
            share: Part of a kind's bytes that counts (1 where it is not named): what is cut up
                between devices counts less, and the peak may lie elsewhere.
        """
        parts = share or {}
        changes = [(life.born, life) for life in self.lives]
        changes += [(life.died, life) for life in self.lives if life.died is not None]
        held: Counter[Kind] = Counter()
        most, best = -1.0, held
        for moment, life in sorted(changes, key=lambda change: change[0]):
            held[life.kind] += life.size if moment == life.born else -life.size
            total = sum(size * parts.get(kind, 1.0) for kind, size in held.items())
            if total > most:
                most, best = total, held.copy()
        return Counter({kind: round(size * parts.get(kind, 1.0)) for kind, size in best.items()})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation by shapes, and write down what it made."""
        answer = func(*args, **(kwargs or {}))
        kind: Kind = "activations"
        if func is aten._to_copy.default and self._is_weight(args[0]):
            kind = "casts"
        for made in tree_leaves(answer):
            if isinstance(made, Tensor):
                self._life(made, kind)
        self.flops += _flops(func, args, kwargs or {}, answer)
        return answer

    def _is_weight(self, tensor: Tensor) -> bool:
        life = self._known.get(tensor.untyped_storage())
        return life is not None and life.kind == "weights"

    def _life(self, tensor: Tensor, kind: Kind) -> Life:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            life = Life(storage.nbytes(), self._tick(), None, kind)
            self.lives.append(life)
            self._known[storage] = life
            self.held += life.size
            self.most = max(self.most, self.held)
            weakref.finalize(storage, self._end, life)
        return self._known[storage]

    def _end(self, life: Life) -> None:
        life.died = self._tick()
        self.held -= life.size

    def _tick(self) -> int:
        self._now += 1
        return self._now


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of their values, each tensor for itself."""
    return sum(x.numel() * x.element_size() for x in tensors)


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> int:
    """By torch's formulas; that of the CPU's attention is the one of the others."""
    if func is aten._scaled_dot_product_flash_attention_for_cpu.default:
        return sdpa_flop_count(*(x.shape for x in args[:3]))
    if func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
        return sdpa_backward_flop_count(*(x.shape for x in args[:4]))
    formula = flop_registry.get(func.overloadpacket)
    return 0 if formula is None else formula(*args, **kwargs, out_val=answer)
