"""Values of JSON as records, each of the type that the record declares; records as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
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
    declared, known = get_type_hints(kind), _needed(kind)
    if strange := [each for each in values if each not in known]:
        raise ValueError(f"{name}{strange[0]:.80} is nothing that is known")
    if missing := [each for each, needed in known.items() if needed and each not in values]:
        raise ValueError(f"{name}{missing[0]} is missing")
    return kind(**{n: _value(declared[n], v, f"{name}{n}", nan=nan) for n, v in values.items()})


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


def _needed(kind: Any) -> dict[str, bool]:
    """Names of the fields, and whether each must be given."""
    if is_dataclass(kind):
        return {
            field.name: field.default is MISSING and field.default_factory is MISSING
            for field in fields(kind)
            if field.init
        }
    return {name: name not in kind._field_defaults for name in kind._fields}


def _value(kind: Any, value: Any, name: str, *, nan: bool) -> Any:
    if is_dataclass(kind) or hasattr(kind, "_field_defaults"):
        return record_of(cast(type[Any], kind), value, f"{name}.", nan=nan)
    if kind is Any:
        return value
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in inside:
            return None
        fitting = [one for one in inside if one is not NoneType]
        return _value(fitting[0], value, name, nan=nan)
    if origin is Literal:
        fits = value in inside and type(value) in {type(one) for one in inside}
    elif origin in (tuple, list):
        if fits := isinstance(value, list | tuple):
            kinds = inside if origin is tuple and inside[1:] != (...,) else inside[:1] * len(value)
            if len(kinds) != len(value):
                raise ValueError(f"{name} has {len(value)} values, expected {len(kinds)}")
            each = enumerate(zip(kinds, value, strict=True))
            value = origin(_value(k, v, f"{name}[{place}]", nan=nan) for place, (k, v) in each)
        kind = origin
    elif origin in (Mapping, dict):
        if fits := isinstance(value, Mapping):
            value = {n: _value(inside[1], v, f"{name}.{n}", nan=nan) for n, v in value.items()}
        kind = dict
    elif kind is float:
        fits = type(value) in (int, float) and _is_finite(value)
        if nan and not fits and (value is None or type(value) in (int, float)):
            return math.nan
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
