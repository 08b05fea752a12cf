"""Where an exception was raised is kept as text, told once, and bounded."""

from __future__ import annotations

import traceback
from typing import Any

from holdfast.codec import (
    decode,
    dumps,
    encode,
    encode_exception,
    forget_last_raise,
    loads,
    remember_raise,
    show_remote_tracebacks,
    traceback_in,
    traceback_of,
)
from holdfast.codec.tracebacks import LONGEST


def raised(error: BaseException, times: int = 0) -> BaseException:
    try:
        if times:
            raised(error, times - 1)
        raise error
    except BaseException as caught:
        return caught


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def through(value: Any) -> Any:
    return decode(loads(dumps(encode(value))))


def test_the_text_stays_when_the_frames_go():
    error = raised(ValueError("no"))
    text = traceback_of(error)
    remember_raise(error, text)
    assert error.__traceback__ is None
    assert traceback_of(error) == text
    assert "in raised" in text
    assert text.endswith("ValueError: no\n")
    assert traceback_of(through(error)) == text
    assert traceback_of(ValueError("never raised")) == ""


def test_an_object_that_is_raised_again_in_this_process_tells_of_its_last_raise():
    error = raised(ValueError("no"))
    remember_raise(error, traceback_of(error))
    try:
        raise error
    except ValueError:
        forget_last_raise(error)
    assert "test_an_object_that_is_raised_again" in traceback_of(error)
    assert "in raised" not in traceback_of(error)


def test_an_exception_from_elsewhere_tells_of_its_first_raise():
    error = through(raised(ValueError("no")))
    try:
        raise error
    except ValueError:
        forget_last_raise(error)
    assert "in raised" in traceback_of(error)


def test_it_is_shown_once_for_each_exception_of_a_chain_and_never_stored_as_a_note():
    outer = raised(KeyError("outer"))
    outer.__cause__ = raised(ValueError("inner"))
    back = through(outer)
    back.add_note("mine")
    for _ in range(2):
        show_remote_tracebacks(back, "Over there")
        assert shown(back).count("Over there:") == 2
    assert back.__notes__[0] == "mine"
    again = through(back)
    assert again.__notes__ == ["mine"]
    assert not hasattr(again.__cause__, "__notes__")
    assert traceback_of(again) == traceback_of(back)
    assert dumps(encode(back)).count(b"in raised") == 2


def test_members_of_a_group_show_theirs():
    group = through(ExceptionGroup("g", [raised(ValueError("a")), ValueError("never raised")]))
    show_remote_tracebacks(group, "Over there")
    assert shown(group).count("Over there:") == 1
    assert not hasattr(group.exceptions[1], "__notes__")


def test_notes_that_are_no_list_are_left_alone():
    error = through(raised(ValueError("a")))
    error.__notes__ = "odd"
    show_remote_tracebacks(error, "Over there")
    assert error.__notes__ == "odd"


def test_the_notes_of_an_exception_stay_the_list_they_are():
    error = ValueError("a")
    error.__notes__ = notes = ["x"]
    back, same = through([error, notes])
    assert back.__notes__ is same


def test_the_text_of_a_whole_chain_begins_where_it_began_and_is_bounded():
    outer = raised(KeyError("outer"))
    outer.__cause__ = raised(ValueError("inner"))
    text = traceback_in(encode_exception(outer))
    assert text.index("ValueError: inner") < text.index("KeyError: 'outer'")
    assert traceback_in(encode_exception(ValueError("never raised"))) == ""
    long = raised(ValueError("x" * 50_000))
    assert len(traceback_of(long)) <= LONGEST + 4
    long.__cause__ = raised(ValueError("y" * 50_000))
    assert len(traceback_in(encode_exception(long))) <= LONGEST + 4
    assert traceback_in([1]) == traceback_in({"traceback": 3, "cause": "x", "exceptions": {}}) == ""
