"""Plain values, of JSON, as a record: each of the type that the record declares."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def record_of(kind: type[Record], values: Any, name: str = "") -> Record:
    """Builds a dataclass, and those inside it; fields that are left out have their defaults.

    A whole number will do where a fraction is declared, and nothing else for anything else.

    Args:
        kind: The dataclass.
        values: What `dataclasses.asdict` and JSON made of one.
        name: Where it stands, for messages.

    Raises:
        ValueError: A name that is not there, a value of another type, or one that is not finite.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name or 'it'} is {values!r}, expected names and values")
    declared = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.init]  # pyright: ignore[reportArgumentType]
    if strange := [each for each in values if each not in known]:
        raise ValueError(f"{name}{strange[0]} is nothing that is known")
    return kind(**{n: _value(declared[n], v, f"{name}{n}") for n, v in values.items()})


def _value(kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind):
        return record_of(kind, value, f"{name}.")  # pyright: ignore[reportArgumentType]
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        fitting = [one for one in inside if one is not NoneType]
        return None if value is None and NoneType in inside else _value(fitting[0], value, name)
    if origin is Literal:
        fits = value in inside and type(value) in {type(one) for one in inside}
    elif origin is tuple:
        fits = isinstance(value, list | tuple)
        kind, value = tuple, tuple(value) if fits else value
    elif kind is float:
        fits = type(value) in (int, float) and math.isfinite(value)
    else:
        fits = type(value) is kind
    if not fits:
        expected = " or ".join(map(repr, inside)) if origin is Literal else kind.__name__
        raise ValueError(f"{name} is {value!r:.80}, expected {expected}")
    return value
