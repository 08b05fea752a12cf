"""Types that users teach the codec, and types that this process does not know."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.codec import Decoder, decode, describe, dumps, encode, loads, register_type
from holdfast.errors import ConfigurationError, DecodeError, EncodeError


def through(value: Any) -> Any:
    return decode(loads(dumps(encode(value))))


@dataclass
class Plain:
    a: int


class Loud:
    pass


class Money:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(self.amount)


class Broken:
    pass


def test_registered_types():
    with pytest.raises(EncodeError, match="register_type"):
        encode(Money(1))
    register_type(
        Money,
        encode=lambda money: {"amount": money.amount},
        decode=lambda v: Money(v["amount"]),
        name="tests.money",
    )
    value = Money(3)
    back = through([value, value, {value: 1}, Money])
    assert back[0] == value
    assert back[0] is back[1]
    assert back[2] == {value: 1}
    assert back[3] is Money
    assert encode(value) == {"$": ":tests.money", "v": {"amount": 3}}
    assert describe(encode(value)) == "tests.money({'amount': 3})"
    with pytest.raises(ConfigurationError, match="already"):
        register_type(Money, encode=str, decode=Money)
    with pytest.raises(ConfigurationError, match="name"):
        register_type(Loud, encode=str, decode=Loud, name="tests.money")
    with pytest.raises(ConfigurationError, match="known"):
        register_type(int, encode=str, decode=int)
    with pytest.raises(DecodeError):
        decode({"$": ":tests.money", "v": 3})
    register_type(Broken, encode=lambda value: 1 / 0, decode=lambda v: 5)
    with pytest.raises(EncodeError, match="ZeroDivisionError"):
        encode([Broken()])
    with pytest.raises(DecodeError, match="gave a int"):
        decode({"$": f"{__name__}:Broken", "v": 1})


def test_unknown_classes_are_named_with_the_way_out():
    tree = encode(Plain(1))
    with pytest.raises(DecodeError, match="HOLDFAST_USER_MODULE"):
        decode({**tree, "$": "not_imported_yet:User"})
    resolver = Decoder(resolve=lambda name: Plain)
    assert resolver.decode({**tree, "$": "moved:Plain"}) == Plain(1)
    assert "not_imported_yet" not in sys.modules
