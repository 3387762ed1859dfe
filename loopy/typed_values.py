"""Values of JSON as records, each of the type that the record declares; records as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from functools import cache
from inspect import signature
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from loopy.drafts import writing
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


def read_record(kind: type[Record], path: Path, *, version: int | None = None) -> Record:
    """A JSON file that `write_record` has written; a fraction that is null is NaN.

    Args:
        kind: Of the record.
        path: The file.
        version: Of the format; None: it has none.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or of another version or kind.
    """
    values = plain_values(path.read_text(encoding="utf-8"))
    if version is not None and isinstance(values, dict):
        found = values.pop("version", None)
        if found != version or isinstance(found, bool):
            raise ValueError(f"its version is {found!r:.80}, expected {version}")
    return record_of(kind, values, nan=True)


def write_record(path: Path, record: Any, *, version: int | None = None) -> None:
    """Writes a dataclass, or plain values, as JSON; whole or not at all.

    Args:
        path: The file.
        record: What to write; what JSON has no word for becomes null.
        version: Of the format; None: it has none.

    Raises:
        OutputError: It cannot be written there.
    """
    values = finite(
        asdict(record) if is_dataclass(record) and not isinstance(record, type) else record
    )
    if version is not None:
        values = {"version": version, **values}
    with writing(path) as hidden:
        hidden.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """The same as JSON can say it: NaN and infinite are None, named tuples are objects."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def record_of(kind: type[Record], values: Any, name: str = "", *, nan: bool = False) -> Record:
    """Builds a dataclass or a named tuple, and those inside it; fields left out have defaults.

    A whole number will do where a fraction is declared, and nothing else for anything else.

    Args:
        kind: The dataclass.
        values: What `dataclasses.asdict` and JSON made of one.
        name: Where it stands, for messages.
        nan: Whether a fraction may be None, or not finite; both are NaN.

    Raises:
        ValueError: A name that is not known, or missing, a value of another type, or one that is
            not finite.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name or 'it'} is {values!r:.80}, expected names and values")
    declared = _declared(kind)
    if strange := [each for each in values if each not in declared]:
        raise ValueError(f"{name}{strange[0]:.80} is nothing that is known")
    if missing := [n for n, (_, needed) in declared.items() if needed and n not in values]:
        raise ValueError(f"{name}{missing[0]} is missing")
    return kind(**{n: _value(declared[n][0], v, f"{name}{n}", nan=nan) for n, v in values.items()})


def check_fields(record: Any) -> None:
    """Makes sure that the fields of a dataclass hold what they declare; for its ``__post_init__``.

    Numbers of numpy will do as Python's own, a whole number where a fraction is declared.

    Raises:
        ConfigurationError: A value of another type, or a number that is not finite.
    """
    for name, (kind, _) in _declared(type(record)).items():
        given = getattr(record, name)
        try:
            built = _value(kind, given, name)
            if isinstance(given, Mapping) and not isinstance(built, Mapping):
                raise ValueError(f"{name} is {given!r:.80}, expected a {type(built).__name__}")
        except ValueError as error:
            raise ConfigurationError(str(error)) from error


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
    if not (_is_number(kind, value) and least <= value <= most):
        word = "a whole number" if kind is int else "a number"
        span = "" if least == -math.inf else f" from {least:g}"
        span += "" if most == math.inf else f" to {most:g}"
        raise ConfigurationError(f"{name} is {value!r:.80}, expected {word}{span}")


@cache
def _declared(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Of each field its type, and whether it must be given."""
    hints, given = get_type_hints(kind), signature(kind).parameters
    return {name: (hints[name], each.default is each.empty) for name, each in given.items()}


def _value(kind: Any, value: Any, name: str, *, nan: bool = False) -> Any:
    if is_dataclass(kind) or hasattr(kind, "_field_defaults"):
        kind = cast(type[Any], kind)
        if isinstance(value, kind):
            return value
        return record_of(kind, value, f"{name}.", nan=nan)
    if kind is Any:
        return value
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inside:
            return None
        fitting = [one for one in inside if one is not NoneType]
        return _value(fitting[0], value, name, nan=nan)
    expected = " or ".join(map(repr, inside)) if origin is Literal else (origin or kind).__name__
    if origin is Literal:
        fits = type(value) in {type(one) for one in inside} and value in inside
    elif origin in (tuple, list):
        if fits := isinstance(value, list | tuple):
            kinds = inside if origin is tuple and inside[1:] != (...,) else inside[:1] * len(value)
            if len(kinds) != len(value):
                raise ValueError(f"{name} has {len(value)} values, expected {len(kinds)}")
            each = enumerate(zip(kinds, value, strict=True))
            value = origin(_value(k, v, f"{name}[{place}]", nan=nan) for place, (k, v) in each)
    elif origin in (Mapping, dict):
        if fits := isinstance(value, Mapping):
            value = {n: _value(inside[1], v, f"{name}.{n}", nan=nan) for n, v in value.items()}
    elif kind in (int, float):
        fits = _is_number(kind, value)
        if nan and not fits and kind is float and (value is None or type(value) in (int, float)):
            return math.nan
        if kind is float and isinstance(value, float):
            expected = "a finite float"
    else:
        fits = isinstance(value, kind)
    if not fits:
        raise ValueError(f"{name} is {value!r:.80}, expected {expected}")
    return value


def _is_number(kind: Any, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False
