"""Stored values can be shown to people and given as JSON without their types."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.codec import (
    chain_of,
    describe,
    describe_error,
    describe_type,
    dumps,
    encode,
    loads,
    plain,
    stored_traceback,
    to_json,
)


@dataclass
class User:
    id: int
    name: Any


class Color(enum.Enum):
    RED = 1


def forgotten(value: object) -> Any:
    """The tree of a value, as seen by a process without these classes."""
    return loads(dumps(encode(value)).replace(f"{__name__}:".encode(), b"gone:"))


@pytest.mark.parametrize(
    ("value", "text", "json_value"),
    [
        (User(3, "ada"), "User(id=3, name='ada')", {"id": 3, "name": "ada"}),
        ([1, (2,), {3}, {"a": None}], "[1, (2,), {3}, {'a': None}]", [1, [2], [3], {"a": None}]),
        (Color.RED, "Color.RED", "RED"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00", "2024-01-02T00:00:00+00:00"),
        (
            datetime(2024, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")),
            "2024-01-02T00:00:00[Europe/Berlin]",
            "2024-01-02T00:00:00[Europe/Berlin]",
        ),
        (timedelta(seconds=90), "timedelta(0:01:30)", 90.0),
        (Decimal("1.5"), "Decimal('1.5')", "1.5"),
        (UUID(int=1), "UUID('00000000-0000-0000-0000-000000000001')", "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "PurePosixPath('/a')", "/a"),
        (b"hi", "b'hi'", "aGk="),
        (2**70, str(2**70), str(2**70)),
        ({1: 2, (3, 4): 5}, "{1: 2, (3, 4): 5}", {"1": 2, "(3, 4)": 5}),
        (set(), "set()", []),
        (frozenset({1}), "frozenset({1})", [1]),
        (range(3), "range(0, 3, 1)", {"args": [0, 3, 1]}),
        (..., "...", "..."),
        (float("inf"), "inf", "inf"),
        (ValueError("x"), "ValueError('x')", {"type": "builtins:ValueError", "args": ["x"]}),
        (int, "int", "builtins:int"),
        ("\ud800", "'\\ud800'", "\\ud800"),
    ],
)
def test_values_are_shown_as_python_and_as_json(value, text, json_value):
    tree = forgotten(value)
    assert describe(tree) == plain(tree) == text
    assert to_json(tree) == json_value
    json.dumps(to_json(tree))


def test_what_was_seen_before_is_pointed_at():
    shared = [1]
    tree = forgotten([shared, {"again": shared}, User(1, shared)])
    assert describe(tree) == "[[1], {'again': <same list as above>}, User(id=1, name=<same list as above>)]"
    assert to_json(tree) == [[1], {"again": [1]}, {"id": 1, "name": [1]}]
    user = User(1, None)
    user.name = user
    assert describe(forgotten(user)) == "User(id=1, name=<same User as above>)"
    assert to_json(forgotten(user)) == {"id": 1, "name": "<same User as above>"}


def test_bytes_that_can_change_are_counted_as_the_encoder_does():
    data, shared = bytearray(b"x"), [1]
    tree = forgotten([data, shared, data, shared])
    assert describe(tree) == "[bytearray(b'x'), [1], <same bytearray as above>, <same list as above>]"
    assert to_json(tree) == ["eA==", [1], "eA==", [1]]


class Odd(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("cannot 3"), "ValueError: cannot 3"),
        (ValueError(), "ValueError"),
        (ValueError(3), "ValueError: 3"),
        (ValueError("a", [1]), "ValueError: ('a', [1])"),
        (KeyError("k"), "KeyError: 'k'"),
        (FileNotFoundError(2, "No such file", "x.txt"), "FileNotFoundError: [Errno 2] No such file: 'x.txt'"),
        (Odd("x" * 600), "Odd: " + "x" * 492 + "..."),
        (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "ExceptionGroup: two (ValueError: a; KeyError: 'b')"),
    ],
)
def test_an_exception_is_told_in_a_line(error: Exception, text: str):
    assert describe_error(forgotten(error)) == text


def test_a_chain_of_exceptions_is_followed_with_their_tracebacks():
    try:
        try:
            raise KeyError("k")
        except KeyError as error:
            raise ValueError("x") from error
    except ValueError as error:
        tree = forgotten(error)
    assert [describe_error(one) for one in chain_of(tree)] == ["ValueError: x", "KeyError: 'k'"]
    assert stored_traceback(tree).endswith("ValueError: x\n")
    assert stored_traceback(chain_of(tree)[1]).endswith("KeyError: 'k'\n")
    assert (stored_traceback(encode(ValueError())), stored_traceback(encode(3)), chain_of(encode(3))) == ("", "", [])


def test_what_is_no_exception_is_told_as_a_value():
    assert describe_error(encode([1])) == "[1]"
    assert describe_error({"$": "x:Y", "lineage": "nonsense", "args": 5}) == "Y"


def test_a_bomb_of_references_stays_small():
    layer: list[Any] = ["x"] * 10
    for _ in range(12):
        layer = [layer] * 10
    assert len(json.dumps(to_json(encode(layer)))) < 5_000_000
    assert len(describe(encode(layer))) < 10_000


def test_long_values_are_cut():
    assert len(describe(encode(list(range(100_000))), limit=200)) <= 200
    assert describe(encode("x" * 100), limit=20).endswith("...")
    assert len(plain(encode(list(range(10_000))))) > 40_000


def test_types_are_named():
    named = [
        (1, "int"),
        (None, "None"),
        ([], "list"),
        ({}, "dict"),
        (User(1, 2), "gone:User"),
        (UUID(int=1), "UUID"),
    ]
    for value, name in named:
        assert describe_type(forgotten(value)) == name


json_trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["tuple", "ref", "v", "m:C", "datetime", "set", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$", "v", "f", "args", "lineage", "at", "a", "name", "tz"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@settings(deadline=None, max_examples=200)
@given(json_trees)
def test_damaged_trees_can_be_shown(tree):
    assert isinstance(describe(tree), str)
    assert isinstance(describe_type(tree), str)
    json.dumps(to_json(tree))
