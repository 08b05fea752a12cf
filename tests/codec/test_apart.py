"""A tree out of the company in which it was encoded is the tree that its value would have had alone."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from holdfast.codec import Company, Encoder, describe, dumps, encode, loads, to_json


@dataclass(eq=False)
class Loose:
    x: Any
    y: Any = None


class Pair(NamedTuple):
    x: Any
    y: Any


class Model(BaseModel):
    x: Any


def raised(*parts: Any) -> Exception:
    try:
        raise ValueError(*parts)
    except ValueError as error:
        error.more = parts
        error.add_note("a note")
        return error


MAKERS: list[Any] = [
    lambda parts: list(parts),
    lambda parts: tuple(parts),
    lambda parts: dict(enumerate(parts)),
    lambda parts: {f"k{n}": part for n, part in enumerate(parts)},
    lambda parts: {"$": list(parts)},
    lambda parts: OrderedDict(enumerate(parts)),
    lambda parts: defaultdict(list, enumerate(parts)),
    lambda parts: deque(parts),
    lambda parts: Loose(parts[0] if parts else None, list(parts)),
    lambda parts: Pair(parts[0] if parts else 1, 2),
    lambda parts: Model(x=list(parts)),
    lambda parts: SimpleNamespace(x=parts),
    lambda parts: raised(*parts),
    lambda parts: ExceptionGroup("several", [raised(*parts), KeyError("k")]),
    lambda parts: iter(list(parts)),
    lambda parts: enumerate(list(parts)),
    lambda parts: zip(list(parts), [1, 2]),
    lambda parts: reversed(list(parts)),
    lambda parts: {1: parts}.items(),
    lambda parts: {1, 2},
    lambda parts: frozenset({1}),
    lambda parts: bytearray(b"x"),
    lambda parts: Counter("abc"),
    lambda parts: datetime(2024, 1, 2, tzinfo=UTC),
    lambda parts: date(2024, 1, 2),
    lambda parts: timedelta(seconds=3),
    lambda parts: Decimal("1.5"),
    lambda parts: Fraction(1, 3),
    lambda parts: complex(1, 2),
    lambda parts: PurePosixPath("/a"),
    lambda parts: range(3),
    lambda parts: slice(1, 2),
    lambda parts: 2**80,
    lambda parts: int,
    lambda parts: "text",
    lambda parts: None,
]


@st.composite
def companies(draw: Any) -> list[Any]:
    """Values that share objects among each other, and hold some of them twice."""
    pool: list[Any] = []
    for _ in range(draw(st.integers(1, 8))):
        parts = [pool[draw(st.integers(0, len(pool) - 1))] for _ in range(draw(st.integers(0, 3)) if pool else 0)]
        pool.append(draw(st.sampled_from(MAKERS))(parts))
    return [pool[draw(st.integers(0, len(pool) - 1))] for _ in range(draw(st.integers(1, 4)))]


@settings(deadline=None, max_examples=500)
@given(companies())
def test_a_tree_taken_out_is_the_tree_of_its_value_alone(values: list[Any]):
    encoder = Encoder()
    trees = [loads(dumps(encoder.encode(value))) for value in values]
    company = Company(trees)
    for value, tree in zip(values, trees, strict=True):
        alone = company.alone(tree)
        assert alone == loads(dumps(encode(value)))
        assert "unknown reference" not in describe(alone)
        assert "unknown reference" not in dumps(to_json(alone)).decode()


def test_a_cycle_through_several_is_taken_along():
    first: list[Any] = []
    second = {"first": first}
    first.append(second)
    encoder = Encoder()
    trees = [encoder.encode(first), encoder.encode(second)]
    assert Company(trees).alone(trees[1]) == encode(second)
    assert describe(Company(trees).alone(trees[1])) == "{'first': [<same dict as above>]}"


def test_a_reference_to_nothing_stays_what_it_is():
    damaged = [[1], {"$": "ref", "v": 7}, {"$": "ref", "v": "x"}]
    assert Company([damaged]).alone(damaged) == damaged
