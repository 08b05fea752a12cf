"""Objects that were one stay one, within a value and between the values of one encoder."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast.codec import Decoder, Encoder, decode, dumps, encode, loads
from holdfast.errors import EncodeError


def through(value: Any) -> Any:
    return decode(loads(dumps(encode(value))))


@pytest.mark.parametrize(
    "shared",
    [
        [1],
        {},
        {"a": 1},
        {1: 2},
        {1},
        (1,),
        frozenset({1}),
        bytearray(b"x"),
        deque([1]),
        OrderedDict(a=1),
        ValueError(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_object_at_two_places_stays_one(shared):
    back = through([shared, {"x": (shared, 2)}])
    assert back[0] is back[1]["x"][0]
    assert type(back[0]) is type(shared)
    assert encode([shared, shared])[1] == {"$": "ref", "v": 1}


def test_equal_objects_stay_two():
    back = through([[], []])
    assert back[0] is not back[1]


def test_empty_tuples_need_no_reference():
    assert encode([(), ()]) == [{"$": "tuple", "v": []}, {"$": "tuple", "v": []}]
    assert through([(), frozenset(), [1], (), [2]]) == [(), frozenset(), [1], (), [2]]


def test_numbering_goes_on_between_calls():
    shared = [1]
    encoder, decoder = Encoder(), Decoder()
    trees = [encoder.encode(value) for value in ({"a": shared}, (shared, 1), shared)]
    assert trees[2] == {"$": "ref", "v": 1}
    first, second, third = (decoder.decode(loads(dumps(tree))) for tree in trees)
    assert first["a"] is second[0] is third
    assert encoder.objects[1] is shared
    assert [id(value) for value in encoder.objects[:2]] == [id(encoder.objects[0]), id(shared)]


def test_cycles():
    items: list[Any] = [1]
    items.append(items)
    back = through(items)
    assert back[1] is back
    mapping: dict[Any, Any] = {}
    mapping["self"] = mapping
    mapping[1] = [mapping]
    back = through(mapping)
    assert back["self"] is back
    assert back[1][0] is back
    line: deque[Any] = deque()
    line.append((line,))
    assert (d := through(line))[0][0] is d
    table: Any = defaultdict(list)
    table["x"].append(table)
    assert (t := through(table))["x"][0] is t


def test_a_tuple_in_a_cycle_works_when_the_cycle_starts_at_the_list():
    items: list[Any] = []
    items.append((items,))
    back = through(items)
    assert back[0][0] is back


def test_a_cycle_through_a_tuple_alone_is_refused():
    items: list[Any] = []
    loop = (items,)
    items.append(loop)
    with pytest.raises(EncodeError, match=r"at \[0\]\[0\]: a tuple contains itself"):
        encode(loop)


def test_shared_parts_of_dict_keys():
    key = (1, "k")
    back = through({key: [key], 2: key})
    ((first, items), (_, last)) = back.items()
    assert first is items[0] is last


@dataclass(eq=False)
class Member:
    group: Any = None


@dataclass(frozen=True)
class Key:
    name: str
    owners: Any = field(default=None, hash=False, compare=False)


def test_a_set_that_holds_its_owner_works():
    member = Member()
    member.group = {member}
    assert (m := through(member)) in m.group
    key = Key("k", {})
    key.owners[key] = {key, "x"}
    back = through(key)
    assert back.owners[back] == {back, "x"}


def test_a_frozenset_that_holds_its_owner_is_refused():
    key = Key("k")
    object.__setattr__(key, "owners", frozenset({key}))
    with pytest.raises(EncodeError, match="frozenset"):
        encode(key)
