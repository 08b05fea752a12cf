"""Arguments of calls come back as they were given, however plain they are; anything else is no call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.codec import decode_call, dumps, encode_call, loads
from holdfast.errors import DecodeError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(values, max_size=4), st.dictionaries(st.text(max_size=4) | st.just("$"), values, max_size=3))
def test_arguments_come_back(args: list[Any], kwargs: dict[str, Any]) -> None:
    read = decode_call(loads(dumps(encode_call(args, kwargs, "task", "t"))))
    assert read == (tuple(args), kwargs)
    assert [type(value) for value in read[0]] == [type(value) for value in args]


def test_one_object_given_twice_stays_one() -> None:
    shared = [Decimal(1)]
    (first, second), kwargs = decode_call(encode_call([shared, shared], {"third": shared}, "task", "t"))
    assert first is second is kwargs["third"]


def test_what_is_read_is_not_what_is_kept() -> None:
    tree = encode_call([[1], 2], {"a": 3}, "task", "t")
    (first, _), kwargs = decode_call(tree)
    first.append(9)
    kwargs["b"] = 9
    assert decode_call(tree) == (([1], 2), {"a": 3})
    plain = encode_call([1], {"a": 3}, "task", "t")
    decode_call(plain)[1]["b"] = 9
    assert decode_call(plain) == ((1,), {"a": 3})


@pytest.mark.parametrize(
    "tree",
    [
        None,
        1,
        "ab",
        {},
        [],
        [[]],
        [[], {}, []],
        [{}, []],
        [[], []],
        [1, {}],
        {"$": "tuple", "v": [[], {}]},
        [[], {"$": 1}],
    ],
)
def test_anything_else_is_no_call(tree: Any) -> None:
    with pytest.raises(DecodeError):
        decode_call(tree)
