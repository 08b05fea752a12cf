"""A function's syntax tree with the line and column numbers of its file. Reads source; decides nothing."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, cast

from holdfast.compiler.diagnostics import Problem, compile_error
from holdfast.compiler.wrapping import class_around, title_of
from holdfast.ir.scopes import bound_names, every_node


@dataclass(frozen=True, slots=True)
class Source:
    """One async function as syntax, with what its free names mean."""

    name: str
    """`module:qualname`, unique in the program."""
    title: str
    """The function's name where it stands."""
    node: ast.AsyncFunctionDef
    file: str
    function: FunctionType
    owner: type | None
    """The class it is a method of."""
    own: frozenset[str]
    """The names that it binds in its own scope."""

    @property
    def namespace(self) -> str:
        """The module whose globals it sees."""
        return self.name.partition(":")[0]

    def lookup(self, name: str) -> object:
        """What a free name means here and now. Raises LookupError if nothing."""
        code = self.function.__code__
        if name in code.co_freevars:
            cell = (self.function.__closure__ or ())[code.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:
                raise LookupError(name) from None
        space: dict[str, Any] = cast(Any, self.function).__globals__
        if name in space:
            return space[name]
        builtins: Any = space["__builtins__"]
        table = cast("dict[str, Any]", builtins if isinstance(builtins, dict) else vars(builtins))
        if name in table:
            return table[name]
        raise LookupError(name)

    def meaning(self, node: ast.expr, bound: Sequence[Collection[str]] | None = None) -> object:
        """What a dotted name stands for, as far as that can be told without running anything; else None.

        `bound` are the names that the scopes around the place bind, by default those of the function.
        """
        match node:
            case ast.Name(name) if not any(name in names for names in bound or (self.own,)):
                with suppress(LookupError):
                    return self.lookup(name)
                return None
            case ast.Attribute(value, attr):
                owner = self.meaning(value, bound)
                return getattr(owner, attr, None) if isinstance(owner, ModuleType | type) else None
            case _:
                return None


def read_source(function: FunctionType, *, name: str, owner: type | None = None) -> Source:
    """The syntax tree of an `async def`, which the program calls `name`."""
    plain = itself(function)
    file = inspect.getsourcefile(plain) or plain.__code__.co_filename
    try:
        lines, first = inspect.getsourcelines(plain)
    except (OSError, TypeError) as error:
        problem = Problem(
            code="HF001",
            message=f"the source of {name} cannot be read",
            file=file,
            line=plain.__code__.co_firstlineno,
            column=1,
            hint="define it in a file (not in exec() or a REPL), and ship that file with the application",
        )
        raise compile_error(name, [problem]) from error
    tree = parsed("".join(lines))
    if not isinstance(tree, ast.AsyncFunctionDef):
        problem = Problem(
            code="HF020",
            message=f"{name} is not an `async def`",
            file=file,
            line=first,
            column=tree.col_offset + 1,
            hint="write it as `async def`",
        )
        raise compile_error(name, [problem])
    for node in every_node(tree):
        if hasattr(node, "lineno"):
            node.lineno += first - 1  # type: ignore[attr-defined]
            node.end_lineno += first - 1  # type: ignore[attr-defined]
    cls = class_around(function)
    if cls is not None:
        mangle(tree, cls)
    own = frozenset(bound_names(tree.body, tree.args))
    return Source(name, title_of(function), tree, file, function, owner, own)


def parsed(text: str) -> ast.stmt:
    """The first statement of a text that may stand further in: its strings as they are, whatever lines they go over."""
    if not text[:1].isspace():
        return ast.parse(text).body[0]
    (around,) = ast.parse(f"if 1:\n{text}").body
    assert isinstance(around, ast.If)
    return ast.increment_lineno(around.body[0], -1)


def itself(function: FunctionType) -> FunctionType:
    """The function without the mark by which `inspect` would look at what it wraps instead."""
    if "__wrapped__" not in vars(function):
        return function
    return FunctionType(function.__code__, cast(Any, function).__globals__, closure=function.__closure__)


def mangle(tree: ast.AST, cls: str) -> None:
    """Private names (`__x`) inside a class mean `_Class__x`; compiled outside of it they must say so."""
    prefix = "_" + cls.lstrip("_")

    def mangled(name: str) -> str:
        return prefix + name if name.startswith("__") and not name.endswith("__") else name

    for node in every_node(tree):
        match node:
            case ast.Attribute():
                node.attr = mangled(node.attr)
            case ast.Name():
                node.id = mangled(node.id)
            case ast.arg():
                node.arg = mangled(node.arg)
            case _:
                pass
