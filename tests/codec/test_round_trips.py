"""Plain values come back as exactly what they were, through bytes."""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.codec import Encoder, decode, dumps, encode, loads, raw
from holdfast.errors import DecodeError, EncodeError


def through(value: object) -> object:
    return decode(loads(dumps(encode(value))))


def same(left: object, right: object) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return repr(left) == repr(right)
    if isinstance(left, (list, tuple, deque)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, slice):
        return same((left.start, left.stop, left.step), (right.start, right.stop, right.step))
    return left == right


BERLIN = ZoneInfo("Europe/Berlin")

SAMPLES = [
    None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**500, -(10**5000), 1 << 100_000,
    0.0, -0.0, 1.5, math.inf, -math.inf, 1e308, 5e-324, complex(1, -0.0), complex(math.inf, 2),
    "", "ascii", "grüße 🎉", "\x00\n", "lone \udc80 surrogate", "\ud83d\ude00",
    b"", b"\x00\xff", bytearray(b"abc"), bytearray(),
    [], [1, 2], [1, "a", None, 2.5], [2**63, 1], [1.0, math.inf], ["\ud800"], [[[]], {}],
    (), (1,), ((), ((),)), {}, {"a": 1}, {"$": 1}, {"$": "tuple", "v": []}, {1: 2, None: 3, (1, 2): 4,
    b"x": 5},
    {"\ud800": 1}, {True: 1, 2: {"x": (1, [2])}}, set(), {1, 2}, {"b", "a"}, {1, "a", None}, {frozenset({1})},
    frozenset(), frozenset({(1, 2)}),
    OrderedDict(b=1, a=2), OrderedDict([(1, 2), ("$", 3)]), defaultdict(list, a=[1]), defaultdict(None,
    {1: 2}),
    Counter("hello"), deque([1, 2], maxlen=3), deque(), deque([], maxlen=0),
    range(3), range(10, -5, -3), range(10**30), slice(1, None, 2), slice((1,), [2]), ..., NotImplemented,
    datetime(2024, 1, 2, 3, 4, 5, 678), datetime(2024, 1, 2, tzinfo=UTC),
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-3, microseconds=7))),
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1), "CET")), datetime(2024, 1, 2,
    tzinfo=timezone(timedelta(0), "Z")),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), datetime(2024, 10, 27, 2, 30, fold=1),
    datetime.max, datetime.min,
    date(2024, 2, 29), date.min, time(1, 2, 3, 4), time(1, tzinfo=UTC), time(1, tzinfo=BERLIN, fold=1),
    timedelta(days=-3, microseconds=1), timedelta.max, timedelta.min, UTC, timezone(timedelta(hours=2)),
    timezone.min, BERLIN,
    uuid4(), Decimal("1.10"), Decimal("-Infinity"), Decimal("1E+1000"), Fraction(1, 3), Fraction(10**40, 7),
    Path("/tmp/x"), Path("rel/ä"), Path("bad\udc80name"), PurePosixPath("/a"), PureWindowsPath("C:\\x"),
    ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fe80::1%eth0"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_network("2001:db8::/32"),
    ipaddress.ip_interface("::1/64"),
    re.compile(r"a+(?P<n>b)", re.I | re.M), re.compile(rb"\d", re.A), re.compile("(?i)x"),
    int, str, ValueError, dict, datetime, Decimal, OrderedDict,
]  # fmt: skip


@pytest.mark.parametrize("value", SAMPLES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value):
    back = through(value)
    assert same(value, back)
    assert isinstance(value, set) or dumps(encode(back)) == dumps(encode(value))
    assert same(through([value, {"x": (value,)}]), [value, {"x": (value,)}])


def test_what_a_container_adds_is_kept():
    back = through(defaultdict(list))
    assert back.default_factory is list
    assert through(deque([1], maxlen=5)).maxlen == 5
    assert through(datetime(2024, 1, 1, fold=1)).fold == 1
    assert through(datetime(2024, 1, 1, tzinfo=BERLIN)).tzinfo is BERLIN
    assert through(datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET"))).tzname() == "CET"
    assert math.isnan(through(math.nan))
    assert repr(through(Decimal("sNaN"))) == "Decimal('sNaN')"
    assert through(re.compile("a", re.I | re.X)).flags == re.compile("a", re.I | re.X).flags


def test_json_that_needs_no_tags_has_none():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert encode(value) == value
    assert dumps(encode(value)) == b'{"a":[1,2.5,null,true,"x"],"b":{"c":[]}}'


def test_the_tree_shares_nothing_mutable_with_the_value():
    value = [1, 2]
    tree = encode(value)
    back = decode(tree)
    value.append(3)
    back.append(4)
    assert tree == [1, 2]


def test_sets_of_texts_are_written_in_order():
    assert encode({"c", "a", "b"}) == {"$": "set", "v": ["a", "b", "c"]}


def test_pre_encoded_bytes_can_be_embedded():
    assert loads(dumps([1, raw(dumps(encode((1,))))])) == [1, {"$": "tuple", "v": [1]}]


def test_deep_values_within_the_bound_survive_bytes():
    value: object = 1
    for level in range(149):
        value = {level: value} if level % 2 else [value, 1]
    assert through(value) == value


def test_too_deep_values_are_refused():
    value: object = 1
    for _ in range(300):
        value = [value, ()]
    with pytest.raises(EncodeError, match="levels deep"):
        encode(value)


def test_what_is_not_a_tree_is_not_written():
    with pytest.raises(EncodeError, match="not a tree"):
        dumps({"a": object()})


@pytest.mark.parametrize("data", [b"", b"{", b"nan", b'"\\ud800"', b"\xff", b"[" * 5000, b"[1,]", b"1e999"])
def test_bad_bytes_are_a_decode_error(data):
    with pytest.raises(DecodeError):
        loads(data)


def test_a_failed_value_leaves_the_encoder_usable():
    encoder, shared = Encoder(), [1]
    assert encoder.encode([shared]) == [[1]]
    with pytest.raises(EncodeError):
        encoder.encode([(2, 3), shared, lambda: None])
    assert len(encoder.objects) == 2
    assert encoder.encode(shared) == {"$": "ref", "v": 1}


any_text = st.text(st.characters(codec=None, exclude_categories=[]))
moments = st.dates() | st.datetimes() | st.timedeltas()
hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | any_text
    | st.binary()
    | moments
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.fractions(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=4)
        | st.tuples(inner)
        | st.sets(hashables, max_size=3)
        | st.lists(inner, max_size=3).map(deque)
        | st.dictionaries(hashables, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=250)
@given(values)
def test_any_value_round_trips(value):
    back = through(value)
    assert same(value, back)
    again = encode(back)
    assert decode(again) == value
