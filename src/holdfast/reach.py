"""What an unsigned program of the store may name here, beyond what this process has compiled itself. Runs and links nothing.

Whoever can write to the database can write programs. Without a signature, a name is good only if the worker's own code
vouches for it: it leads into the user's own modules, to something these modules use, to data, or to arithmetic.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from holdfast.compiler import LOCAL_OBJECTS
from holdfast.errors import CompileError, ProgramError
from holdfast.ids import ProgramHash
from holdfast.ir.program import Await, Branch, Native, Program, Ref, Return
from holdfast.ir.rules import BUILTINS
from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS, Definition, Workflow, definition_of

PLAIN_MODULES = frozenset(
    """asyncio base64 binascii bisect calendar cmath collections collections.abc colorsys copy dataclasses datetime decimal
    difflib enum fractions functools hashlib heapq hmac html ipaddress itertools json math numbers operator posixpath
    random re secrets statistics string struct textwrap time traceback types typing unicodedata urllib.parse uuid
    zlib zoneinfo _decimal _random _operator _collections _functools _struct _hashlib""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Modules that only compute; single names in them are closed all the same (`ir/rules.py`)."""


def check_reach(program: Program, *, hash: ProgramHash, find: Callable[[str], object]) -> None:
    """Raise ProgramError for a name that nothing here vouches for. `find` gives the object of a target."""
    current = WORKFLOWS.get(program.name)
    if current is not None and any(definition.hash == hash for definition in _definitions([current])):
        return
    definitions = list(_definitions(WORKFLOWS.values()))
    compiled = {ref for each in definitions for refs in each.program.refs.values() for ref in refs.values()}
    own = _own_packages()
    for refs in program.refs.values():
        for name, ref in refs.items():
            if ref.kind in ("module", "object") and ref not in compiled and not _vouched(ref, own, find):
                raise ProgramError(
                    f"program {program.name}: nothing here vouches for the name {name!r} ({ref.target}): no module of yours "
                    "uses it, and the program is not signed; import it in the module of the workflow, or set "
                    "HOLDFAST_SIGNING_KEY wherever workflows are started and run"
                )
    for space, native in _natives(program):
        try:
            tree = ast.parse(native.source)
        except SyntaxError as error:
            raise ProgramError(f"the stored program is damaged: {native.source[:60]!r} does not parse") from error
        _check_patterns(tree, frozenset(program.refs.get(space, {})), program.name)


def _definitions(classes: Iterable[type[Workflow]]) -> Iterator[Definition[Any]]:
    for cls in list(classes):
        try:
            yield definition_of(cls)
        except CompileError:
            # Whoever starts it is told.
            continue


def _own_packages() -> frozenset[str]:
    """The top-level packages that define workflows and actions: the user's own source."""
    modules = {cls.__module__ for cls in WORKFLOWS.values()}
    modules |= {getattr(action.function, "__module__", "") for action in ACTIONS.values()}
    return frozenset(module.partition(".")[0] for module in modules) - {"", "holdfast"}


def _vouched(ref: Ref, own: frozenset[str], find: Callable[[str], object]) -> bool:
    module, _, _ = ref.target.partition(":")
    if module.partition(".")[0] in own or module in PLAIN_MODULES or ref.target in LOCAL_OBJECTS:
        return True
    if ref.kind == "module":
        found: object = sys.modules.get(module)
        return found is not None and _used(found, own)
    if module.partition(".")[0] == "holdfast":
        # The registry lets through what is public, and data.
        return True
    found = find(ref.target)
    return _is_data(found) or _used(found, own)


def _used(found: object, own: frozenset[str]) -> bool:
    """Whether a loaded module of the user's holds this very object under some name."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own:
            held: list[object] = list(getattr(module, "__dict__", {}).values())
            if any(value is found for value in held):
                return True
    return False


def _is_data(found: object) -> bool:
    if not inspect.isclass(found):
        return False
    named_tuple = "_fields" in vars(found) and tuple in found.__mro__
    return named_tuple or dataclasses.is_dataclass(found) or issubclass(found, BaseException | enum.Enum | BaseModel)


def _natives(program: Program) -> Iterator[tuple[str, Native]]:
    for function in program.functions.values():
        for block in function.blocks:
            for native in block.code:
                yield function.space, native
            match block.end:
                case Branch(test=native) | Await(value=native) | Return(value=Native() as native):
                    yield function.space, native
                case _:
                    pass


def _check_patterns(tree: ast.AST, refs: frozenset[str], program: str) -> None:
    """`case Thing(x)` reads the attributes that the class names: only a declared class may say which."""
    bound = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.MatchClass) or not node.patterns:
            continue
        root: ast.expr = node.cls
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id in bound or root.id not in refs | BUILTINS:
            raise ProgramError(
                f"program {program}: a pattern names a class that is not declared: {ast.unparse(node.cls)}"
            )
