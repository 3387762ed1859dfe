"""The next part is made while the last one is used: in order, no more, nothing left behind."""

import threading
from threading import Event

import pytest

from loopy.ahead import one_ahead

SECONDS = 10  # a deadlock fails in this time


def test_all_parts_come_in_order():
    assert list(one_ahead(iter(range(9)))) == list(range(9))
    assert list(one_ahead(iter([None, False]))) == [None, False]
    assert list(one_ahead(iter(()))) == []


def test_the_next_part_is_made_meanwhile_and_no_more():
    made, begun = [], [Event() for _ in range(4)]

    def parts():
        for number in range(4):
            begun[number].set()
            made.append(threading.current_thread().name)
            yield number

    for number in one_ahead(parts()):
        if number < 3:
            assert begun[number + 1].wait(SECONDS)
        assert len(made) <= number + 2
    assert all(name.startswith("ahead") for name in made)


def test_an_error_comes_in_its_turn():
    def parts():
        yield 1
        raise ValueError("the second")

    given = one_ahead(parts())
    assert next(given) == 1
    with pytest.raises(ValueError, match="the second"):
        next(given)
    assert not list(given)


def test_closing_waits_for_the_part_in_the_making_and_leaves_no_thread():
    begun, go_on, ended = Event(), Event(), []

    def parts():
        try:
            yield 1
            begun.set()
            assert go_on.wait(SECONDS)
            yield 2
            ended.append("too far")
        finally:
            ended.append("closed")

    before = threading.active_count()
    given = one_ahead(parts())
    assert next(given) == 1
    assert begun.wait(SECONDS)
    go_on.set()
    given.close()
    del given
    assert ended == ["closed"]
    assert threading.active_count() == before
