"""An exception of a type that this process does not know can still be told of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from holdfast.codec import Decoder, decode, dumps, encode, loads
from holdfast.errors import DecodeError, WorkflowFailed


class Own(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"code {code}")
        self.detail = detail


class OwnGroup(ExceptionGroup):
    pass


def raised() -> BaseException:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Own(1, detail="d") from error
    except Own as error:
        error.add_note("a note")
        return error


def renamed(tree: Any) -> Any:
    return loads(dumps(tree).replace(f"{__name__}:".encode(), b"gone_module:"))


@dataclass
class Extra:
    items: list[Any]


def test_unknown_exceptions_can_be_told_of():
    error = raised()
    shared: list[Any] = [1]
    error.args = ("message", Extra([shared, [2]]), shared)
    error.more = shared
    error.kind = Extra
    tree = renamed(encode([error, shared, ExceptionGroup("g", [error, ValueError(shared)])]))
    with pytest.raises(DecodeError, match="gone_module:Own"):
        decode(tree)
    back, again, group = Decoder(lenient_exceptions=True).decode(tree)
    assert type(back) is WorkflowFailed
    assert back.original_type == "gone_module:Own"
    assert back.original_args == ("message", "Extra(items=[[1], [2]])", [1])
    assert back.original_args[2] is again
    assert "raise Own(1" in back.traceback_text
    assert "Own('message'" in str(back)
    assert type(back.__cause__) is KeyError
    assert group.exceptions[0] is back
    assert group.exceptions[1].args[0] is again
    known = Decoder(lenient_exceptions=True).decode(renamed(encode(ValueError(Extra([1]), shared, shared))))
    assert known.args == ("Extra(items=[1])", [1], [1])
    assert known.args[1] is known.args[2]
    with pytest.raises(DecodeError):
        Decoder(lenient_exceptions=True).decode(renamed(encode([Extra([])])))
    own = Decoder(lenient_exceptions=True).decode(renamed(encode(OwnGroup("own", [ValueError(1), error]))))
    assert type(own) is WorkflowFailed
    assert own.original_args[0] == "own"
