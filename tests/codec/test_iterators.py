"""Iterators resume where they were, over the same object as before, and are not consumed by saving them."""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict, deque
from typing import Any, NamedTuple

import pytest

from holdfast.codec import decode, dumps, encode, loads
from holdfast.errors import EncodeError


def through(value: Any) -> Any:
    return decode(loads(dumps(encode(value))))


class Pair(NamedTuple):
    x: int
    y: int


MAKERS = [
    lambda: iter([1, [2], 3]), lambda: iter((1, (2,), 3)), lambda: iter("abc"), lambda: iter("aéc"),
    lambda: iter("🎉bc"),
    lambda: iter(b"abc"), lambda: iter(bytearray(b"abc")), lambda: iter(range(3)), lambda: iter(range(9, 0,
    -3)),
    lambda: iter(range(10**30, 10**30 + 3)), lambda: reversed([1, 2, 3]), lambda: reversed((1, 2, 3)),
    lambda: reversed("abc"), lambda: reversed(range(3)), lambda: enumerate(["a", "b", "c"], 5),
    lambda: enumerate(iter("abc"), 10**30), lambda: zip("abc", [1, 2, 3]), lambda: zip([1, 2, 3],
    strict=True),
    lambda: iter({1: 2, 3: 4, 5: 6}), lambda: iter({1: 2, 3: 4, 5: 6}.items()), lambda: iter({1: 2, 3: 4,
    5: 6}.values()),
    lambda: reversed({1: 2, 3: 4, 5: 6}), lambda: iter({1, 2, 3}), lambda: iter(OrderedDict(a=1, b=2, c=3)),
    lambda: iter(deque([1, 2, 3])), lambda: reversed(deque([1, 2, 3])), lambda: iter(frozenset({1, 2, 3})),
    lambda: zip(enumerate("abc"), reversed([1, 2, 3])), lambda: reversed(b"abc"), lambda: iter(Pair(1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("make", MAKERS)
def test_an_iterator_resumes_where_it_was(make, taken):
    iterator, twin = make(), make()
    for _ in range(taken):
        next(iterator, None), next(twin, None)
    back = through(iterator)
    again = through(back)
    rest = list(twin)
    assert list(back) == rest
    assert list(again) == rest
    assert list(iterator) == rest, "saving consumed it"
    assert next(back, "spent") == "spent"
    assert list(through(iterator)) == []


def test_types_are_kept_where_they_can_be():
    for value in (
        iter([1]),
        iter((1,)),
        iter("a"),
        iter(b"a"),
        reversed([1]),
        reversed((1,)),
        enumerate([1]),
        zip([1]),
    ):
        assert type(through(value)) is type(value)
        spent = value
        for _ in spent:
            pass
        assert type(through(spent)) is type(value)


def test_the_list_under_an_iterator_is_the_same_list():
    items = [1, 2]
    iterator = iter(items)
    next(iterator)
    for order in ([items, iterator], [iterator, items]):
        back = through(order)
        back_items = next(value for value in back if isinstance(value, list))
        back_iterator = next(value for value in back if not isinstance(value, list))
        back_items.append(3)
        assert list(back_iterator) == [2, 3]


def test_two_names_for_one_iterator_stay_one():
    iterator = iter([1, 2, 3])
    first, second, both = through([iterator, iterator, zip(iterator, iterator)])
    assert first is second
    assert list(both) == [(1, 2)]


def test_a_list_may_hold_its_own_iterator():
    items: list[Any] = [1, 2]
    iterator = iter(items)
    items.append(iterator)
    next(iterator)
    back = through(items)
    assert next(back[2]) == 2
    assert next(back[2]) is back[2]


def test_views_stay_views_of_the_same_dict():
    mapping = {"a": 1}
    back, keys, values, items = through([mapping, mapping.keys(), mapping.values(), mapping.items()])
    back["b"] = 2
    assert list(keys) == ["a", "b"]
    assert list(values) == [1, 2]
    assert list(items) == [("a", 1), ("b", 2)]
    for view in (OrderedDict(a=1).keys(), Counter("a").items(), {}.values()):
        back = through(view)
        assert type(back) is type(view)
        assert list(back) == list(view)


def test_iterators_that_hide_their_state_are_refused():
    for value in (itertools.count(), map(str, [1]), iter(int, 1), itertools.chain([1]), (x for x in [1])):
        with pytest.raises(EncodeError, match="list"):
            encode(value)
    with pytest.raises(EncodeError, match="generator"):
        encode(zip([1], (x for x in [1])))


def test_an_iterator_over_a_changed_dict_is_refused():
    mapping = {1: 2, 3: 4}
    iterator = iter(mapping)
    next(iterator)
    mapping[5] = 6
    with pytest.raises(EncodeError, match="changed size"):
        encode(iterator)
