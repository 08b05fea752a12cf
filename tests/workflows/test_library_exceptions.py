"""Exceptions of libraries that are closed otherwise are caught, asked for and raised by name, as in plain Python."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import subprocess
import sys
from dataclasses import replace
from sqlite3 import IntegrityError
from types import ModuleType
from typing import Any

import asyncpg
import httpx
import pytest

from holdfast import Workflow, action, workflow
from holdfast.errors import ProgramError
from holdfast.ir.text import program_hash
from holdfast.registry import Registry
from holdfast.workflow import definition_of

HttpError = httpx.HTTPError
BOTH = (httpx.HTTPError, sqlite3.OperationalError)


class Known:
    dup = asyncpg.UniqueViolationError


KINDS: dict[str, Any] = {
    "duplicate": lambda: sqlite3.IntegrityError("twice"),
    "busy": lambda: sqlite3.OperationalError("busy"),
    "http": lambda: httpx.ConnectError("no way"),
    "unique": lambda: asyncpg.UniqueViolationError("unique"),
    "process": lambda: subprocess.CalledProcessError(3, ["false"]),
    "address": lambda: socket.gaierror(5, "nobody"),
    "tls": lambda: ssl.SSLError(1, "no"),
    "other": lambda: KeyError("other"),
}


@action(name="library-exceptions:fail")
async def fail(kind: str) -> None:
    raise KINDS[kind]()


@workflow
class Catching(Workflow):
    async def caught(self, kind: str) -> Any:
        expected = httpx.TimeoutException
        try:
            await fail(kind)
        except expected:
            return "timeout"
        except IntegrityError as error:
            return ["duplicate", str(error), isinstance(error, sqlite3.Error)]
        except (sqlite3.OperationalError, socket.gaierror) as error:
            return ["busy or address", isinstance(error, sqlite3.OperationalError)]
        except HttpError as error:
            match error:
                case httpx.ConnectError():
                    return ["http", isinstance(error, BOTH)]
        except subprocess.CalledProcessError as error:
            return ["process", error.returncode]
        except Known.dup:
            return "unique"
        except ssl.SSLError as error:
            return [kind for kind in (ssl.SSLError, KeyError) if isinstance(error, kind)] == [ssl.SSLError]

    async def run(self) -> Any:
        found: dict[str, Any] = {}
        for kind in ("duplicate", "busy", "http", "unique", "process", "address", "tls"):
            found[kind] = await self.caught(kind)
        try:
            await self.caught("other")
        except KeyError as error:
            raise sqlite3.ProgrammingError(f"never {found}") from error


EXPECTED = {
    "duplicate": ["duplicate", "twice", True],
    "busy": ["busy or address", True],
    "http": ["http", True],
    "unique": "unique",
    "process": ["process", 3],
    "address": ["busy or address", False],
    "tls": True,
}


async def test_exceptions_of_libraries_are_caught_and_raised_by_name(app):
    with pytest.raises(sqlite3.ProgrammingError) as caught:
        await Catching().run()
    assert str(caught.value) == f"never {EXPECTED}"
    assert isinstance(caught.value.__cause__, KeyError)


def reread(old: str = "", new: str = "") -> Any:
    """The program as a worker reads it that has not compiled it: every name is looked up."""
    stored = Registry().stored(definition_of(Catching))
    assert old in stored.text
    text = (stored.text.replace(old, new) if old else stored.text).replace("'timeout'", "'time out'")
    return Registry().link(replace(stored, text=text, hash=program_hash(text)))


def test_a_stored_program_that_names_exceptions_is_read_back():
    linked = reread()
    kinds = {ref.target for refs in linked.program.refs.values() for ref in refs.values() if ref.kind == "exception"}
    assert kinds >= {"sqlite3:IntegrityError", "httpx:HTTPError", "subprocess:CalledProcessError", "ssl:SSLError"}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("subprocess:Popen", "no exception"),
        ("builtins:eval", "not exist here"),
        ("subprocess:run", "not exist here"),
        ("os:system", "not exist here"),
        ("sqlite3:connect", "not exist here"),
        ("subprocess:CalledProcessError.__init__", "not exist here"),
        ("library_exceptions_open:sqlite3", "not exist here"),
        ("library_exceptions_open:Error", "not exist here"),
        ("not_loaded_anywhere:Error", "import 'not_loaded_anywhere'"),
        ("sqlite3", "not exist here"),
    ],
)
def test_a_stored_program_gets_nothing_but_exceptions_that_way(
    target: str, words: str, monkeypatch: pytest.MonkeyPatch
):
    module: Any = ModuleType("library_exceptions_open")
    module.sqlite3, module.Error = sqlite3, sqlite3.Error
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(ProgramError, match=words):
        reread("exception httpx:HTTPError", f"exception {target}")
