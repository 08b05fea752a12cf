"""Every refusal has its code, line, caret and way out; several come at once; nothing is dropped in silence."""

from __future__ import annotations

import asyncio
import builtins
import decimal
import functools
import itertools
import linecache
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from holdfast.compiler import compile_workflow
from holdfast.compiler.diagnostics import REASONS, Problem
from holdfast.engine import DurableAsyncio
from holdfast.errors import CompileError
from holdfast.ir.rules import ASYNC_NAMES, BUILTINS
from holdfast.registry import resolve
from holdfast.task import action
from holdfast.workflow import WORKFLOWS, Workflow, workflow

_serial = itertools.count()


@action(name="refusal-tests:act")
async def act(*args: Any) -> Any:
    return args


class Closed:
    """Can be neither saved nor imported under its name."""

    def __reduce__(self) -> Any:
        raise TypeError("closed")


VARIABLE: ContextVar[int] = ContextVar("refused", default=0)

FOREIGN: dict[str, Any] = {}
exec(
    compile(
        "import functools\nasync def foreign(): pass\ndef library(f):\n    @functools.wraps(f)\n"
        "    async def inner(*a):\n        return await f(*a)\n    return inner\n",
        "/lib/site-packages/foreign.py",
        "exec",
    ),
    FOREIGN,
)


def a_module(text: str, **names: Any) -> types.ModuleType:
    """A module of this text, whose source can be read."""
    name = f"refused_program_{next(_serial)}"
    file = f"/refused/{name}.py"
    module = types.ModuleType(name)
    module.__file__ = file
    module.__dict__.update(Workflow=Workflow, act=act, asyncio=asyncio, time=time, socket=socket, **names)
    module.__dict__.update(VARIABLE=VARIABLE, decimal=decimal)
    module.__dict__.update(sqlite3=sqlite3, subprocess=subprocess, foreign=FOREIGN["foreign"])
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    exec(compile(text, file, "exec"), module.__dict__)
    return module


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("refused_program_")]:
        del sys.modules[name]
    for key in [key for key, cls in WORKFLOWS.items() if cls.__module__.startswith("refused_program_")]:
        del WORKFLOWS[key]


def run_of(body: str, before: str = "") -> str:
    """A module with one workflow class `W`, whose `run` has this body."""
    lines = "\n".join("        " + line for line in body.split("\n"))
    return f"{before}class W(Workflow):\n    async def run(self, x=1):\n{lines}\n"


def problems_of(text: str, **names: Any) -> tuple[Problem, ...]:
    module = a_module(text, **names)
    with pytest.raises(CompileError) as caught:
        compile_workflow(module.W, name="w", base=Workflow)
    problems: Any = caught.value.problems
    return problems


# code: (body of run, what the caret stands under, the line within the body, words of the hint)
REFUSED: dict[str, list[tuple[str, str, int, str]]] = {
    "HF002": [("await act(1)\nreturn missing", "missing", 2, "define or import")],
    "HF003": [("yield 1", "yield 1", 1, "return it"), ("x = [(yield)]", "yield", 1, "return it")],
    "HF004": [("await foreign()", "foreign()", 1, "inside an @action")],
    "HF005": [
        ("time.sleep(1)", "time.sleep(1)", 1, "await asyncio.sleep"),
        ("socket.create_connection(x)", "socket.create_connection(x)", 1, "@action"),
        ("subprocess.run([])", "subprocess.run([])", 1, "@action"),
        ("return x.read_text()", "x.read_text()", 1, "make it an @action"),
        ("(x / 'a').write_bytes(b'')", "(x / 'a').write_bytes(b'')", 1, "make it an @action"),
        ("c = sqlite3.connect(x)", "sqlite3.connect(x)", 1, "@action"),
    ],
    "HF006": [("with x:\n    await act(1)", "x", 1, "try/finally")],
    "HF007": [("async with asyncio.Lock():\n    pass", "asyncio.Lock()", 1, "inside one @action")],
    "HF008": [("async for y in act(1):\n    pass", "act(1)", 1, "return a list")],
    "HF009": [
        ("async def inner():\n    pass", "async def inner():", 1, "a method or a module-level function"),
        ("class Inner:\n    pass", "class Inner:", 1, "module level"),
    ],
    "HF010": [
        ("global y\ny = 1", "global y", 1, "keep it in `self`"),
        ("VARIABLE.set(x)", "VARIABLE.set(x)", 1, "keep the value in `self`"),
        ("t = x\nVARIABLE.reset(t)", "VARIABLE.reset(t)", 2, "pass it on"),
        ("decimal.setcontext(x)", "decimal.setcontext(x)", 1, "an action may set it"),
    ],
    "HF011": [("def f():\n    return 1\nawait act(1)\nreturn f()", "def f():", 1, "module-level function")],
    "HF012": [
        ("return sum(await act(i) for i in x)", "(await act(i) for i in x)", 1, "list comprehension"),
        ("return sum(i for i in x if await act(i))", "(i for i in x if await act(i))", 1, "list comprehension"),
        (
            "return sum(i for j in x for i in await act(j))",
            "(i for j in x for i in await act(j))",
            1,
            "list comprehension",
        ),
        ("return sum(i async for i in await act(x))", "(i async for i in await act(x))", 1, "list comprehension"),
        ("for i in (j for j in x):\n    await act(i)", "(j for j in x)", 1, "list comprehension"),
    ],
    "HF013": [("return x.__dict__", "x.__dict__", 1, "helper function")],
    "HF014": [("_hf1 = 2", "_hf1", 1, "another name")],
    "HF015": [
        ("import os", "import os", 1, "top of the module"),
        ("from os import path", "from os import path", 1, "top of the module"),
    ],
    "HF017": [
        ("q = asyncio.Queue()", "asyncio.Queue", 1, "self.receive"),
        ("loop = asyncio.get_running_loop()", "asyncio.get_running_loop", 1, "gather, wait"),
    ],
    "HF018": [
        ("open(x)", "open", 1, "@action"),
        ("eval('1')", "eval", 1, "expression"),
        ("vars(x)", "vars", 1, "helper"),
    ],
    "HF021": [
        ("s = super()", "super", 1, "name the class"),
        ("super().missing()", "super", 1, "name the class"),
        ("super(W, self).run()", "super", 1, "name the class"),
    ],
    "HF022": [("(a, b[await act(1)]) = x", "(a, b[await act(1)])", 1, "variable of its own")],
    "HF024": [("act(1)\nreturn 2", "act(1)", 1, "await act(1)")],
}

CASES = [(code, *case) for code, cases in REFUSED.items() for case in cases]


@pytest.mark.parametrize(("code", "body", "under", "line", "hint"), CASES)
def test_what_cannot_be_kept_is_refused_with_its_place_and_a_way_out(
    code: str, body: str, under: str, line: int, hint: str
) -> None:
    found = [p for p in problems_of(run_of(body)) if p.code == code]
    assert found, f"{code} is not among what was refused"
    problem = found[0]
    assert problem.line == line + 2
    assert hint in problem.hint
    shown, caret = str(problem).split("\n")[1:3]
    start, width = len(caret) - len(caret.lstrip()), caret.count("^")
    assert shown[start : start + width] == under
    assert f"{problem.file}:{problem.line}:{problem.column}: {code} " in str(problem)
    assert f"why: {REASONS[code]}" in str(problem)


DECORATORS = (
    "import functools\n\n"
    "def sync(f):\n    @functools.wraps(f)\n    def inner(*a):\n        return f(*a)\n    return inner\n\n"
    "def bare(f):\n    async def inner(*a):\n        return await f(*a)\n    return inner\n\n"
)


@pytest.mark.parametrize(
    ("decorator", "code", "words"),
    [
        ("sync", "HF004", "not async"),
        ("functools.lru_cache", "HF004", "not async"),
        ("library", "HF004", "an installed library"),
        ("lambda f: bare(library(f))", "HF004", "an installed library"),
    ],
)
def test_a_decorator_that_cannot_be_kept_is_refused(decorator: str, code: str, words: str) -> None:
    helper = f"{DECORATORS}decorate = {decorator}\n\n@decorate\nasync def helper(x):\n    return await act(x)\n\n"
    method = "\n    @decorate\n    async def step(self, x):\n        return await act(x)\n"
    for text in (
        run_of("return await helper(1)", helper),
        run_of("return await self.step(1)", helper) + method,
        run_of("return await asyncio.gather(*map(helper, [1, 2]))", helper),
    ):
        (problem,) = problems_of(text, library=FOREIGN["library"])
        assert problem.code == code
        assert words in problem.message


@pytest.mark.parametrize(
    ("decorator", "code", "words"),
    [
        ("sync", "HF020", "not async"),
        ("bare", "HF020", "no parameter for"),
        ("library", "HF004", "an installed library"),
    ],
)
def test_a_decorator_of_run_that_cannot_be_kept_is_refused(decorator: str, code: str, words: str) -> None:
    text = f"{DECORATORS}class W(Workflow):\n    @{decorator}\n    async def run(self):\n        return 1\n"
    (problem,) = problems_of(text, library=FOREIGN["library"])
    assert problem.code == code
    assert words in problem.message


@pytest.mark.parametrize("call", ["self.make(1)", "W.make(1)", "Base.make(1)"])
def test_an_async_class_method_is_refused(call: str) -> None:
    base = "class Base(Workflow):\n    @classmethod\n    async def make(cls, x):\n        return x\n\n"
    text = f"{base}class W(Base):\n    async def run(self):\n        return await {call}\n"
    (problem,) = problems_of(text)
    assert (problem.code, problem.line) == ("HF004", 8)
    assert "async class method" in problem.message
    assert "a static method" in problem.hint


SHARED = (
    "import os\n\nclass Thing:\n    z = 1\n    seen = []\n\n"
    "OBJ, TABLE, NAMES = Thing(), {}, []\n\n"
    "class Base(Workflow):\n    items = []\n    table = {}\n    own = []\n    thing = Thing()\n    limit = 3\n\n"
    "    def __init__(self):\n        self.own = []\n        self.mine = {}\n        self.__priv = []\n\n"
    "    __priv = []\n\n    async def private(self, x):\n        self.__priv.append(x)\n\n"
    "    @property\n    def sized(self):\n        return self.mine\n\n"
    "class W(Base):\n    async def run(self, x=1):\n"
)


@pytest.mark.parametrize(
    ("line", "name", "hint"),
    [
        ("self.items.append(x)", "self.items", "assign it in `__init__`"),
        ("self.items += [x]", "self.items", "assign it in `__init__`"),
        ("self.items[0] = x", "self.items", "assign it in `__init__`"),
        ("del self.items[0]", "self.items", "assign it in `__init__`"),
        ("self.table[x] = await act(x)", "self.table", "assign it in `__init__`"),
        ("self.table[x] += 1", "self.table", "assign it in `__init__`"),
        ("self.table[x].name = 1", "self.table", "assign it in `__init__`"),
        ("self.thing.z = 1", "self.thing", "assign it in `__init__`"),
        ("f = lambda: self.items.pop()", "self.items", "assign it in `__init__`"),
        ("OBJ.z = 3", "OBJ", "in `self` or a variable"),
        ("OBJ.z += await act(3)", "OBJ", "in `self` or a variable"),
        ("W.limit = 3", "W", "in `self` or a variable"),
        ("W.items.append(x)", "W.items", "in `self` or a variable"),
        ("Thing.seen.append(x)", "Thing.seen", "in `self` or a variable"),
        ("TABLE[x] = 1", "TABLE", "in `self` or a variable"),
        ("del TABLE[x]", "TABLE", "in `self` or a variable"),
        ("for TABLE['a'] in [x]:\n            await act(1)", "TABLE", "in `self` or a variable"),
        ("NAMES.append(x)", "NAMES", "in `self` or a variable"),
        ("os.environ['A'] = 'b'", "os.environ", "in `self` or a variable"),
        ("os.environ.update(A='b')", "os.environ", "in `self` or a variable"),
    ],
)
def test_a_change_of_what_instances_share_is_refused(line: str, name: str, hint: str) -> None:
    (problem,) = problems_of(f"{SHARED}        {line}\n        return x\n")
    assert (problem.code, problem.line) == ("HF010", SHARED.count("\n") + 1)
    assert f"`{name}`" in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    "line",
    [
        "self.own.append(x)",
        "self.own += [x]",
        "self.mine[x] = 1",
        "self.sized[x] = 1",
        "self.items = [*self.items, x]",
        "self.limit += 1",
        "self.later = x",
        "x = [self.items, self.limit, TABLE.get(x), OBJ.z, os.environ.get('A')]",
        "items = list(self.items)\n        items.append(x)",
        "TABLE = {}\n        TABLE[x] = 1",
        "x = [NAMES.pop() for NAMES in [[1]]]",
        "self = Thing()\n        self.items.append(x)",
        "Thing().seen.append(x)",
        "await self.private(x)",
        "match {'a': 1}:\n            case {**TABLE}:\n                TABLE[x] = 1",
    ],
)
def test_what_is_read_or_the_instances_own_may_be_used(line: str) -> None:
    assert compile_workflow(
        a_module(f"{SHARED}        {line}\n        return x\n").W, name="w", base=Workflow
    ).functions


def test_whoever_gets_the_object_may_have_assigned_its_attributes() -> None:
    text = (
        "def reset(flow):\n    flow.items = []\n\n"
        "class W(Workflow):\n    items = []\n\n    def __init__(self):\n        reset(self)\n\n"
        "    async def run(self, x=1):\n        self.items.append(x)\n"
    )
    assert compile_workflow(a_module(text).W, name="w", base=Workflow).functions


@pytest.mark.parametrize(
    "line", ["nonlocal c\n        c += x", "def f():\n            nonlocal c\n            c += x\n        f()"]
)
def test_a_variable_of_the_function_around_is_not_assigned(line: str) -> None:
    factory = f"def make():\n    c = 0\n    async def count(x):\n        {line}\n        return c\n    return count\n\n"
    (problem,) = problems_of(run_of("return await count(1)", f"{factory}count = make()\n\n"))
    assert problem.code == "HF010"
    assert "`nonlocal c`" in problem.message
    assert "in `self`" in problem.hint


FOREIGNERS = (
    "class Api:\n    async def get(self, x):\n        return x\n\n    @classmethod\n    async def put(cls, x):\n"
    "        return x\n\nAPI = Api()\nbound = API.get\n\nasync def helper(x):\n    return x\n\n"
    "with_one = functools.partial(functools.partial(helper), 1)\n\ndef counted(n):\n    yield n\n\n"
    "async def pages():\n    yield 1\n\n"
)


@pytest.mark.parametrize(
    ("body", "code", "under", "hint"),
    [
        ("return await API.get(1)", "HF004", "API.get(1)", "inside an @action"),
        ("return await Api.put(1)", "HF004", "Api.put(1)", "inside an @action"),
        ("return await bound(1)", "HF004", "bound(1)", "inside an @action"),
        ("return await with_one()", "HF004", "with_one", "an `async def` that calls it so"),
        ("return await asyncio.gather(with_one())", "HF004", "with_one", "an `async def` that calls it so"),
        ("return await act", "HF004", "act", "await act(…)"),
        ("return await helper", "HF004", "helper", "await helper(…)"),
        ("return await self.run", "HF004", "self.run", "await self.run(…)"),
        ("return [x async for x in pages()]", "HF008", "pages()", "return a list"),
        ("for y in map(str, [1]):\n    await act(y)", "HF012", "map(str, [1])", "list(map(…))"),
        ("for y in counted(3):\n    await act(y)", "HF012", "counted(3)", "list(counted(…))"),
        ("return [await act(y) for y in itertools.chain([1], [2])]", "HF012", "itertools.chain([1], [2])", "list("),
        ("return {await act(y) for _, y in zip(x, filter(x, x))}", "HF012", "zip(x, filter(x, x))", "list(filter(…))"),
    ],
)
def test_what_is_known_to_be_no_durable_call_is_refused(body: str, code: str, under: str, hint: str) -> None:
    (problem,) = problems_of(run_of(body, FOREIGNERS), functools=functools, itertools=itertools)
    assert problem.code == code
    assert hint in problem.hint
    shown, caret = str(problem).split("\n")[1:3]
    start, width = len(caret) - len(caret.lstrip()), caret.count("^")
    assert shown[start : start + width] == under


def test_a_loop_that_does_not_wait_may_go_over_anything() -> None:
    body = (
        "found = [y for y in map(str, [await act(1)])]\nfor y in filter(None, found):\n    found = [y]\n"
        "other = [y for y in found if y in set(map(str, found))]\nawait act(found)\n"
        "for y in filter(None, other):\n    if y:\n        return await act(y)\n"
        "for y in map(str, other):\n    await act(y)\n    break"
    )
    assert compile_workflow(a_module(run_of(body)).W, name="w", base=Workflow).functions


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ("acc=[]", "acc.append(x)"),
        ("*, seen={}", "seen[x] = 1"),
        ("acc=[]", "acc += [x]"),
    ],
)
def test_a_default_is_not_changed(params: str, line: str) -> None:
    helper = f"async def helper(x, {params}):\n    {line}\n    return await act(x)\n\n"
    (problem,) = problems_of(run_of("return await helper(x)", helper))
    assert problem.code == "HF010"
    assert "is a default, one for all calls" in problem.message
    assert "let the default be None" in problem.hint


@pytest.mark.parametrize(
    "lines",
    ["return list(acc)", "acc = acc or []\n    acc.append(x)\n    return acc", "other = [*acc]\n    other.append(1)"],
)
def test_a_default_that_is_read_or_replaced_is_fine(lines: str) -> None:
    helper = f"async def helper(x, acc=[]):\n    {lines}\n\n"
    assert compile_workflow(a_module(run_of("return await helper(x)", helper)).W, name="w", base=Workflow).functions


def test_all_open_builtins_may_be_named_and_given_other_names() -> None:
    names = sorted(BUILTINS)
    text = run_of(f"x = [{', '.join(names)}]\nreturn [{', '.join(f'_{name}' for name in names)}]")
    again = "".join(f"_{name} = {name}\n" for name in names)
    program = compile_workflow(a_module(again + text).W, name="w", base=Workflow)
    (space,) = program.refs
    assert {ref.target for ref in program.refs[space].values() if ref.kind == "builtin"} == {
        name for name in names if callable(getattr(builtins, name))
    }


def test_a_run_without_self_is_refused() -> None:
    (problem,) = problems_of("class W(Workflow):\n    async def run():\n        return 1\n")
    assert (problem.code, problem.line) == ("HF020", 2)
    assert "async def run(self, …)" in problem.hint


def test_source_that_cannot_be_read_is_refused() -> None:
    module = types.ModuleType("refused_program_without_file")
    sys.modules[module.__name__] = module
    module.__dict__["Workflow"] = Workflow
    exec("class W(Workflow):\n    async def run(self): pass", module.__dict__)
    with pytest.raises(CompileError, match="HF001.*cannot be read") as caught:
        compile_workflow(module.W, name="w", base=Workflow)
    problems: Any = caught.value.problems
    assert "define it in a file" in problems[0].hint


def test_a_default_that_cannot_be_captured_is_refused() -> None:
    text = "class W(Workflow):\n    async def run(self, x=thing()):\n        return x\n"
    (problem,) = problems_of(text, thing=Closed)
    assert (problem.code, problem.line, problem.column) == ("HF019", 2, 27)
    assert "define it at module level" in problem.hint


def test_a_class_without_run_is_refused() -> None:
    (problem,) = problems_of("class W(Workflow):\n    pass\n")
    assert (problem.code, problem.line) == ("HF020", 1)
    assert "add `async def run(self, …)`" in problem.hint


def test_a_class_without_run_is_refused_where_its_source_is_gone() -> None:
    module = a_module("class W(Workflow):\n    pass\n")
    del sys.modules[module.__name__]
    with pytest.raises(CompileError, match="HF020"):
        compile_workflow(module.W, name="w", base=Workflow)


def test_a_local_object_that_cannot_be_captured_is_refused() -> None:
    cls = "    class W(Workflow):\n        async def run(self):\n            return thing\n    return W\n"
    text = f"def make():\n    thing = new()\n{cls}W = make()\n"
    (problem,) = problems_of(text, new=Closed)
    assert (problem.code, problem.line, problem.column) == ("HF023", 5, 20)
    assert "define it at module level" in problem.hint


@pytest.mark.parametrize(
    ("imports", "body", "name", "hint"),
    [
        ("import asyncio", "await asyncio.to_thread(len, x)", "asyncio.to_thread", "make the function an @action"),
        ("import asyncio", "work = asyncio.to_thread\nawait work(len, x)", "asyncio.to_thread", "an @action"),
        ("import asyncio", "asyncio.run(act(1))", "asyncio.run", "await the call itself"),
        ("import asyncio", "with asyncio.Runner() as r:\n    pass", "asyncio.Runner", "await the call itself"),
        ("import asyncio as aio", "await aio.to_thread(len, x)", "aio.to_thread", "make the function an @action"),
        ("import asyncio.threads as t", "await t.to_thread(len, x)", "t.to_thread", "make the function an @action"),
        ("from asyncio import tasks", "await tasks.sleep(x)", "tasks.sleep", "gather, wait"),
        ("from asyncio import to_thread", "await to_thread(len, x)", "to_thread", "make the function an @action"),
        ("from asyncio import to_thread as aside", "await aside(len, x)", "aside", "make the function an @action"),
        ("from asyncio import run", "run(act(1))", "run", "await the call itself"),
        ("from asyncio import get_running_loop", "get_running_loop()", "get_running_loop", "gather, wait"),
        ("from asyncio import Queue", "Queue()", "Queue", "gather, wait"),
        ("from asyncio import get_event_loop", "get_event_loop().time()", "get_event_loop", "gather, wait"),
        ("from asyncio import Lock", "async with Lock():\n    pass", "Lock", "one @action"),
        ("import asyncio\nq = asyncio.Queue()", "await q.get()", "q.get", "gather, wait"),
        ("import asyncio\nclass K:\n    q = asyncio.Queue()", "K.q.put_nowait(1)", "K.q", "gather, wait"),
        ("import asyncio.threads as t\nclass K:\n    go = t.to_thread", "await K.go(len, x)", "K.go", "an @action"),
        ("import asyncio\nclass K:\n    rest = asyncio.sleep", "await K.rest(x)", "K.rest", "asyncio.sleep"),
    ],
)
def test_what_of_asyncio_has_no_counterpart_is_refused_however_it_was_imported(
    imports: str, body: str, name: str, hint: str
) -> None:
    problem = next(p for p in problems_of(run_of(body, f"{imports}\n\n")) if p.code == "HF017")
    assert f"`{name}" in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("imports", "body", "code", "name", "hint"),
    [
        ("LOCK = threading.Lock()", "with LOCK:\n    x = 2", "HF005", "LOCK", "share no lock"),
        ("LOCK = threading.RLock()", "LOCK.acquire()", "HF005", "LOCK", "share no lock"),
        ("LOCK = threading.Semaphore()", "with LOCK:\n    x = 2", "HF005", "LOCK", "share no lock"),
        ("LOCK = threading.Lock()", "async with LOCK:\n    await act(1)", "HF005", "LOCK", "share no lock"),
        ("class K:\n    lock = threading.Lock()", "with K.lock:\n    x = 2", "HF005", "K.lock", "share no lock"),
        ("LOCK = asyncio.Lock()", "async with LOCK:\n    await act(1)", "HF017", "LOCK", "share no lock"),
        ("LOCK = asyncio.Semaphore(2)", "async with LOCK:\n    x = 2", "HF017", "LOCK", "share no lock"),
        ("from time import sleep", "nap = sleep\nnap(1)", "HF005", "sleep", "in an @action"),
        ("from sqlite3 import Row", "x = Row", "HF005", "Row", "@action"),
        ("import sqlite3", "x = sqlite3.Error, sqlite3.Row", "HF005", "sqlite3", "@action"),
        ("import sqlite3", "x = [sqlite3.Error for sqlite3 in x], sqlite3", "HF005", "sqlite3", "@action"),
        ("import subprocess", "x = subprocess.PIPE", "HF005", "subprocess", "in an @action"),
    ],
)
def test_what_loading_a_program_would_refuse_is_refused_at_once(
    imports: str, body: str, code: str, name: str, hint: str
) -> None:
    problem = next(p for p in problems_of(run_of(body, f"{imports}\n\n"), threading=threading) if p.code == code)
    assert f"`{name}`" in problem.message
    assert hint in problem.hint


@pytest.mark.parametrize(
    "call", ["Path('a').exists()", "ROOT.open()", "(ROOT / 'b' / x).iterdir()", "pathlib.PosixPath(x).stat()"]
)
def test_a_path_that_asks_the_file_system_is_refused(call: str) -> None:
    imports = "import pathlib\nfrom pathlib import Path\nROOT = Path('a')\n\n"
    (problem,) = problems_of(run_of(f"return {call}", imports))
    assert (problem.code, problem.message) == ("HF005", f"`{call[:-1]}…)` reads or writes files")


def test_a_path_that_only_reckons_is_open_and_so_are_other_things_methods() -> None:
    imports = "from pathlib import Path, PurePath\nROOT = Path('a')\nSHOP = {'a': 'b'}\n\n"
    body = "p = (ROOT / x).with_suffix('.b')\nq = PurePath('a').match('b')\nreturn p, q, SHOP[x].replace('a', 'b'), x.exists()"
    assert compile_workflow(a_module(run_of(body, imports)).W, name="w", base=Workflow).functions


def test_what_counts_as_durable_is_what_the_engine_has() -> None:
    assert {name for name in vars(DurableAsyncio) if not name.startswith("_")} == ASYNC_NAMES


@pytest.mark.parametrize("name", sorted(ASYNC_NAMES))
def test_a_counterpart_is_linked_however_it_was_imported(name: str) -> None:
    for imports, used in (
        ("import asyncio", f"asyncio.{name}"),
        ("import asyncio as aio", f"aio.{name}"),
        (f"from asyncio import {name}", name),
    ):
        module = a_module(run_of(f"y = {used}\nreturn 1", f"{imports}\n\n"))
        program = compile_workflow(module.W, name="w", base=Workflow)
        for ref in (ref for refs in program.refs.values() for ref in refs.values()):
            assert resolve(ref) in (DurableAsyncio, getattr(DurableAsyncio, name))


def test_every_reason_has_a_test() -> None:
    assert REASONS.keys() == REFUSED.keys() | {"HF001", "HF019", "HF020", "HF023"}


def test_all_problems_are_shown_at_once_and_in_order() -> None:
    found = problems_of(run_of("time.sleep(1)\nopen(x)\nact(2)\nimport os\nwith x:\n    await act(3)\nreturn missing"))
    assert [(p.code, p.line) for p in found] == [
        ("HF005", 3),
        ("HF018", 4),
        ("HF024", 5),
        ("HF015", 6),
        ("HF006", 7),
        ("HF002", 9),
    ]


def test_a_problem_in_a_helper_is_shown_at_the_helper() -> None:
    before = "async def helper():\n    time.sleep(1)\n\n"
    (problem,) = problems_of(run_of("await helper()", before))
    assert (problem.code, problem.line) == ("HF005", 2)


def test_a_global_is_refused_once() -> None:
    assert [problem.code for problem in problems_of(run_of("global total\ntotal += 1\nreturn total"))] == ["HF010"]


@pytest.mark.parametrize(
    ("code", "line"),
    [("HF015", "import os"), ("HF010", "global y"), ("HF009", "class C: pass"), ("HF009", "async def g(): pass")],
)
def test_what_a_function_may_not_hold_its_nested_functions_may_not_either(code: str, line: str) -> None:
    (problem,) = problems_of(run_of(f"def f():\n    {line}\nawait act(1)"))
    assert (problem.code, problem.line) == (code, 4)


def test_a_refusal_is_raised_right_at_the_decorated_class() -> None:
    with pytest.raises(CompileError) as caught:
        a_module("@workflow\n" + run_of("time.sleep(1)"), workflow=workflow)
    trace = traceback.extract_tb(caught.value.__traceback__)
    at = next(number for number, frame in enumerate(trace) if "refused_program_" in frame.filename)
    assert [frame.name for frame in trace[at + 1 :]] == ["workflow"]


def test_a_name_defined_later_in_the_module_is_looked_up_later() -> None:
    text = "@workflow\n" + run_of("return await later(x)") + "\nasync def later(x):\n    return x\n"
    module = a_module(text, workflow=workflow)
    assert compile_workflow(module.W, name="w", base=Workflow).functions


def test_a_missing_name_does_not_hide_a_real_problem_at_import() -> None:
    with pytest.raises(CompileError, match="HF005"):
        a_module("@workflow\n" + run_of("time.sleep(1)\nreturn later(x)"), workflow=workflow)


FORGETFUL = (
    "async def helper(x):\n    return x\n\n"
    "class Child(Workflow):\n    async def run(self, x=1):\n        return x\n\n"
    "class W(Workflow):\n    async def helper(self, x):\n        return x\n"
)


def forgetful(body: str, method: str = "run") -> str:
    lines = "\n".join(f"        {line}" for line in body.split("\n"))
    run = "" if method == "run" else "    async def run(self):\n        return await self.other(1, 2)\n"
    return f"{FORGETFUL}    async def {method}(self, x=1, calls=()):\n{lines}\n{run}"


@pytest.mark.parametrize(
    ("body", "call", "words", "hint"),
    [
        ("act(1)", "act(1)", "is never awaited", "await act(1)"),
        ("self.helper(1)", "self.helper(1)", "is never awaited", "await self.helper(1)"),
        ("helper(1)", "helper(1)", "is never awaited", "await helper(1)"),
        ("self.run(1)", "self.run(1)", "is never awaited", "await self.run(1)"),
        ("self.receive('go')", "self.receive('go')", "is never awaited", "await self.receive('go')"),
        ("self.run_action(act(1))", "self.run_action(act(1))", "is never awaited", "await self.run_action(act(1))"),
        ("asyncio.sleep(1)", "asyncio.sleep(1)", "is never awaited", "await asyncio.sleep(1)"),
        ("Child().run(1)", "Child().run(1)", "is never awaited", "await Child().run(1)"),
        ("Child().start(1)", "Child().start(1)", "is never awaited", "await Child().start(1)"),
        ("x and act(1)", "act(1)", "is never awaited", "await act(1)"),
        ("act(1) if x else None", "act(1)", "is never awaited", "await act(1)"),
        ("return act(1)", "act(1)", "is returned and never awaited", "await act(1)"),
        ("if act(1):\n    return 2", "act(1)", "is tested and never awaited", "await act(1)"),
        ("while not act(1):\n    x += 1", "act(1)", "is tested", "await act(1)"),
        ("return 1 if act(1) else 2", "act(1)", "is tested", "await act(1)"),
        ("return act(1) and x", "act(1)", "is tested", "await act(1)"),
        ("assert act(1), x", "act(1)", "is tested", "await act(1)"),
        ("return [y for y in calls if act(y)]", "act(y)", "is tested", "await act(y)"),
        ("return act(1) + 2", "act(1)", "is reckoned with", "await act(1)"),
        ("x += act(1)", "act(1)", "is reckoned with", "await act(1)"),
        ("return act(1) == 2", "act(1)", "is compared", "await act(1)"),
        ("return f'{act(1)}'", "act(1)", "is formatted", "await act(1)"),
        ("return act(1).name", "act(1)", "is asked for `.name`", "(await act(1))"),
        ("return act(1)[0]", "act(1)", "is indexed", "(await act(1))"),
        ("for y in act(1):\n    x += y", "act(1)", "is iterated over", "await act(1)"),
        ("return [*act(1)]", "act(1)", "is unpacked", "await act(1)"),
        ("match act(1):\n    case 1:\n        return 2", "act(1)", "is compared", "await act(1)"),
        ("ok = act(1)\nreturn 2", "act(1)", "is kept in `ok` and never awaited", "ok = await act(1)"),
        ("ok: bool = act(1)\nreturn 2", "act(1)", "is kept in `ok`", "ok = await act(1)"),
        ("ok = act(1)\nif ok:\n    return 2", "act(1)", "is kept in `ok`", "ok = await act(1)"),
        ("ok = False\nok = act(1)\nif not ok:\n    return 2", "act(1)", "is kept in `ok`", "ok = await act(1)"),
        ("ok = helper(1)\nreturn f'{ok}'", "helper(1)", "is kept in `ok`", "ok = await helper(1)"),
        ("ok = Child().run(1)\nreturn ok == 3", "Child().run(1)", "is kept in `ok`", "ok = await Child().run(1)"),
        ("ok = act(1)\nreturn ok", "act(1)", "is kept in `ok`", "ok = await act(1)"),
        ("a, b = act(1), x\nreturn b", "act(1)", "is kept in `a`", "a = await act(1)"),
        ("if ok := act(1):\n    return not ok", "act(1)", "is tested", "await act(1)"),
        (
            "n = act(1)\nn += 1\nreturn [n]",
            "act(1)",
            "is kept in `n`, which is used in line 13 as if",
            "n = await act(1)",
        ),
        ("n = act(1)\nx = 3\nn = n * x\nreturn [n]", "act(1)", "used in line 14", "n = await act(1)"),
        ("u = act(1)\nif u.name:\n    return [u]", "act(1)", "used in line 13", "u = await act(1)"),
        ("u = act(1)\nfor y in u:\n    calls.append(u)", "act(1)", "used in line 13", "u = await act(1)"),
    ],
)
def test_a_call_that_is_surely_never_awaited_is_refused(body: str, call: str, words: str, hint: str) -> None:
    (problem,) = problems_of(forgetful(body))
    assert problem.code == "HF024"
    assert words in problem.message
    assert problem.hint == hint
    shown, caret = str(problem).split("\n")[1:3]
    start, width = len(caret) - len(caret.lstrip()), caret.count("^")
    assert shown[start : start + width] == call


@pytest.mark.parametrize(
    "body",
    [
        "call = act(1)\nreturn await call",
        "call = act(1)\nprint(f'asking for {call}')\nreturn await call",
        "call = act(1)\nif x:\n    return await call",
        "call = None\nif x:\n    call = act(1)\nif call is not None:\n    await call",
        "call = act(1) if x else helper(2)\nawait call",
        "call = x or act(1)\nawait call",
        "one, other = act(1), helper(2)\nreturn await asyncio.gather(one, other)",
        "calls = [act(n) for n in range(3)]\nreturn await asyncio.gather(*calls)",
        "calls.append(act(1))\nreturn await asyncio.gather(*calls)",
        "waiting = {'a': act(1)}\nreturn await waiting['a']",
        "task = asyncio.create_task(act(1))\nreturn x",
        "asyncio.create_task(act(1))\nreturn x",
        "async with asyncio.TaskGroup() as group:\n    group.create_task(act(1))",
        "call = act(1)\ncalls += [call]\nreturn await calls[0]",
        "call = act(1)\nagain = call\nreturn await again",
        "return await (call := act(1))",
        "if (call := act(1)):\n    return await call",
        "await self.run_action(act(1), timeout=5)",
        "call = act(1)\nreturn await self.run_action(call)",
        "call = act(1)\nf = lambda: call\nreturn await f()",
        "match act(1):\n    case call:\n        return await call",
        "self.kept = act(1)\nreturn await self.kept",
        "return [act for act in calls if act(1)]",
        "return [(lambda: act(1)) for y in calls]",
        "call = act(1)\ntry:\n    return await call\nfinally:\n    pass",
        "n = act(1)\nn = await n\nreturn n + 1",
        "n = act(1)\nreturn await n + 1",
        "return x and await act(1)",
    ],
)
def test_a_call_that_may_be_awaited_later_is_left_alone(body: str) -> None:
    assert compile_workflow(a_module(forgetful(body)).W, name="w", base=Workflow).functions


def test_a_helper_may_return_a_call_for_others_to_await() -> None:
    text = forgetful("return act(1)", method="other").replace(
        "await self.other(1, 2)", "await (await self.other(1, 2))"
    )
    assert compile_workflow(a_module(text).W, name="w", base=Workflow).functions
