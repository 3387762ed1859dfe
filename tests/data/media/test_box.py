"""How users write a box."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopy.data.media.portrait import read_box
from loopy.errors import ConfigurationError


@pytest.mark.parametrize(
    "text",
    ["1 2 3.5 4", "1,2,3.5,4", " 1, 2 ,3.5,\t4 ", "[1,2,3.5,4]", "( 1 2 3.5 4 )", "[1, 2, 3.5, 4]"],
)
def test_forms(text):
    assert read_box(text) == (1, 2, 3.5, 4)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "middle", "1 2 3", "1 2 3 4 5", "1,,3,4", "1;2;3;4", "[1,2,3,4", "[[1,2,3,4]]"),
        *("-1 0 9 9", "0 -1 9 9", "9 0 9 9", "0 9 9 8", "9 0 3 9"),
        *("nan 0 9 9", "0 0 nan 9", "0 0 9 nan", "0 0 inf 9", "0 0 9 inf", "-inf 0 9 9"),
        "1\n2\n3",
    ],
)
def test_others_are_told_an_example(text):
    with pytest.raises(ConfigurationError, match="as in '40 20 440 420'") as raised:
        read_box(text)
    assert "\n" not in str(raised.value)


@settings(max_examples=40)
@given(st.text("0123456789 ,;.-[]()enaif\n\0é", max_size=24))
def test_any_text(text):
    try:
        left, top, right, bottom = read_box(text)
    except ConfigurationError:
        return
    assert 0 <= left < right < float("inf")
    assert 0 <= top < bottom < float("inf")
