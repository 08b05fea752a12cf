"""Instances of data classes keep their type and fields, and no code of theirs runs."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from holdfast.codec import decode, describe, dumps, encode, loads
from holdfast.errors import EncodeError

T = TypeVar("T")


def through(value: Any) -> Any:
    return decode(loads(dumps(encode(value))))


@dataclass
class Plain:
    a: int
    b: list[int] = field(default_factory=list)
    c: ClassVar[int] = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    a: int
    b: Plain | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenChild(Frozen):
    c: str = "c"


@dataclass
class Child(Plain):
    start: InitVar[int] = 0
    computed: int = field(init=False)

    def __post_init__(self, start: int) -> None:
        self.computed = start + 1


@dataclass
class Loud:
    a: int

    def __init__(self, a: int) -> None:
        calls.append("init")
        self.a = a

    def __setattr__(self, name: str, value: object) -> None:
        calls.append("setattr")
        object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "a"):
            calls.append(f"get {name}")
        return object.__getattribute__(self, name)

    def __setstate__(self, state: object) -> None:
        calls.append("setstate")

    def __reduce__(self) -> Any:
        calls.append("reduce")
        return str, ()


calls: list[str] = []


@dataclass
class Box(Generic[T]):
    item: T


class Outer:
    @dataclass
    class Inner:
        x: int


@attrs.define
class Attr:
    x: int
    _private: int = 2


@attrs.define(slots=False, frozen=True)
class LooseAttr:
    x: int


class Struct(msgspec.Struct):
    a: int
    b: list[int] = []
    c: Any = None


class FrozenStruct(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    a: int

    def __post_init__(self) -> None:
        calls.append("post init of a struct")


class StructChild(FrozenStruct, frozen=True):
    z: int


class Point(NamedTuple):
    x: int
    y: list[int]


OldPoint = namedtuple("OldPoint", "x y")


class WidePoint(OldPoint):
    """Has a `__dict__`."""


class Color(enum.Enum):
    RED = 1
    GREEN = "g"
    CRIMSON = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        calls.append("missing")


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    HI = "hi"


class Perm(enum.Flag):
    R = 1
    W = 2
    X = 4


class IPerm(enum.IntFlag):
    R = 1
    W = 2


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int
    name: str = "n"
    when: datetime | None = None
    _secret: list[int] = PrivateAttr(default_factory=list)


class FrozenModel(BaseModel, frozen=True):
    tags: tuple[str, ...] = ()
    alias_: int = Field(1, alias="other")


class GenericModel(BaseModel, Generic[T]):
    item: T


class Ids(RootModel[list[int]]):
    pass


class Node(BaseModel):
    next: Any = None


@pydantic_dataclass
class Checked:
    x: int


INSTANCES = [
    Plain(1, [2]), Frozen(a=1), FrozenChild(a=1, b=Plain(2)), Child(1, start=4), Box(Plain(1)),
    Outer.Inner(3),
    Attr(1), Attr(1, 3), LooseAttr(5), Struct(1, [2]), FrozenStruct(a=1), StructChild(a=1, z=2),
    Point(1, [2]), OldPoint(1, 2), WidePoint(1, 2), SimpleNamespace(a=1, b=[2]),
    Color.RED, Color.GREEN, Level.LOW, Word.HI, Perm.R, Perm.R | Perm.W, Perm(0), ~Perm.R, IPerm(3), IPerm(8),
    Model(id=1), Model(id=1, name="x", extra_one=[1]), Model(id=1, when="2024-01-01T00:00:00Z"),
    Model(id=1, when="2024-01-01T00:00:00+03:00"), FrozenModel(tags=("a",), other=2),
    GenericModel[int](item=1),
    GenericModel[list[Frozen] | None](item=None), GenericModel(item=1), Ids([1, 2]), Checked(x=1),
    Box[int](1),
    Plain, Frozen, Color, Model, Struct, Attr, Point, Outer.Inner,
]  # fmt: skip


@pytest.mark.parametrize("value", INSTANCES, ids=lambda value: type(value).__name__)
def test_an_instance_comes_back_as_it_was(value):
    for back in (through(value), through([value])[0]):
        assert type(back) is type(value)
        assert back == value
        assert repr(back) == repr(value)
    assert isinstance(describe(encode(value)), str)


def test_the_tree_is_readable():
    assert encode(Plain(1))["f"] == {"a": 1, "b": []}
    assert encode(Plain(1))["$"] == f"{__name__}:Plain"
    assert encode(Color.CRIMSON) == {"$": f"{__name__}:Color", "name": "RED"}
    assert encode(Perm.R | Perm.W) == {"$": f"{__name__}:Perm", "value": 3}


def test_no_code_of_the_class_runs():
    value = Loud(1)
    struct = FrozenStruct(a=1)
    calls.clear()
    assert through(value).a == 1
    assert through(struct).a == 1
    assert through(Color.RED) is Color.RED
    assert calls == []


def test_missing_and_extra_attributes_are_kept_as_they_are():
    value = Plain(1)
    del value.b
    value.more = {1}
    back = through(value)
    assert vars(back) == {"a": 1, "more": {1}}
    slotted = Attr(1)
    del slotted.x
    assert not hasattr(through(slotted), "x")
    wide = WidePoint(1, 2)
    wide.note = "n"
    assert through(wide).note == "n"


def test_a_model_keeps_what_pydantic_knows_of_it():
    value = Model(id=1, more=2)
    value._secret.append(3)
    back = through(value)
    assert back.model_fields_set == {"id", "more"}
    assert back.model_extra == {"more": 2}
    assert back._secret == [3]
    assert back.model_dump() == value.model_dump()
    assert back == value
    back.name = "y"
    assert "name" in back.model_fields_set


def test_a_generic_model_is_made_when_it_does_not_exist_yet():
    tree = encode(GenericModel[int](item=1))
    tree["args"] = [{"$": "alias", "v": "builtins:dict", "args": [{"$": "class", "v": "builtins:str"}, {"$": "any"}]}]
    back = decode(tree)
    assert type(back) is GenericModel[dict[str, Any]]


def test_a_cycle_through_instances_works():
    value = Plain(1)
    value.b.append(value)
    back = through(value)
    assert back.b[0] is back
    node = Node()
    node.next = [node]
    assert (b := through(node)).next[0] is b
    struct = Struct(1)
    struct.c = struct
    assert (s := through(struct)).c is s
    frozen = Frozen(a=1)
    object.__setattr__(frozen, "b", {frozen.a: frozen})
    assert (f := through(frozen)).b[1] is f


def test_local_classes_are_refused():
    @dataclass
    class Local:
        x: int

    with pytest.raises(EncodeError, match="inside a function"):
        encode([Local(1)])
    with pytest.raises(EncodeError, match="inside a function"):
        encode(Local)


def test_a_class_whose_name_leads_elsewhere_is_refused():
    shadow = dataclass(type("Plain", (), {"__annotations__": {"x": int}, "__module__": __name__}))
    with pytest.raises(EncodeError, match="another object"):
        encode(shadow(1))
