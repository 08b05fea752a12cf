"""A stored program is refused where its text reaches for more than a compiled one could."""

from __future__ import annotations

import os
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace

import pytest

from holdfast.errors import ProgramError
from holdfast.ir.text import program_hash
from holdfast.model.instance import StoredProgram
from holdfast.registry import ModuleView, Registry
from holdfast.task import action
from holdfast.workflow import Workflow, definition_of

LIMIT = 3


@action(name="stored-tests:act")
async def act(x: int) -> int:
    return x


class Sound(Workflow):
    async def run(self, x: int) -> int:
        y = await act(x)
        while y < LIMIT:
            y = await act(y)
        return os.path.basename("a/b") + str(y)  # type: ignore[return-value]


@pytest.fixture
def stored() -> StoredProgram:
    return Registry().stored(definition_of(Sound))


@pytest.fixture
def reexport() -> Iterator[str]:
    module = types.ModuleType("stored_tests_app")
    module.os, module.run, module.sys = os, os.system, sys  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield module.__name__
    del sys.modules[module.__name__]


def tampered(stored: StoredProgram, old: str, new: str) -> StoredProgram:
    assert old in stored.text
    text = stored.text.replace(old, new)
    return replace(stored, text=text, hash=program_hash(text))


def test_what_was_compiled_can_be_linked(stored: StoredProgram) -> None:
    assert Registry().link(stored).entry.blocks


def test_a_text_that_does_not_fit_its_hash_is_refused(stored: StoredProgram) -> None:
    with pytest.raises(ProgramError, match="hash does not fit"):
        Registry().link(replace(stored, text=stored.text.replace("LIMIT", "LIMlT")))


def test_a_text_without_the_signature_is_refused(stored: StoredProgram) -> None:
    with pytest.raises(ProgramError, match="not signed with this"):
        Registry(signing_key="key").link(stored)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os", "import"),
        ("from os import system", "import"),
        ("x = x.__class__.__base__.__subclasses__()", "__base__|__subclasses__"),
        ("x = act.__wrapped__.__globals__", "__wrapped__|__globals__"),
        ("x = os._hf_module.system('true')", "_hf_module"),
        ("class C: pass", "class"),
        ("global LIMIT", "global"),
        ("async def f(): pass", "async function"),
        ("x = [await y for y in x]", "await|parse"),
        ("x = (", "parse|damaged"),
        ("x = x.__traceback__.tb_frame.f_back", "tb_frame|f_back"),
        ("x = (n for n in y).gi_frame.f_globals", "gi_frame|f_globals"),
        ("x = (n for n in y).gi_code", "gi_code"),
        ("match x:\n      |     case object(__globals__=y):\n      |         pass", "__globals__"),
        ("match x:\n      |     case y(z):\n      |         pass", "not declared"),
        ("match x:\n      |     case y.Class(z):\n      |         pass", "not declared"),
        ("x = [int for int in y]\n      | match x:\n      |     case int(z):\n      |         pass", "not declared"),
        ("x = __builtins__", "builtins"),
    ],
)
def test_native_code_that_was_never_compiled_is_refused(stored: StoredProgram, line: str, words: str) -> None:
    name = next(text for text in stored.text.split("\n") if text.startswith("  b0:"))
    with pytest.raises(ProgramError, match=words):
        Registry().link(tampered(stored, f"{name}\n", f"{name}\n    do @1 | {line}\n"))


@pytest.mark.parametrize(
    "ref",
    [
        "object os:system",
        "object posix:system",
        "object subprocess:run",
        "object builtins:eval",
        "object builtins:exec",
        "object stored_tests_app:run",
        "object stored_tests_app:os.system",
        "object stored_tests_app:os",
        "object stored_tests_app:sys.modules",
        "module subprocess",
        "module builtins",
        "module sys",
        "module importlib",
        "module not_loaded_anywhere",
        "function missing:function",
        "async run",
        "async to_thread",
        "action nobody:has_this",
        "workflow os:path",
        "magic os:path",
        "object timeit:timeit",
        "object pkgutil:resolve_name",
        "object pydoc:locate",
        "object typing:get_type_hints",
        "object typing:ForwardRef._evaluate",
        "object string:Formatter",
        "object dataclasses:_create_fn",
        "object dataclasses:make_dataclass",
        "object random:_os",
        "object random:Random.__init__",
        "object uuid:_get_command_stdout",
        "object json:codecs.open",
        "object pickle:loads",
        "object ctypes:CDLL",
        "object zipfile:ZipFile",
        "object logging.handlers:FileHandler",
        "module zipfile",
        "module tarfile",
        "module pathlib",
        "module site",
        "module pydoc",
        "module importlib.util",
        "module wsgiref",
        "object click:edit",
        "object click.utils:open_file",
    ],
)
def test_a_name_that_leads_somewhere_closed_is_refused(stored: StoredProgram, reexport: str, ref: str) -> None:
    with pytest.raises(ProgramError):
        Registry().link(tampered(stored, "ref act = action stored-tests:act", f"ref act = {ref}"))


@pytest.mark.parametrize(
    "ref",
    [
        "module os",
        "module random",
        "module asyncio",
        "object datetime:timedelta",
        "object decimal:Decimal",
        "object json:JSONDecodeError",
        "object tests.compiler.test_stored_programs:tampered",
        "object re:Match",
        "object re:compile",
        "object textwrap:dedent",
        "object holdfast:ActionTimeout",
    ],
)
def test_an_older_program_may_name_what_the_workers_own_code_vouches_for(stored: StoredProgram, ref: str) -> None:
    assert Registry().link(tampered(stored, "ref act = action stored-tests:act", f"ref act = {ref}"))


def test_a_signed_program_needs_nobody_else_to_vouch_for_it() -> None:
    registry = Registry(signing_key="key")
    signed = registry.stored(definition_of(Sound))
    text = signed.text.replace("ref act = action stored-tests:act", "ref act = object email.message:Message")
    changed = replace(signed, text=text, hash=program_hash(text))
    with pytest.raises(ProgramError, match="not signed"):
        registry.link(changed)
    assert registry.link(replace(changed, signature=registry._signature(text)))
    with pytest.raises(ProgramError, match="nothing here vouches"):
        Registry().link(changed)


def test_a_program_is_read_only_with_its_signature(stored: StoredProgram) -> None:
    assert Registry().read(stored).entry
    with pytest.raises(ProgramError, match="not signed"):
        Registry(signing_key="key").read(stored)


@pytest.mark.parametrize("name", ["_create_fn", "_os", "make_dataclass"])
def test_a_module_keeps_its_own_tools_to_itself(name: str) -> None:
    import dataclasses

    with pytest.raises(AttributeError):
        getattr(ModuleView(dataclasses), name)


@pytest.mark.parametrize("jump", [r"then b\d+ else", r"else b\d+", r"then b\d+ keep"])
def test_a_jump_out_of_the_function_is_refused(stored: StoredProgram, jump: str) -> None:
    found = re.search(jump, stored.text)
    assert found is not None
    with pytest.raises(ProgramError, match="jumps to a block that is not there"):
        Registry().link(tampered(stored, found[0], re.sub(r"\d+", "99", found[0])))


@pytest.mark.parametrize("text", ["", "holdfast program 9\n", "nonsense", "holdfast program 1\nworkflow x\n"])
def test_a_text_that_is_no_program_is_refused(stored: StoredProgram, text: str) -> None:
    with pytest.raises(ProgramError):
        Registry().link(replace(stored, text=text, hash=program_hash(text)))


def test_a_missing_function_is_refused(stored: StoredProgram) -> None:
    with pytest.raises(ProgramError, match="missing"):
        Registry().link(tampered(stored, "entry ", "entry gone."))


@pytest.mark.parametrize("name", ["system", "remove", "sys", "abc", "__builtins__", "popen"])
def test_a_module_gives_no_way_through_itself(name: str) -> None:
    with pytest.raises(AttributeError, match="closed|leads to another module"):
        getattr(ModuleView(os), name)


def test_a_module_gives_what_is_open_in_it() -> None:
    assert ModuleView(os).getcwd is os.getcwd
    assert ModuleView(os).path.basename is os.path.basename
    with pytest.raises(AttributeError, match="cannot assign"):
        ModuleView(os).environ = {}
