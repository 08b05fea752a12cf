"""Hostile and damaged payloads end in DecodeError: nothing is imported, called or broken by them."""

from __future__ import annotations

import builtins
import enum
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from pydantic import RootModel
from pydantic_settings import BaseSettings

from holdfast.codec import Decoder, decode, encode
from holdfast.errors import DecodeError, EncodeError, WorkflowFailed
from holdfast.model.instance import Status
from holdfast.retry import RetryPolicy


@dataclass(slots=True)
class Slotted:
    x: int


@dataclass
class Loose:
    x: Any
    function = print


@dataclass(frozen=True)
class Hashed:
    x: Any


class Pair(NamedTuple):
    x: int
    y: int


class PlainObject:
    pass


class Empty(enum.Enum):
    """Calling it makes a class."""


class Full(enum.Enum):
    A = 1


class Setup(BaseSettings):
    """Calling it reads the environment."""


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "sneaky":
            touched.append(name)
        return type.__getattribute__(cls, name)


class Hooked(metaclass=Meta):
    pass


touched: list[str] = []


def __getattr__(name: str) -> Any:
    if name == "Sneaky":
        touched.append(name)
    raise AttributeError(name)


HERE = __name__


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "posix:system", "subprocess:Popen", "builtins:eval", "builtins:exec", "builtins:object",
        "builtins:type",
        "builtins:list", "builtins:int", "builtins:open", "antigravity:fly", "this:s", "sys:modules",
        "threading:Thread",
        "functools:partial", "types:FunctionType", "types:CodeType", "types:ModuleType", "io:FileIO",
        "socket:socket",
        "enum:Enum", "enum:Flag", "tempfile:TemporaryDirectory", "ctypes:CDLL", ":", "a:", ":b", "a:b:c",
        "a.b:c..d",
        "x" * 10_000 + ":y", "os.path:join", "os:path.join", "builtins:__import__",
        "builtins:ValueError.__init__",
        f"{HERE}:PlainObject", f"{HERE}:Hooked.sneaky", f"{HERE}:Sneaky", f"{HERE}:Loose.function",
        f"{HERE}:Loose.__init__",
        f"{HERE}:Slotted.x", f"{HERE}:Loose.__class__", f"{HERE}:f.<locals>.C", f"{HERE}:pytest",
        f"{HERE}:dataclass",
        f"{HERE}:HERE", "pydantic.main:BaseModel", "pydantic:BaseModel", "msgspec:Struct",
        "typing:NamedTuple", "\ud800:x",
    ],
    ids=lambda name: ascii(name)[:40],
)  # fmt: skip
@pytest.mark.parametrize(
    "body", [{"f": {}}, {"v": ["id"]}, {"args": ["id"], "lineage": []}, {"name": "x"}, {"value": 1}]
)
def test_only_imported_data_classes_may_be_named(name, body):
    modules = set(sys.modules)
    with pytest.raises(DecodeError):
        decode({"$": name, **body})
    with pytest.raises(DecodeError):
        Decoder(resolve=lambda _: builtins.eval).decode({"$": name, **body})
    assert set(sys.modules) == modules
    assert touched == []


@pytest.mark.parametrize(
    "name",
    [
        "builtins:eval", "os:system", "subprocess:Popen", "builtins:type", f"{HERE}:PlainObject", 3, None, "x",
        "enum:Enum", "enum:IntFlag", "enum:StrEnum", "enum:EnumType", "abc:ABCMeta", f"{HERE}:Empty", f"{HERE}:Meta",
        f"{HERE}:Setup", "pydantic_settings.main:BaseSettings", "holdfast.settings:Settings",
        "holdfast.compiler.source:Source", "holdfast.runtime.processes:RemoteCall", "pydantic.types:GetPydanticSchema",
    ],
)  # fmt: skip
def test_only_data_classes_are_class_values(name):
    with pytest.raises(DecodeError):
        decode({"$": "class", "v": name})


@pytest.mark.parametrize("cls", [Full, Slotted, Pair, ValueError, RetryPolicy, Status, int])
def test_data_classes_are_class_values(cls):
    assert decode(encode(cls)) is cls


@pytest.mark.parametrize("cls", [Empty, Setup, Meta, enum.Enum])
def test_what_makes_more_than_data_is_not_saved_as_a_class(cls):
    with pytest.raises(EncodeError, match="cannot be saved as a value"):
        encode(cls)


@pytest.mark.parametrize(
    "name",
    ["holdfast.compiler.source:Source", "holdfast.codec.registry:Registered", "pydantic.types:GetPydanticSchema"],
)
def test_what_the_machinery_is_made_of_is_no_data(name):
    with pytest.raises(DecodeError, match="not a class of data"):
        decode({"$": name, "f": {}})


def test_what_people_hold_of_the_machinery_is_data():
    for value in (RetryPolicy(attempts=3), RootModel[list[int]]([1]), Setup(), Status.DONE):
        assert decode(encode(value)) == value


FIELDS = [
    (Slotted, {"y": 1}), (Slotted, {"__class__": 1}), (Slotted, {"__init__": 1}), (Slotted, {"__dict__": {}}),
    (Loose, {"__class__": 1}), (Loose, {"__dict__": {}}), (Loose, {"__reduce__": 1}), (Loose, []), (Loose,
    None),
    (Pair, {}), (Pair, {"x": 1}), (Pair, {"x": 1, "y": 2, "z": 3}), (Pair, {"x": 1, "y": 2, "__class__": 3}),
    (Pair, []),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "fields"), FIELDS)
def test_only_real_fields_may_be_set(cls, fields):
    with pytest.raises(DecodeError):
        decode({"$": f"{HERE}:{cls.__name__}", "f": fields})


WRONG: list[Any] = [
    {"$": None}, {"$": 1}, {"$": []}, {"$": {}}, {"$": "no such tag"}, {"$": ""},
    {"$": "ref"}, {"$": "ref", "v": -1}, {"$": "ref", "v": 10**18}, {"$": "ref", "v": "0"}, {"$": "ref",
    "v": True},
    {"$": "bytes", "v": "a"}, {"$": "bytes", "v": "é"}, {"$": "bytes", "v": "YQ==YQ=="}, {"$": "bytes",
    "v": "!!!!"},
    {"$": "bytearray", "v": "*"}, {"$": "str", "v": "*"}, {"$": "str", "v": "/w=="},
    {"$": "int", "v": "1" * 5000}, {"$": "int", "v": "0x" + "f" * 2_000_000}, {"$": "int", "v": "1_0"},
    {"$": "int", "v": " 1"},
    {"$": "int", "v": 5}, {"$": "int", "v": "٣"}, {"$": "float", "v": "1.0"}, {"$": "float", "v": "x"},
    {"$": "complex", "v": [1, 2]}, {"$": "complex", "v": [[], 1.0]}, {"$": "complex", "v": [1.0]},
    {"$": "set", "v": [1, 1]}, {"$": "set", "v": [1, True]}, {"$": "set", "v": [[]]}, {"$": "set", "v": "ab"},
    {"$": "frozenset", "v": ["a", "a"]}, {"$": "frozenset", "v": [{}]},
    {"$": "dict", "v": [[1, 2], [1, 3]]}, {"$": "dict", "v": [[[], 2]]}, {"$": "dict", "v": [1]},
    {"$": "dict", "v": ["ab"]},
    {"$": "dict", "v": [[1, 2, 3]]}, {"$": "dict"}, {"$": "Counter", "v": 1}, {"$": "OrderedDict", "v": None},
    {"$": "defaultdict", "factory": "eval", "v": {}}, {"$": "defaultdict", "factory": [], "v": {}},
    {"$": "defaultdict", "factory": {"$": "class", "v": "builtins:int"}, "v": {}},
    {"$": "deque", "maxlen": 1, "v": [1, 2]}, {"$": "deque", "maxlen": -1, "v": []}, {"$": "deque",
    "maxlen": "1", "v": []},
    {"$": "range", "v": [0, 1, 0]}, {"$": "range", "v": [0, 1]}, {"$": "range", "v": ["a", 1, 1]},
    {"$": "slice", "v": [1]},
    {"$": "datetime", "v": "yesterday"}, {"$": "datetime", "v": 3}, {"$": "datetime",
    "v": "2024-13-01T00:00:00"},
    {"$": "datetime", "v": "2024-01-01T00:00:00", "tz": "UTC"}, {"$": "datetime", "v": "2024-01-01T00:00:00",
    "tz": {"$": "zone", "v": "No/Where"}},
    {"$": "date", "v": "x"}, {"$": "time", "v": "25:00"}, {"$": "timedelta", "v": [10**18, 0, 0]},
    {"$": "timedelta", "v": [1.5, 0, 0]},
    {"$": "timezone", "v": [5, 0, 0]}, {"$": "timezone", "v": [0, 0, 0], "name": 3}, {"$": "zone",
    "v": "../../etc/passwd"},
    {"$": "zone", "v": "/etc/passwd"}, {"$": "zone", "v": "os"}, {"$": "zone", "v": "a.b"}, {"$": "zone",
    "v": ""},
    {"$": "pydantic-zone", "v": 10**9}, {"$": "pydantic-zone", "v": "x"},
    {"$": "uuid", "v": "x"}, {"$": "uuid", "v": 1}, {"$": "decimal", "v": "x"}, {"$": "decimal", "v": [0,
    [1], 2]},
    {"$": "fraction", "v": [1, 0]}, {"$": "fraction", "v": ["1", 2]}, {"$": "path", "v": 3}, {"$": "path",
    "v": ["a"]},
    {"$": "IPv4Address", "v": "x"}, {"$": "IPv4Address", "v": 1}, {"$": "IPv6Network", "v": "x"},
    {"$": "pattern", "v": "(", "flags": 32}, {"$": "pattern", "v": "a" * 20_000, "flags": 32},
    {"$": "pattern", "v": "a", "flags": 128},
    {"$": "pattern", "v": "(" * 5000 + ")" * 5000, "flags": 32}, {"$": "pattern", "v": "a{1,99999999999}",
    "flags": 32},
    {"$": "pattern", "v": "[[a]", "flags": 32}, {"$": "pattern", "v": "a", "flags": 2**70}, {"$": "pattern",
    "v": 3, "flags": 0},
    {"$": "list_iterator"}, {"$": "list_iterator", "v": {}, "at": 0}, {"$": "list_iterator", "v": [],
    "at": "0"},
    {"$": "list_iterator", "v": [1], "at": {"$": "int", "v": "99999999999999999999"}}, {"$": "str_iterator",
    "v": [], "at": 0},
    {"$": "reversed", "v": {"a": 1}, "at": 0}, {"$": "enumerate", "v": [1], "at": 0}, {"$": "enumerate",
    "v": "abc", "at": 0},
    {"$": "zip", "v": [[1]]}, {"$": "zip", "v": 1}, {"$": "dict_keys", "v": []}, {"$": "dict_items"},
    {"$": "deque_iterator", "v": [], "at": 0}, {"$": "deque_iterator", "v": {"$": "deque", "v": [1]},
    "at": 10**15},
    {"$": "deque_iterator", "v": {"$": "deque", "v": [1]}, "at": -(10**15)},
    {"$": "builtins:ValueError"}, {"$": "builtins:ValueError", "args": 3}, {"$": "builtins:ValueError",
    "args": [], "f": []},
    {"$": "builtins:ValueError", "args": [], "f": {"__cause__": 3}}, {"$": "builtins:ValueError", "args": [],
    "f": {"__class__": 3}},
    {"$": "builtins:ValueError", "args": [], "cause": 3}, {"$": "builtins:ValueError", "args": [],
    "context": "x"},
    {"$": "builtins:ValueError", "args": [], "native": {"errno": 1}}, {"$": "builtins:ValueError",
    "args": [], "traceback": 3},
    {"$": "builtins:OSError", "args": [], "native": {"filename": 1, "args": 1}}, {"$": "builtins:OSError",
    "args": [], "native": {"characters_written": "x"}},
    {"$": "builtins:UnicodeDecodeError", "args": [], "native": {}},
    {"$": "builtins:UnicodeDecodeError", "args": [], "native": {"encoding": "a", "object": "str", "start": 0,
    "end": 1, "reason": "r"}},
    {"$": "builtins:UnicodeDecodeError", "args": [], "native": {"encoding": "a", "object": {"$": "bytes",
    "v": "YQ=="}, "start": -9, "end": 1, "reason": "r"}},
    {"$": "builtins:UnicodeDecodeError", "args": [], "native": {"encoding": "a", "object": {"$": "bytes",
    "v": "YQ=="}, "start": 0, "end": 10**15, "reason": "r"}},
    {"$": "builtins:UnicodeEncodeError", "args": [], "native": {"encoding": 1, "object": "a", "start": 0,
    "end": 1, "reason": "r"}},
    {"$": "builtins:ExceptionGroup", "message": "m", "exceptions": []}, {"$": "builtins:ExceptionGroup",
    "message": 1, "exceptions": []},
    {"$": "builtins:ExceptionGroup", "message": "m", "exceptions": [1]}, {"$": "builtins:ExceptionGroup",
    "args": []},
    {"$": "builtins:ExceptionGroup", "message": "m", "exceptions": [{"$": "builtins:KeyboardInterrupt",
    "args": []}]},
    {"$": f"{HERE}:Hashed"}, {"$": "set", "v": [{"$": f"{HERE}:Hashed", "f": {"x": []}}]},
    object(), (1, 2), b"x", {"a": object()}, {"$": "set", "v": [{"$": f"{HERE}:Hashed", "f": {}}]},
]  # fmt: skip
HARMLESS = [{"$": f"{HERE}:Hashed"}]


@pytest.mark.parametrize("index", range(len(WRONG)))
def test_wrong_shapes_are_decode_errors(index):
    tree = WRONG[index]
    if tree in HARMLESS:
        assert type(decode(tree)) is Hashed
        return
    for wrapped in (
        tree,
        [tree],
        {"a": tree},
        {"$": "tuple", "v": [1, tree]},
        {"$": f"{HERE}:Loose", "f": {"x": tree}},
    ):
        with pytest.raises(DecodeError):
            decode(wrapped)


def test_references_lead_only_to_finished_objects():
    for tree in (
        [{"$": "ref", "v": 1}],
        {"$": "tuple", "v": [{"$": "ref", "v": 0}]},
        {"$": "frozenset", "v": [{"$": "ref", "v": 0}]},
        {"$": "enumerate", "v": {"$": "ref", "v": 0}, "at": 0},
    ):
        with pytest.raises(DecodeError, match="reference"):
            decode(tree)


def test_deep_trees_are_bounded():
    for wrap in (
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: {"$": "tuple", "v": [inner]},
        lambda inner: {"$": "dict", "v": [[1, inner]]},
        lambda inner: {"$": "slice", "v": [inner, 1, 1]},
        lambda inner: {"$": f"{HERE}:Loose", "f": {"x": inner}},
        lambda inner: {"$": "builtins:ValueError", "args": [inner]},
        lambda inner: {"$": "builtins:ValueError", "args": [], "cause": inner},
        lambda inner: {"$": "enumerate", "v": inner, "at": 0},
        lambda inner: {"$": "builtins:ExceptionGroup", "message": "", "exceptions": [inner]},
        lambda inner: {"$": "pattern", "v": inner, "flags": 0},
        lambda inner: {"$": "path", "v": inner},
        lambda inner: {"$": "fraction", "v": [inner, 1]},
        lambda inner: {"$": "timezone", "v": [0, 0, 0], "name": inner},
        lambda inner: {"$": "datetime", "v": "2024-01-01", "tz": inner},
        lambda inner: {"$": "gone:Error", "lineage": [], "args": [inner]},
        lambda inner: {"$": "gone:Error", "lineage": [], "message": "", "exceptions": [inner]},
    ):
        tree: Any = 1
        for _ in range(3000):
            tree = wrap(tree)
        with pytest.raises(DecodeError):
            decode(tree)
        for decoder in (Decoder(lenient_exceptions=True),):
            with pytest.raises(DecodeError):
                decoder.decode(tree)


def test_a_decoder_is_clean_after_a_failure():
    decoder = Decoder()
    first = decoder.decode([1])
    with pytest.raises(DecodeError):
        decoder.decode([[2], {"$": "tuple", "v": [[3], {"$": "nope"}]}])
    assert decoder.decode([4, {"$": "ref", "v": 0}])[1] is first


def test_reading_an_enum_asks_nothing_of_the_class():
    with pytest.raises(DecodeError):
        decode({"$": "re:RegexFlag", "value": 2**2000})
    with pytest.raises(DecodeError):
        decode({"$": "re:RegexFlag", "name": "__class__"})


def test_lenient_is_only_for_exceptions():
    with pytest.raises(DecodeError):
        Decoder(lenient_exceptions=True).decode({"$": "gone:User", "f": {}})
    back = Decoder(lenient_exceptions=True).decode({"$": "os:system", "lineage": [], "args": ["id"]})
    assert type(back) is WorkflowFailed
