"""JSON files as records: every value is checked against the annotation of its field."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_record(kind: type[T], path: Path, *, version: int | None = None) -> T:
    """A JSON file as a record.

    Args:
        kind: Of the record.
        path: The file.
        version: What its field "version" must be; None: it has none.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, of another version or kind, or nested beyond reason.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if version is not None and isinstance(values, dict):
        found = values.pop("version", None)
        _checked(found == version, found, "its version", str(version))
    return as_record(kind, values)


def as_record(kind: Any, value: Any, where: str = "it") -> Any:
    """A value of JSON as what an annotation says.

    Args:
        kind: A dataclass or named tuple, `tuple`, `list` and `dict` of kinds, a literal, a union,
            a plain type, or `Any`. A float takes any number; None, and what is not finite, is NaN.
        value: As `json` gives it.
        where: Its place, for the message.

    Raises:
        ValueError: It is of another kind, or has too many or too few fields.
    """
    origin, inside = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:
        if value is None and NoneType in inside:
            return None
        return as_record(next(each for each in inside if each is not NoneType), value, where)
    if origin is Literal:
        return _checked(value in inside, value, where, f"one of {', '.join(map(repr, inside))}")
    if kind is float:
        return _number(value, where)
    if kind in (str, int, bool):
        return _checked(type(value) is kind, value, where, kind.__name__)
    if origin is dict:
        _checked(isinstance(value, dict), value, where, "object")
        return {name: as_record(inside[1], each, f"{where}.{name}") for name, each in value.items()}
    if origin in (tuple, list):
        _checked(isinstance(value, list), value, where, "list")
        if origin is list or inside[-1] is ...:
            kinds = [inside[0]] * len(value)
        else:
            kinds = list(inside)
            _checked(len(value) == len(kinds), value, where, f"list of {len(kinds)}")
        return origin(
            as_record(each, item, f"{where}[{place}]")
            for place, (each, item) in enumerate(zip(kinds, value, strict=True))
        )
    return _fields(kind, value, where)


def _fields(kind: Callable[..., Any], value: Any, where: str) -> Any:
    """A dataclass or a named tuple."""
    _checked(isinstance(value, dict), value, where, "object")
    hints, given = get_type_hints(kind), _needed(kind)
    for name in value:
        _checked(name in given, name, where, f"without unknown fields, of {', '.join(given)}")
    if missing := [name for name, needed in given.items() if needed and name not in value]:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    return kind(**{n: as_record(hints[n], each, f"{where}.{n}") for n, each in value.items()})


def _needed(kind: Any) -> Mapping[str, bool]:
    """Names of the fields, and whether each must be given."""
    if is_dataclass(kind):
        return {
            each.name: each.default is MISSING and each.default_factory is MISSING
            for each in fields(kind)
        }
    return {name: name not in kind._field_defaults for name in kind._fields}


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    _checked(type(value) in (int, float), value, where, "number")
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _checked(fits: bool, value: Any, where: str, expected: str) -> Any:
    if not fits:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise ValueError(f"{where} is {shown}, expected {expected}")
    return value
