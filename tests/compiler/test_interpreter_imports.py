"""C code that imports by the `__import__` of its caller finds what it needs; the text of a program imports nothing."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.engine.harness import driven

from holdfast.codec import decode
from holdfast.engine.link import SAFE_BUILTINS
from holdfast.errors import ProgramError
from holdfast.ir.rules import ASKED_BY_INTERPRETER, BUILTINS
from holdfast.ir.text import program_hash
from holdfast.registry import Registry
from holdfast.workflow import Workflow, definition_of

WORDS = re.compile(r"(\w+) (\w+)")
NOON = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
LONG = 3


class Probe(Workflow):
    async def run(self) -> Any:
        asyncio, date, datetime, re, time, timedelta, ZoneInfo, LONG, NOON, WORDS  # noqa: B018
        return 0


def evaluated(source: str, *, key: str | None, before: str = "") -> Any:
    """What a program that returns `source` gives: signed and so vouched for by its key, or by nobody."""
    registry = Registry(signing_key=key)
    stored = registry.stored(definition_of(Probe))
    assert "| 0\n" in stored.text
    text = stored.text.replace("| 0\n", f"| {source}\n").replace("  var self\n", "  var p self\n")
    if before:
        line = next(line for line in text.split("\n") if line.startswith("  b0:"))
        body = before.replace("\n", "\n      | ")
        text = text.replace(f"{line}\n", f"{line}\n    do @1 | {body}\n", 1)
    signed = replace(stored, text=text, hash=program_hash(text), signature=registry._signature(text))
    value = decode(driven(Probe, code=registry.link(signed)).finish().tree)
    if isinstance(value, BaseException):
        raise value
    return value


@pytest.mark.parametrize("key", [None, "a key"], ids=["by nobody", "by a key"])
@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("NOON.strftime('%Y')", "2024"),
        ("len(datetime.now().strftime('%Y'))", 4),
        ("f'{NOON:%H:%M}'", "12:30"),
        ("format(date(2024, 2, 29), '%j')", "060"),
        ("'{:%d}'.format(NOON)", "29"),
        ("(lambda at: at.strftime('%m'))(NOON)", "02"),
        ("[f'{at:%y}' for at in [NOON]]", ["24"]),
        ("list(map(datetime.isoformat, [NOON]))", ["2024-02-29T12:30:00+00:00"]),
        ("datetime.strptime('2024-02-29', '%Y-%m-%d').day", 29),
        ("time.strptime('2024', '%Y').tm_year", 2024),
        ("time.strftime('%Y', NOON.timetuple())", "2024"),
        ("tuple(date(2024, 2, 29).isocalendar())", (2024, 9, 4)),
        ("NOON.timetuple().tm_yday", 60),
        ("NOON.utctimetuple().tm_hour", 12),
        ("NOON.ctime()", "Thu Feb 29 12:30:00 2024"),
        ("date.fromtimestamp(86400 * 40).isoformat()", "1970-02-10"),
        ("NOON.astimezone().timestamp() == NOON.timestamp()", True),
        ("NOON.astimezone(ZoneInfo('Europe/Oslo')).hour", 13),
        ("WORDS.sub(r'\\2 \\1', 'lamp red')", "red lamp"),
        ("WORDS.match('lamp red').expand(r'\\1!')", "lamp!"),
        ("(LONG ** 200000 // LONG ** 199990)", 59049),
        ("list[tuple[int, int]] == list[tuple[int, int]]", True),
    ],
)
def test_what_imports_on_its_own_means_what_it_means_in_python(source: str, value: object, key: str | None) -> None:
    assert evaluated(source, key=key) == value


@pytest.mark.parametrize("key", [None, "a key"], ids=["by nobody", "by a key"])
@pytest.mark.parametrize(
    ("source", "before"),
    [
        ("__import__('time')", ""),
        ("(lambda: __import__('os'))()", ""),
        ("__builtins__['__import__']('os')", ""),
        ("0", "import time"),
        ("0", "from time import sleep"),
        ("0", "def f():\n    import os"),
        ("0", "def f():\n    global __import__"),
        ("0", "def f():\n    global __builtins__"),
        ("0", "try:\n    1 / 0\nexcept ValueError as __builtins__:\n    pass"),
        ("0", "match 1:\n    case __import__:\n        pass"),
        ("0", "def __import__(name): pass"),
        ("print.__self__.__import__('os')", ""),
    ],
)
def test_a_program_imports_nothing_by_its_text(source: str, before: str, key: str | None) -> None:
    with pytest.raises(ProgramError):
        evaluated(source, key=key, before=before)


@pytest.mark.parametrize("name", ["os", "sys", "subprocess", "importlib", "time.sleep", "json.tool", "_strptime.os"])
def test_the_interpreter_is_given_nothing_beyond_its_list(name: str) -> None:
    assert "__import__" not in BUILTINS
    with pytest.raises(ImportError, match="closed to workflow code"):
        SAFE_BUILTINS["__import__"](name, {}, {}, ["__doc__"], 0)


@pytest.mark.parametrize("name", sorted(ASKED_BY_INTERPRETER))
def test_no_module_is_handed_out(name: str) -> None:
    pytest.importorskip(name)
    assert SAFE_BUILTINS["__import__"](name, {}, {}, ["__doc__"], 0) is None
