"""Plain values, of JSON, as a record: each of the type that the record declares."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from loopy.errors import ConfigurationError

Record = TypeVar("Record")


def plain_values(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: It is no JSON, no UTF-8, or nested beyond reason.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def record_of(kind: type[Record], values: Any, name: str = "") -> Record:
    """Builds a dataclass, and those inside it; fields that are left out have their defaults.

    A whole number will do where a fraction is declared, and nothing else for anything else.

    Args:
        kind: The dataclass.
        values: What `dataclasses.asdict` and JSON made of one.
        name: Where it stands, for messages.

    Raises:
        ValueError: A name that is not known, or missing, a value of another type, or one that is
            not finite.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name or 'it'} is {values!r:.80}, expected names and values")
    declared = get_type_hints(kind)
    known = [field for field in fields(kind) if field.init]  # pyright: ignore[reportArgumentType]
    if strange := [each for each in values if each not in [field.name for field in known]]:
        raise ValueError(f"{name}{strange[0]:.80} is nothing that is known")
    needed = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
    if missing := [each for each in needed if each not in values]:
        raise ValueError(f"{name}{missing[0]} is missing")
    return kind(**{n: _value(declared[n], v, f"{name}{n}") for n, v in values.items()})


def check_fields(record: Any) -> None:
    """Makes sure that the fields of a dataclass hold what they declare; for its ``__post_init__``.

    Numbers of numpy will do as Python's own, a whole number where a fraction is declared.

    Raises:
        ConfigurationError: A value of another type, or a number that is not finite.
    """
    for name, kind in get_type_hints(type(record)).items():
        value = getattr(record, name)
        if not _fits(kind, value):
            plain = get_origin(kind) is None
            expected = kind.__name__ if plain else str(kind).removeprefix("typing.")
            finite = "a finite " if isinstance(value, Real) and not _is_finite(value) else ""
            raise ConfigurationError(f"{name} is {value!r:.80}, expected {finite}{expected}")


def check_number(
    name: str,
    value: Any,
    kind: type[int] | type[float] = int,
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> None:
    """Makes sure that an argument is a finite number, a whole one unless said otherwise.

    Raises:
        ConfigurationError: Another type, not finite, or outside ``least`` to ``most``.
    """
    if not (_fits(kind, value) and least <= value <= most):
        word = "a whole number" if kind is int else "a number"
        span = "" if least == -math.inf else f" from {least:g}"
        span += "" if most == math.inf else f" to {most:g}"
        raise ConfigurationError(f"{name} is {value!r:.80}, expected {word}{span}")


def _fits(kind: Any, value: Any) -> bool:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in inside)
    if origin is Literal:
        return isinstance(value, str | int) and value in inside
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, kind)


def _value(kind: Any, value: Any, name: str) -> Any:
    if is_dataclass(kind):
        return record_of(kind, value, f"{name}.")  # pyright: ignore[reportArgumentType]
    if kind is Any:
        return value
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        fitting = [one for one in inside if one is not NoneType]
        return None if value is None and NoneType in inside else _value(fitting[0], value, name)
    if origin is Literal:
        fits = value in inside and type(value) in {type(one) for one in inside}
    elif origin is tuple:
        if fits := isinstance(value, list | tuple):
            kinds = inside[:1] * len(value) if inside[1:] == (...,) else inside
            if len(kinds) != len(value):
                raise ValueError(f"{name} has {len(value)} values, expected {len(kinds)}")
            each = zip(kinds, value, strict=True)
            value = tuple(_value(k, v, f"{name}[{place}]") for place, (k, v) in enumerate(each))
        kind = tuple
    elif origin is Mapping:
        if fits := isinstance(value, Mapping):
            value = {n: _value(inside[1], each, f"{name}.{n}") for n, each in value.items()}
        kind = dict
    elif kind is float:
        fits = type(value) in (int, float) and _is_finite(value)
    else:
        fits = type(value) is kind
    if not fits:
        expected = " or ".join(map(repr, inside)) if origin is Literal else kind.__name__
        raise ValueError(f"{name} is {value!r:.80}, expected {expected}")
    return value


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
