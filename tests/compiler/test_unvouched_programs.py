"""A program that nobody signed and this process has not compiled reaches no way to run code that its names suggest."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import json.tool
import sys
import traceback
import types
from asyncio import Runner  # noqa: F401 - what a program must not reach through this module
from collections import UserString
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from string import Template
from typing import Any, Generic, NamedTuple, TypeVar  # noqa: F401

import pytest
from pydantic import BaseModel, TypeAdapter  # noqa: F401
from tests.engine.harness import driven

from holdfast.codec import decode
from holdfast.compiler.objects import object_of
from holdfast.errors import ProgramError
from holdfast.ir.plain import ACCELERATORS, PLAIN_NAMES, is_plain
from holdfast.ir.program import Ref
from holdfast.ir.text import program_hash
from holdfast.model.instance import StoredProgram
from holdfast.reach import Reach
from holdfast.registry import ModuleView, Registry
from holdfast.task import action
from holdfast.workflow import Workflow, definition_of

SECRET = "a secret of the module"
T = TypeVar("T")


@action(name="unvouched-tests:act")
async def act(x: int) -> int:
    return x


def helper() -> str:
    return SECRET


class Color(Enum):
    RED = 1


class Empty(Enum):
    """Makes classes when it is called."""


class Order(BaseModel):
    id: int = 1
    format: str = "a4"


class Page(BaseModel, Generic[T]):
    item: T


class Words(str):
    pass


@dataclass
class Point:
    x: int
    _y: int = 2

    def format(self) -> str:
        return f"{self.x}"


class Probe(Workflow):
    async def run(self) -> Any:
        helper, Color, Order, Page, Words, UserString, Template, Point, asyncio  # noqa: B018
        return 0


class Sound(Workflow):
    async def run(self) -> int:
        return await act(1)


def evaluated(source: str, *, before: str = "") -> Any:
    """What a stored program that returns `source` gives, or raises."""
    stored = Registry().stored(definition_of(Probe))
    assert "| 0\n" in stored.text
    text = stored.text.replace("| 0\n", f"| {source}\n").replace("  var self\n", "  var e p q r self\n")
    if before:
        line = next(line for line in text.split("\n") if line.startswith("  b0:"))
        body = before.replace("\n", "\n      | ")
        text = text.replace(f"{line}\n", f"{line}\n    do @1 | {body}\n", 1)
    program = Registry().link(replace(stored, text=text, hash=program_hash(text)))
    ended = driven(Probe, code=program).finish()
    value = decode(ended.tree)
    if isinstance(value, BaseException):
        raise value
    return value


def named(ref: str) -> StoredProgram:
    """A stored program whose one name is `ref`."""
    stored = Registry().stored(definition_of(Sound))
    text = stored.text.replace("ref act = action unvouched-tests:act", f"ref act = {ref}")
    assert text != stored.text
    return replace(stored, text=text, hash=program_hash(text))


@pytest.mark.parametrize(
    "ref",
    [
        "object asyncio:Runner",
        "object asyncio.runners:Runner",
        "object asyncio.events:AbstractEventLoop",
        "object asyncio.unix_events:SelectorEventLoop",
        "object asyncio.subprocess:Process",
        "object asyncio:Queue",
        "object asyncio:create_subprocess_shell",
        "module asyncio.base_events",
        "module json.tool",
        "object json.tool:main",
        "object json:load",
        "object functools:update_wrapper",
        "object functools:wraps",
        "object functools:singledispatch",
        "object types:MethodType",
        "object types:resolve_bases",
        "object uuid:getnode",
        "object traceback:walk_stack",
        "object traceback:extract_stack",
        "object traceback:FrameSummary",
        "object traceback:TracebackException",
        "object zoneinfo:reset_tzpath",
        "object calendar:main",
        "object hashlib:file_digest",
        "object typing:NamedTuple",
        "object typing:TypedDict",
        "object typing:Type",
        "object enum:EnumType",
        "object enum:IntEnum",
        "object abc:ABCMeta",
        "object collections:UserDict",
        "object random:SystemRandom",
        "object random:seed",
        "object re:Scanner",
        "object operator:attrgetter",
        "object operator:methodcaller",
        "object _operator:attrgetter",
        "object posixpath:exists",
        "object posixpath:expandvars",
        "object time:sleep",
        "object string:Formatter",
        "object tests.compiler.test_unvouched_programs:Runner",
        "object tests.compiler.test_unvouched_programs:TypeAdapter",
        "object tests.compiler.test_unvouched_programs:Empty",
        "object tests.compiler.test_unvouched_programs:Enum",
        "object tests.compiler.test_unvouched_programs:NamedTuple",
        "object pydantic.type_adapter:TypeAdapter",
        "object pydantic:create_model",
        "object pydantic.fields:FieldInfo",
        "object pydantic.dataclasses:dataclass",
        "object pydantic_core._pydantic_core:SchemaValidator",
        "object holdfast.app:App",
        "object holdfast:App",
        "object holdfast:Settings",
        "object holdfast.registry:Registry",
        "object holdfast.engine.link:LinkedFunction",
        "object holdfast.backends.sqlite.store:SqliteStore",
        "object xml.etree.ElementTree:parse",
        "module xml.etree.ElementTree",
        "module idlelib",
    ],
)
def test_what_is_more_than_arithmetic_is_refused(ref: str) -> None:
    with pytest.raises(ProgramError):
        Registry().link(named(ref))


@pytest.mark.parametrize(
    "ref",
    [
        "object _operator:add",
        "object _functools:reduce",
        "object _hashlib:openssl_sha256",
        "object functools:partial",
        "object asyncio.exceptions:CancelledError",
        "object asyncio.queues:QueueEmpty",
        "object pydantic_core._pydantic_core:ValidationError",
        "object holdfast.retry:RetryPolicy",
        "object holdfast.retry:BackoffPolicy",
        "object holdfast.model.instance:Status",
        "object holdfast.errors:ActionTimeout",
        "object tests.compiler.test_unvouched_programs:Order",
        "module json",
        "module collections.abc",
    ],
)
def test_what_older_workflows_name_is_let_through(ref: str) -> None:
    assert Registry().link(named(ref))


def test_what_modules_hold_is_gathered_once_for_all_names_and_again_when_one_was_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []

    class Watched(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            if name == "__dict__":
                looked.append(name)
            return super().__getattribute__(name)

    monkeypatch.setitem(sys.modules, "tests.watched", Watched("tests.watched"))
    reach = Reach(object_of)
    for name in ("walk_stack", "extract_stack", "FrameSummary"):
        assert not reach.vouches(Ref("object", f"traceback:{name}"))
    assert looked == ["__dict__"]
    late = types.ModuleType("tests.late")
    late.walk = traceback.walk_stack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.late", late)
    assert reach.vouches(Ref("object", "traceback:walk_stack"))


def plain_values() -> Iterator[tuple[str, object]]:
    for module, names in PLAIN_NAMES.items():
        for name in names:
            found = getattr(importlib.import_module(module), name, None)
            if found is not None:
                yield f"{module}.{name}", found


DANGEROUS = frozenset(
    "os posix nt subprocess _posixsubprocess sys io _io importlib _imp ctypes _ctypes inspect gc pickle _pickle marshal "
    "socket _socket ssl multiprocessing threading _thread shutil tempfile pathlib glob runpy code codeop linecache "
    "tokenize pkgutil zipimport signal select selectors webbrowser copyreg".split()
)


@pytest.mark.parametrize(
    ("name", "found"), [pytest.param(*one, id=one[0]) for one in sorted(plain_values(), key=lambda one: one[0])]
)
def test_a_plain_name_is_no_way_to_run_code(name: str, found: Any) -> None:
    assert not isinstance(found, types.ModuleType | types.FrameType | types.CodeType)
    assert not (isinstance(found, type) and issubclass(found, type | io.IOBase))
    owner = getattr(found, "__module__", None)
    # From Python 3.13 on, these two functions of text are written in C, in a module that also does other things.
    if getattr(found, "__name__", "") in ("_path_normpath", "_path_splitroot_ex"):
        return
    assert not isinstance(owner, str) or owner.partition(".")[0] not in DANGEROUS
    closed = [
        eval,
        exec,
        compile,
        open,
        __import__,
        getattr,
        setattr,
        delattr,
        vars,
        globals,
        locals,
        type,
        input,
        super,
    ]
    assert not any(found is builtin for builtin in closed)
    # What it calls shows in the names of its code, and in those of the functions of its module.
    names = code_names(found)
    bad = {"eval", "exec", "open", "import", "compile", "system", "popen", "Popen", "getframe", "import_module"}
    allowed = ALLOWED.get(name) or ALLOWED.get(name.rpartition(".")[0]) or set[str]()
    reached = (names & (bad | DANGEROUS)) - allowed
    assert not reached, f"{name} reaches {reached}"


ALLOWED = {
    "posixpath": {"os"},  # os.fspath
    "re": {"compile"},  # its own
    # It evaluates a parameter list of names that it has held to be identifiers before.
    "collections.namedtuple": {"sys", "getframe", "eval"},
    "collections.abc.Set": {"sys"},  # sys.maxsize
    "string.Template": {"compile"},  # re.compile
    "traceback.format_exc": {"sys"},  # sys.exc_info, of which it gives the text
    "uuid.uuid4": {"os"},  # os.urandom
}
"""What plain names do use, and for what; by the name or its module."""


def code_names(found: Any) -> set[str]:
    functions = [found] if isinstance(found, types.FunctionType) else []
    if isinstance(found, type):
        for value in vars(found).values():
            value = getattr(value, "__func__", getattr(value, "fget", value))
            functions += [value] if isinstance(value, types.FunctionType) else []
    return {name.lstrip("_") for function in functions for name in function.__code__.co_names}


def test_each_accelerator_stands_for_a_module_of_the_list() -> None:
    assert set(ACCELERATORS.values()) <= set(PLAIN_NAMES)
    assert is_plain("_operator", "add")
    assert not is_plain("_operator", "attrgetter")
    assert not is_plain("_hashlib", "get_fips_mode")


@pytest.mark.parametrize(
    "source",
    [
        "'{0.__globals__[SECRET]}'.format(helper)",
        "'{0.__globals__[SECRET]}'.format_map({'0': helper})",
        "'{x.__globals__[SECRET]}'.format_map({'x': helper})",
        "str.format('{0.__globals__[SECRET]}', helper)",
        "str.format_map('{x.__globals__}', {'x': helper})",
        "'{:{0.__globals__}}'.format(helper)",
        "'{1:{0.__globals__}}'.format(helper, 1)",
        "'{a[0].__globals__}'.format(a=[helper])",
        "list(map('{0.__globals__}'.format, [helper]))",
        "list(map(str.format, ['{0.__globals__}'], [helper]))",
        "getattr('{0.__globals__}', 'format')(helper)",
        "getattr(str, 'format')('{0.__globals__}', helper)",
        "Words('{0.__globals__}').format(helper)",
        "Words.format('{0.__globals__}', helper)",
        "''.__class__.format('{0.__globals__}', helper)",
        "UserString('{0.__globals__}').format(helper)",
        "UserString.format(UserString('{0.__globals__}'), helper)",
        "'{0.gi_frame}'.format((n for n in ()))",
        "'{0._y}'.format(Point(1))",
        "(lambda f: f.format(helper))('{0.__globals__}')",
        "[f.format(helper) for f in ['{0.__globals__}']]",
        "asyncio.current_task()._shown",
        "Order.parse_raw('{}')",
        "Order().parse_raw('{}')",
        "Order.parse_file('/etc/passwd')",
        "Order.model_rebuild(force=True)",
        "getattr(Order, 'parse_raw')",
        "Color.mro()",
        "getattr(Color, 'mro')()",
        "setattr(Order, 'id', 1)",
        "delattr(Point, 'format')",
        "setattr(helper, 'x', 1)",
        "[setattr(c, 'format', len) for c in (Point,)]",
    ],
)
def test_an_attribute_behind_the_names_is_closed(source: str) -> None:
    with pytest.raises(AttributeError, match="closed to workflow code"):
        evaluated(source)


@pytest.mark.parametrize(
    "source",
    [
        "type('X', (), {'__reduce__': helper})",
        "type(Color)",
        "type(int)",
        "int.__class__",
        "Order.__class__",
        "type[int]('X', (), {})",
        "list(map(type, ['X'], [()], [{}]))",
        "getattr(int, '__class__')",
        "Page[list['SECRET']]",
        "Page['SECRET']",
        "Page[list['SECRET'], 0:1]",
        "Page[dict[str, list['SECRET']]]",
    ],
)
def test_a_program_makes_no_classes(source: str) -> None:
    with pytest.raises(TypeError, match="closed to|takes one argument"):
        evaluated(source)


@pytest.mark.parametrize(
    ("source", "before"),
    [
        ("0", "Point.format = helper"),
        ("0", "helper.x = 1"),
        ("0", "del Point.format"),
        ("0", "Point.x += 1"),
        ("0", "match Point(1):\n    case Point(format=x):\n        pass"),
        ("0", "match Point(1):\n    case Point(_y=x):\n        pass"),
        ("0", "match 1:\n    case helper.__class__:\n        pass"),
        ("(lambda _hf_owner: 1)(1)", ""),
        ("0", "_hf_read = helper"),
        ("0", "def _hf_item(x): pass"),
        ("_f.value", ""),
        ("asyncio.Task.cancel.__globals__", ""),
    ],
)
def test_text_that_cannot_be_checked_is_refused(source: str, before: str) -> None:
    with pytest.raises(ProgramError):
        evaluated(source, before=before)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("'{0.x} {1[_id]:>{2}} {{}} {n!r}'.format(Point(1), {'_id': 2}, 3, n='a')", "1   2 {} 'a'"),
        ("'{x[a]}'.format_map({'x': {'a': 1}})", "1"),
        ("list(map('{:02}'.format, [1, 2]))", ["01", "02"]),
        ("str.format('{}', 1)", "1"),
        ("Point(3).format()", "3"),
        ("Order().format", "a4"),
        ("Point(3)._y", 2),
        ("getattr(Point(3), 'nothing', 4)", 4),
        ("getattr('{}', 'format')(1)", "1"),
        ("type(1) is int and type(1)('3')", 3),
        ("type('x').__name__", "str"),
        ("isinstance(int, type), isinstance(1, type), isinstance(1, (type, int))", (True, False, True)),
        ("type(1) is type", False),
        ("list(map(type, [1]))[0] is int", True),
        ("Point(1).__class__.__name__", "Point"),
        ("Page[int](item=1).item", 1),
        ("Color['RED'].name", "RED"),
        ("{'a': [1, 2, 3]}['a'][1:][0]", 2),
        ("Template('$x').substitute(x=1)", "1"),
        ("f'{Point(1).x:{2}}'", " 1"),
        ("'%(x)s' % {'x': 1}", "1"),
    ],
)
def test_honest_code_means_what_it_means_in_python(source: str, value: object) -> None:
    assert evaluated(source) == value


def test_honest_statements_mean_what_they_mean_in_python() -> None:
    assert evaluated("p.x, q", before="p = Point(1)\np.x += 2\nsetattr(p, '_y', 5)\nq = p._y") == (3, 5)
    assert evaluated("r", before="match Point(7):\n    case Point(x=r):\n        pass") == 7
    assert evaluated("r", before="match Color.RED:\n    case Color.RED:\n        r = 1") == 1
    assert (
        evaluated("r", before="try:\n    1 / 0\nexcept Exception as e:\n    r = type(e).__name__")
        == "ZeroDivisionError"
    )


def test_a_workflow_compiled_here_is_not_rewritten() -> None:
    assert "_hf_read" not in linked_names(Registry().stored(definition_of(Formats)))
    assert driven(Formats).finish().kind == "done"


class Formats(Workflow):
    async def run(self) -> str:
        await asyncio.sleep(0)
        return f"{helper.__name__}"


def linked_names(stored: StoredProgram) -> set[str]:
    return {name for block in Registry().link(stored).entry.blocks for name in block.__code__.co_names}  # type: ignore[attr-defined]


def test_a_module_gives_only_plain_names() -> None:
    text = named("module json").text.replace("act(1)", "act.tool.main()")
    with pytest.raises(ProgramError, match=r"json\.tool"):
        Registry().link(replace(named("module json"), text=text, hash=program_hash(text)))
    text = named("module os").text.replace("act(1)", "act.path.exists('x')")
    with pytest.raises(ProgramError, match=r"posixpath\.exists"):
        Registry().link(replace(named("module os"), text=text, hash=program_hash(text)))
    reach = Reach(object_of)
    view = ModuleView(json, reach)
    assert view.dumps is json.dumps
    for name in ("tool", "load", "detect_encoding"):
        with pytest.raises(AttributeError):
            getattr(view, name)


@pytest.mark.parametrize("params", ["self=print(1)", "self: print(1)", "self) -> print(1", "*, self=[].append"])
def test_a_parameter_list_that_computes_is_refused(params: str) -> None:
    stored = named("object functools:reduce")
    text = stored.text.replace("Sound.run(self)", f"Sound.run({params})")
    assert text != stored.text
    with pytest.raises(ProgramError):
        Registry().link(replace(stored, text=text, hash=program_hash(text)))


def test_a_program_comes_from_a_python_file() -> None:
    stored = named("object functools:reduce")
    text = stored.text.replace(f"at {__file__}:", "at /etc/passwd:")
    assert text != stored.text
    with pytest.raises(ProgramError, match="no Python file"):
        Registry().link(replace(stored, text=text, hash=program_hash(text)))


def test_a_method_cannot_change_what_a_class_is() -> None:
    stored = named("object functools:reduce")
    line = next(line for line in stored.text.split("\n") if line.startswith("method run = "))
    text = stored.text.replace(line, f"{line.replace(' run ', ' __reduce__ ')}\n{line}")
    with pytest.raises(ProgramError, match="__reduce__"):
        Registry().link(replace(stored, text=text, hash=program_hash(text)))
