"""A list of layers that knows their class."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

Layer = TypeVar("Layer", bound=nn.Module)


class Layers(nn.ModuleList, Generic[Layer]):
    """`torch.nn.ModuleList`, of one class of layers for the type checker.

    Args:
        layers: What it holds.
    """

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        super().__init__(layers)

    if TYPE_CHECKING:

        def __getitem__(self, idx: int) -> Layer:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
            """The layer at a place."""
            ...

        def __iter__(self) -> Iterator[Layer]:
            """Each layer."""
            ...
