"""What the global names of a function mean: captured constants, refs to import, functions to compile in."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from holdfast.codec import encode
from holdfast.compiler.diagnostics import Problems, instead_of_closed, problem_at
from holdfast.compiler.failures import closed_exception
from holdfast.compiler.labels import Labels
from holdfast.compiler.objects import local_target, object_of, reachable, target_of
from holdfast.compiler.source import Source
from holdfast.compiler.wrapping import (
    action_of,
    behind_static,
    binds_async,
    hides_async,
    is_async,
    librarys_wrapper,
    users_own,
)
from holdfast.errors import EncodeError, ProgramError
from holdfast.ir.program import Ref
from holdfast.ir.rules import BUILTINS, CLOSED_BUILTINS, closed, is_closed, open_builtin
from holdfast.ir.scopes import bound_names, children, comprehension_targets, every_node, parameters

_MISSING = object()


@dataclass(slots=True)
class Names:
    """What was found out about the names of one program."""

    problems: Problems
    labels: Labels
    refs: dict[str, dict[str, Ref]] = field(default_factory=dict[str, dict[str, Ref]])
    consts: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    functions: list[FunctionType] = field(default_factory=list[FunctionType])
    """Async functions met on the way, to be compiled in."""

    def resolve(self, source: Source, space: str) -> None:
        """Classify every free name of `source`."""
        done = self.refs.setdefault(space, {}), self.consts.setdefault(space, {})
        # Refused where they are declared.
        globals = {name for node in every_node(source.node) if isinstance(node, ast.Global) for name in node.names}
        for node in _free(source.node.body, set(source.own)):
            if node.id in done[0] or node.id in done[1] or node.id in globals:
                continue
            self._classify(node, source, space)

    def declare(self, space: str, name: str, value: object, at: ast.AST, source: Source, *, code: str) -> None:
        """Give `name` in `space` the meaning of `value`."""
        if hides_async(value):
            self._refuse(at, source, "HF004", *hidden_async(name))
            return
        if binds_async(value):
            message = f"`{name}` is an async function with something put into it, and is not compiled in"
            self._refuse(at, source, "HF004", message, "write an `async def` that calls it so, which is compiled in")
            return
        exception = closed_exception(value)
        if exception is not None:
            self.refs.setdefault(space, {})[name] = exception
            return
        match meaning_of(value, name=name, module=source.namespace):
            case Ref("object" | "module") as ref if (ref.kind == "module" and closed(ref.target)) or is_closed(value):
                # Loading the program would refuse it.
                self._refuse(at, source, "HF005", f"`{name}` is closed to workflow code", instead_of_closed(value))
            case Ref("object") as ref if not _leads(ref):
                self._refuse(
                    at, source, "HF005", f"`{name}` holds what is closed to workflow code", "use it in an @action"
                )
            case Ref() as ref:
                self.refs.setdefault(space, {})[name] = ref
            case FunctionType() as function:
                self.refs.setdefault(space, {})[name] = Ref("function", self.labels.of(function))
                self.functions.append(function)
            case Constant(tree):
                self.consts.setdefault(space, {})[name] = tree
            case str(reason):
                self.problems.add(
                    problem_at(
                        at,
                        source.file,
                        code=code,
                        message=f"`{name}` holds {reason}",
                        hint="define it at module level under this name, or make it inside a helper function or @action",
                    )
                )

    def _classify(self, node: ast.Name, source: Source, space: str) -> None:
        name = node.id
        if name.startswith("_hf"):
            self._refuse(node, source, "HF014", f"the name `{name}` is reserved", "choose another name")
            return
        try:
            value = source.lookup(name)
        except LookupError:
            self._refuse(
                node, source, "HF002", f"the name `{name}` is not defined", "define or import it in this module"
            )
            return
        if getattr(builtins, name, _MISSING) is value:
            if name in CLOSED_BUILTINS:
                self._refuse(node, source, "HF018", f"`{name}` is closed to workflow code", CLOSED_BUILTINS[name])
            elif name == "super":
                hint = "call a method at once, `super().method(…)`, or name the class: `Base.method(self, …)`"
                self._refuse(node, source, "HF021", "`super()` is used for more than the call of a method", hint)
            elif name not in BUILTINS and open_builtin(value) is None:
                self._refuse(node, source, "HF018", f"`{name}` is closed to workflow code", "use it in an @action")
            return
        self.declare(space, name, value, node, source, code="HF023")

    def _refuse(self, node: ast.AST, source: Source, code: str, message: str, hint: str) -> None:
        self.problems.add(problem_at(node, source.file, code=code, message=message, hint=hint))


def hidden_async(called: str) -> tuple[str, str]:
    """What to say of an async function in a decorator that is not async."""
    return (
        f"`{called}` is an async function that a decorator has put into one that is not async",
        "let the decorator return an `async def`, which is compiled in, or take it off",
    )


@dataclass(frozen=True, slots=True)
class Constant:
    """A value captured at compile time, encoded."""

    tree: Any


def meaning_of(value: object, *, name: str, module: str) -> Ref | FunctionType | Constant | str:
    """A ref, a function to compile in, a constant, or in words what it is that is none of these."""
    if (action := action_of(value)) is not None:
        return Ref("action", action)
    if (builtin := open_builtin(value)) is not None:
        return Ref("builtin", builtin)
    if isinstance(value, type) and hasattr(value, "__holdfast_workflow__"):
        return Ref("workflow", target_of(value) or local_target(value))
    if isinstance(value, ModuleType):
        return Ref("module", value.__name__)
    if isinstance(value, FunctionType | BuiltinFunctionType) and _is_asyncios(value):
        return Ref("async", value.__name__)
    if isinstance(value, type) and value in (asyncio.TaskGroup, asyncio.Timeout, asyncio.Task, asyncio.Future):
        return Ref("async", value.__name__)
    function = behind_static(value)
    if is_async(function) and (users_own(function) or librarys_wrapper(function)):
        return function
    if inspect.iscoroutinefunction(value):
        return Ref("object", target_of(value) or f"{module}:{name}")
    if isinstance(value, type) or callable(value):
        if target := target_of(value):
            return Ref("object", target)
        if reachable(module, name) is value:
            return Ref("object", f"{module}:{name}")
        return Ref("object", local_target(value))
    try:
        return Constant(encode(value))
    except EncodeError:
        if reachable(module, name) is value:
            return Ref("object", f"{module}:{name}")
        return f"an object of type {type(value).__qualname__}, which can be neither saved nor imported by name"


def _leads(ref: Ref) -> bool:
    """Whether a worker will find what the ref of an object names."""
    try:
        object_of(ref.target)
    except ProgramError:
        return False
    return True


def _is_asyncios(value: FunctionType | BuiltinFunctionType) -> bool:
    return (getattr(value, "__module__", None) or "").split(".")[0] in ("asyncio", "_asyncio")


def _free(nodes: list[ast.stmt] | list[ast.AST], bound: set[str]) -> Iterator[ast.Name]:
    """The names in these that are not bound, in order, each occurrence."""
    for node in nodes:
        yield from _free_in(node, bound)


def _free_in(node: ast.AST, bound: set[str]) -> Iterator[ast.Name]:
    match node:
        case ast.Name(name):
            if name not in bound:
                yield node
        case ast.FunctionDef() | ast.Lambda():
            args = node.args
            for outer in [*args.defaults, *(d for d in args.kw_defaults if d), *getattr(node, "decorator_list", [])]:
                yield from _free_in(outer, bound)
            body: list[ast.AST] = list(node.body) if isinstance(node, ast.FunctionDef) else [node.body]
            yield from _free(body, bound | bound_names(body) | set(parameters(args)))
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            inner = bound | comprehension_targets(node)
            yield from _free_in(node.generators[0].iter, bound)
            for i, generator in enumerate(node.generators):
                if i:
                    yield from _free_in(generator.iter, inner)
                for test in generator.ifs:
                    yield from _free_in(test, inner)
            for elt in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                yield from _free_in(elt, inner)
        case ast.AnnAssign(target, _, value):
            yield from _free_in(target, bound)
            if value is not None:
                yield from _free_in(value, bound)
        case _:
            for child in children(node):
                yield from _free_in(child, bound)
