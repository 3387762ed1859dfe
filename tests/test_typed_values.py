"""Values of JSON as records and back: what fits is read, what does not is named with its place."""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pytest

from loopy.diffusion.options import DiffusionContract
from loopy.errors import ConfigurationError
from loopy.typed_values import read_record, record_of, write_record


class Ends(NamedTuple):
    low: float
    high: float = 1.0


START = Ends(0.0)


@dataclass(frozen=True)
class Sample:
    name: str
    kind: Literal["a", "b"] = "a"
    ends: Ends = START
    pair: tuple[int, str] = (1, "x")
    many: tuple[float, ...] = ()
    rows: dict[str, list[float]] = field(default_factory=dict)
    note: str | None = None
    rest: Any = None


FULL = Sample("n", "b", Ends(0.5, 2.0), (3, "y"), (1.0, 2.0), {"r": [0.5]}, "said", {"any": [1]})


def test_a_record_comes_back_as_it_went(tmp_path):
    for version in (None, 3):
        write_record(tmp_path / "a.json", FULL, version=version)
        assert read_record(Sample, tmp_path / "a.json", version=version) == FULL
    assert json.loads((tmp_path / "a.json").read_text())["ends"] == {"low": 0.5, "high": 2.0}


def test_what_is_no_number_is_null_and_comes_back_as_nan(tmp_path):
    write_record(tmp_path / "a.json", Sample("n", many=(math.nan, math.inf, 1.0)))
    assert json.loads((tmp_path / "a.json").read_text())["many"] == [None, None, 1.0]
    back = read_record(Sample, tmp_path / "a.json")
    assert [math.isnan(each) for each in back.many] == [True, True, False]


def test_fields_left_out_have_their_defaults():
    assert record_of(Sample, {"name": "n", "ends": {"low": 0}}) == Sample("n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"it is \[\], expected names and values"),
        ({}, "name is missing"),
        ({"name": "n", "more": 1}, "more is nothing that is known"),
        ({"name": 1}, "name is 1, expected str"),
        ({"name": "n", "kind": "c"}, "kind is 'c', expected 'a' or 'b'"),
        ({"name": "n", "ends": {}}, "ends.low is missing"),
        ({"name": "n", "ends": {"low": True}}, "ends.low is True, expected float"),
        ({"name": "n", "pair": [1]}, "pair has 1 values, expected 2"),
        ({"name": "n", "pair": [1, 2]}, r"pair\[1\] is 2, expected str"),
        ({"name": "n", "many": 3}, "many is 3, expected tuple"),
        ({"name": "n", "many": [None]}, r"many\[0\] is None, expected float"),
        ({"name": "n", "rows": {"r": ["x"]}}, r"rows.r\[0\] is 'x', expected float"),
        ({"name": "n", "note": 5}, "note is 5, expected str"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(values, message):
    with pytest.raises(ValueError, match=message):
        record_of(Sample, values)


def test_a_record_inside_another_is_no_mapping():
    with pytest.raises(ConfigurationError, match=r"layout is .* expected a SegmentLayout"):
        DiffusionContract(layout={"stride": 2})
