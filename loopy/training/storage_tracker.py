"""What a piece of torch code holds in memory, and computes, by shapes alone.

Under torch's FakeTensorMode nothing is held and computed. The tracker stands between and writes
down when each storage is born and when the last tensor of it dies. Torch's own MemTracker refuses
frozen parameters, takes the casts of autocast for activations, and knows the peak of an undivided
model only.
"""

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, ops
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

Kind = Literal["weights", "gradients", "batch", "casts", "activations"]
"""What memory is for; casts are copies of weights in a lower precision."""

aten = ops.aten


@dataclass
class Allocation:
    """Bytes that are held together, and what for."""

    size: int
    kind: Kind


class StorageTracker(TorchDispatchMode):
    """Follows all storages that are born inside its context, and counts operations.

    What a kernel takes for itself and gives back before it answers is not seen. What is seen too
    much: under any such mode torch adds the bias of a linear map of a strided input in a new
    tensor, for a moment. A view of a tensor from outside that was not `follow`ed is taken for new.

    Attributes:
        flops: Floating-point operations (a multiplication and an addition are two), of matrix
            products, convolutions and attention; the rest is under a hundredth.
        held: Bytes that live now.
        most: Most bytes that lived at once; may be set to look for a later peak.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.held = self.most = 0
        self._events: list[tuple[Allocation, int]] = []
        """Births (1) and deaths (-1) in their order."""
        self._known = WeakIdKeyDictionary(ref_type=weakref.ref)  # pyright: ignore[reportArgumentType]  # as torch's own MemTracker does

    def follow(self, tensors: Iterable[Tensor | None], kind: Kind) -> None:
        """Name what these tensors are for, from their birth on; they may be new here."""
        for tensor in tensors:
            if tensor is not None:
                self._storage(tensor, kind).kind = kind

    def peak(self, share: Mapping[Kind, float] | None = None) -> Counter[Kind]:
        """Bytes of each kind at the moment when their sum was largest.

        Args:
            share: Part of a kind's bytes that counts (1 where it is not named): what is cut up
                between devices counts less, and the peak may lie elsewhere.
        """
        parts = share or {}
        held: Counter[Kind] = Counter()
        most, best = -1.0, held
        for storage, sign in self._events:
            held[storage.kind] += sign * storage.size
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
        if func is aten._to_copy.default:
            source = self._known.get(args[0].untyped_storage())
            kind = "casts" if source is not None and source.kind == "weights" else kind
        for made in tree_leaves(answer):
            if isinstance(made, Tensor):
                self._storage(made, kind)
        if func is aten._scaled_dot_product_flash_attention_for_cpu.default:  # not in the registry
            self.flops += sdpa_flop_count(*(x.shape for x in args[:3]))
        elif func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
            self.flops += sdpa_backward_flop_count(*(x.shape for x in args[:4]))
        elif formula := flop_registry.get(func.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=answer)
        return answer

    def _storage(self, tensor: Tensor, kind: Kind) -> Allocation:
        key = tensor.untyped_storage()
        if key not in self._known:
            self._known[key] = Allocation(key.nbytes(), kind)
            self._happened(self._known[key], 1)
            weakref.finalize(key, self._happened, self._known[key], -1)
        return self._known[key]

    def _happened(self, storage: Allocation, sign: int) -> None:
        self._events.append((storage, sign))
        self.held += sign * storage.size
        self.most = max(self.most, self.held)
