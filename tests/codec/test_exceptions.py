"""Exceptions keep type, arguments, attributes, notes, links and traceback; recording one never fails."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass
from typing import Any

import attrs
import pytest
from pydantic import BaseModel, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from holdfast.codec import (
    TRACEBACK,
    decode,
    describe,
    describe_error,
    dumps,
    encode,
    encode_exception,
    lineage,
    loads,
)
from holdfast.errors import ActionTimeout, DecodeError, EncodeError, WorkflowFailed


def through(value: Any) -> Any:
    return decode(loads(dumps(encode(value))))


class Own(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.detail = detail


class OwnOS(OSError):
    def __init__(self, a: int, b: str, c: list[int]) -> None:
        super().__init__(a, b)
        self.c = c


class OwnGroup(ExceptionGroup):
    pass


class OwnUnicode(UnicodeDecodeError):
    pass


@dataclass
class DataError(Exception):
    x: int


@attrs.define
class AttrError(Exception):
    x: int


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    @property
    def args(self) -> Any:
        raise RuntimeError


EXCEPTIONS = [
    ValueError("x", 1, [2]), Own(3, detail="d"), KeyError("k"), OSError(2, "No such file", "f"), OSError(),
    OSError("text"),
    FileNotFoundError(2, "x", "a", None, "b"), OwnOS(1, "b", [3]), BlockingIOError(1, "x", 5),
    StopIteration(5),
    SystemExit(3), ImportError("m", name="n", path="p"), NameError("m", name="n"), AttributeError("m",
    name="n", obj=object()),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), UnicodeEncodeError("ascii", "é", 0, 1, "bad"),
    UnicodeTranslateError("é", 0, 1, "bad"), OwnUnicode("utf-8", b"\xff", 0, 1, "bad"), UnicodeError("x"),
    SyntaxError("bad", ("f.py", 1, 2, "text", 1, 3)), asyncio.CancelledError(), KeyboardInterrupt(),
    DataError(4), AttrError(5),
    ActionTimeout("slow"), EncodeError("m", path=".x", kind="k"), WorkflowFailed("m", original_type="a:B"),
    ExceptionGroup("g", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]), OwnGroup("own",
    [TypeError("t")]),
    BaseExceptionGroup("b", [KeyboardInterrupt()]), pickle.PicklingError("p"), TimeoutError(),
    RecursionError("r"),
]  # fmt: skip
NATIVE = (
    "errno",
    "strerror",
    "filename",
    "filename2",
    "value",
    "code",
    "name",
    "path",
    "msg",
    "object",
    "start",
    "end",
)


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_an_exception_comes_back_as_it_was(error):
    for back in (through(error), decode(loads(dumps(encode_exception(error))))):
        assert type(back) is type(error)
        assert str(back) == str(error)
        assert repr(back) == repr(error)
        if not isinstance(error, BaseExceptionGroup):
            assert back.args == error.args
        assert vars(back) == vars(error)
        for name in NATIVE:
            assert getattr(back, name, None) == getattr(error, name, None)
        assert isinstance(describe(encode(error)), str)


def test_arguments_of_builtins_are_kept_beyond_args():
    back = through(OSError(2, "No such file", "f"))
    assert type(back) is FileNotFoundError
    assert back.filename == "f"
    assert through(BlockingIOError(1, "x", 5)).characters_written == 5


def raised() -> BaseException:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Own(1, detail="d") from error
    except Own as error:
        error.add_note("a note")
        return error


def test_causes_contexts_and_notes():
    error = raised()
    back = through(error)
    assert type(back.__cause__) is KeyError
    assert back.__context__ is back.__cause__
    assert back.__suppress_context__
    assert back.__notes__ == ["a note"]
    try:
        try:
            raise KeyError
        except KeyError:
            raise ValueError  # noqa: B904
    except ValueError as caught:
        error = caught
    back = through(error)
    assert back.__cause__ is None
    assert type(back.__context__) is KeyError
    assert not back.__suppress_context__


def test_the_traceback_is_text_that_survives_any_number_of_rounds():
    error = raised()
    back = through(error)
    text = getattr(back, TRACEBACK)
    assert text.startswith("Traceback (most recent call last):")
    assert "raise Own(1" in text
    assert "code 1" in text
    assert back.__traceback__ is None
    again = None
    try:
        raise back
    except Own as caught:
        again = through(caught)
    assert getattr(again, TRACEBACK) == text
    assert TRACEBACK not in encode(again).get("f", {})


def test_identity_and_cycles_of_exceptions():
    error = ValueError()
    error.me = [error]
    assert (back := through(error)).me[0] is back
    first, second = ValueError(1), ValueError(2)
    first.__context__ = second
    second.__context__ = first
    back = through(first)
    assert back.__context__.__context__ is back
    cut = decode(encode_exception(first))
    assert cut.__context__.args == (2,)
    assert cut.__context__.__context__ is None


def test_a_member_whose_context_is_its_group():
    member = ValueError(1)
    group = ExceptionGroup("g", [member])
    member.__context__ = group
    back = through(group)
    assert back.exceptions[0].__context__ is None


def test_long_chains_are_cut():
    error = ValueError(0)
    for n in range(1, 400):
        following = ValueError(n)
        following.__context__ = error
        error = following
    for back in (through(error), decode(encode_exception(error))):
        length = 0
        while back is not None:
            back, length = back.__context__, length + 1
        assert length == 21


def test_the_lineage_can_be_read_without_the_class():
    assert lineage(encode_exception(Own(1, detail="d"))) == [
        f"{__name__}:Own", "builtins:Exception", "builtins:BaseException",
    ]  # fmt: skip
    assert lineage([1]) == []
    assert lineage({"lineage": 3}) == []


def test_recording_an_exception_never_fails():
    class Local(Exception):
        pass

    class Unprintable:
        def __repr__(self) -> str:
            raise RuntimeError

    loop = ValueError()
    loop.args = ((loop,),)
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    named = Local(object(), Unprintable(), "x" * 5000, {"lock": print})
    named.attribute = lambda: None
    named.good = [1]
    for error in (
        named,
        Nasty("x"),
        loop,
        ValueError(deep),
        ValueError("\ud800"),
        ExceptionGroup("g", [named, Nasty()]),
    ):
        tree = loads(dumps(encode_exception(error)))
        assert tree["$"].endswith(type(error).__qualname__)
        assert isinstance(describe(tree), str)
    tree = encode_exception(named)
    assert tree["f"]["good"] == [1]
    assert "<lambda>" in tree["f"]["attribute"]
    assert tree["args"][1] == "<unprintable test_recording_an_exception_never_fails.<locals>.Unprintable>"
    assert tree["args"][2] == "x" * 5000
    assert len(encode_exception(Local(type("Long", (), {"__repr__": lambda self: "y" * 5000})()))["args"][0]) == 1000
    with pytest.raises(DecodeError):
        decode(tree)


def test_what_is_refused_leaves_no_hole_in_the_numbers():
    shared = [1]
    error = ValueError([shared, print], shared)
    error.more = shared
    back = decode(encode_exception(error))
    assert back.args[1] is back.more


class Order(BaseModel):
    number: int
    parts: list[Order] = []

    @field_validator("number")
    @classmethod
    def _known(cls, number: int) -> int:
        if number == 1:
            raise ValueError("one is taken")
        if number == 2:
            raise PydanticCustomError("odd", "not {this} and {{that}}", {"this": 2})
        assert number != 3, "three is wrong"
        return number


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"number": "x"},
        {"number": 1},
        {"number": 2},
        {"number": 3},
        {"number": None, "parts": [{"number": 1}, {"number": {"deep": [1]}}, 7]},
    ],
)
def test_a_validation_error_of_pydantic_comes_back_whole(given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate(given)
    error = caught.value
    error.add_note("noted")
    error.__cause__ = KeyError("why")
    back = through([error, error])
    assert back[0] is back[1]
    assert type(back[0]) is ValidationError
    assert (str(back[0]), back[0].title, back[0].error_count()) == (str(error), error.title, error.error_count())
    plainly = [{**each, "ctx": repr(each.get("ctx"))} for each in back[0].errors()]
    assert plainly == [{**each, "ctx": repr(each.get("ctx"))} for each in error.errors()]
    assert back[0].json() == error.json()
    assert "noted" in back[0].__notes__
    assert repr(back[0].__cause__) == "KeyError('why')"
    assert str(through(back[0])) == str(error)


def test_what_a_validation_error_was_given_need_not_be_saved() -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"number": lambda: 1})
    assert caught.value.errors()[0]["type"] == through(encode_and_soften(caught.value)).errors()[0]["type"]


def encode_and_soften(error: Exception) -> Exception:
    back = decode(loads(dumps(encode_exception(error))))
    assert isinstance(back, Exception)
    return back


def test_a_validation_error_is_told_in_a_line() -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"number": None, "parts": [{"number": "x"}]})
    assert describe_error(encode(caught.value)) == (
        "ValidationError: 2 validation errors for Order: number: Input should be a valid integer; "
        "parts.0.number: Input should be a valid integer, unable to parse string as an integer"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        ["t", "python"],
        ["t", "python", False, 3],
        ["t", "other", False],
        [3, "python", False],
        ["t", "python", False, ["missing", None, 1]],
        ["t", "python", False, ["missing", 5, 1, None, "m"]],
        ["t", "python", False, [{"$": "set", "v": []}, None, 1, None, "m"]],
        ["t", "python", False, ["value_error", None, 1, None, "m"]],
        ["t", "python", False, ["own", None, 1, [4], 5]],
    ],
)
def test_a_damaged_validation_error_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"number": "x"})
    tree: Any = encode(caught.value)
    with pytest.raises(DecodeError):
        decode({**tree, "wrong": wrong})
