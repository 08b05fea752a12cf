"""Refusals that need no lowering: generators, blocking calls, foreign awaits, forgotten awaits. Reads trees; changes none."""

from __future__ import annotations

import ast
import decimal
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

from holdfast.compiler.diagnostics import INSTEAD_OF_LOCK, Problems, instead_of_closed, problem_at
from holdfast.compiler.dotted import compiled_in
from holdfast.compiler.failures import closed_exception
from holdfast.compiler.forgotten import forgotten
from holdfast.compiler.names import hidden_async
from holdfast.compiler.source import Source
from holdfast.compiler.wrapping import action_of, hides_async, is_async, librarys_wrapper, plain, users_own
from holdfast.ir.rules import ASYNC_NAMES, CLOSED_BUILTINS, hidden_attributes, is_closed, module_chains
from holdfast.ir.scopes import every_node, own_nodes

_UNKNOWN = object()

_OF_FILES = frozenset({"read_bytes", "read_text", "write_bytes", "write_text"})
"""Methods that files are opened by, whatever has them; `Path(…)` itself is fine."""

_OF_PATHS = frozenset(
    """chmod exists glob hardlink_to is_dir is_file is_symlink iterdir lstat mkdir open readlink rename replace rglob
    rmdir stat symlink_to touch unlink walk""".split()  # noqa: SIM905 - a table is read more easily than a list
)
"""Methods of paths that ask the file system, and that other things have as well."""


def check(source: Source, problems: Problems, cls: type) -> Callable[[ast.expr], str | None]:
    """Collect what is wrong with `source`, a function of the workflow `cls`.

    Gives what tells of an expression how it is called if it gives an iterator that nothing can keep.
    """
    checker = _Checker(source, problems, cls)
    checker.run()
    return checker.lazy


class _Checker:
    def __init__(self, source: Source, problems: Problems, cls: type) -> None:
        self.source = source
        self.cls = cls
        self.problems = problems
        self.own = source.own

    def run(self) -> None:
        for stmt in self.source.node.body:
            for node in own_nodes(stmt):
                self._node(node)
            for node in every_node(stmt):
                self._deep(node)
        entry = self.source.owner is not None and self.source.node.name == "run"
        for each in forgotten(self.source.node, waits=self._waits, entry=entry):
            self._refuse(each.call, "HF024", f"`{ast.unparse(each.call.func)}(…)` {each.fate}", each.hint)
        for node, attribute in hidden_attributes(self.source.node):
            self._refuse(node, "HF013", f"`.{attribute}` is closed to workflow code", "read it in a helper function")
        for node, dotted in module_chains(self.source.node):
            self._asyncio(node, dotted)

    def _node(self, node: ast.AST) -> None:
        match node:
            case ast.Yield() | ast.YieldFrom():
                self._refuse(node, "HF003", "a workflow function cannot yield", "collect into a list and return it")
            case ast.Await(value):
                self._await(value)
            case ast.AsyncFor(iter=iterable) | ast.comprehension(iter=iterable, is_async=1):
                self._async_for(iterable)
            case ast.AsyncWith(items=items):
                for item in items:
                    self._async_with(item.context_expr)
            case ast.With(items=items):
                for item in items:
                    self._with(item.context_expr)
            case _:
                pass

    def _deep(self, node: ast.AST) -> None:
        """What is refused in nested functions as well."""
        match node:
            case ast.Name(name) if name.startswith("_hf") and name in self.own:
                self._refuse(node, "HF014", f"the name `{name}` is reserved", "choose another name")
            case ast.AsyncFunctionDef(name=name):
                self._refuse(
                    node,
                    "HF009",
                    f"`{name}` is an async function inside a function",
                    "make it a method or a module-level function",
                )
            case ast.ClassDef(name=name):
                self._refuse(node, "HF009", f"`{name}` is a class inside a function", "define it at module level")
            case ast.Import() | ast.ImportFrom():
                self._refuse(node, "HF015", "an import inside workflow code", "import at the top of the module")
            case ast.Global(names=names):
                listed = ", ".join(names)
                self._refuse(
                    node,
                    "HF010",
                    f"`global {listed}` in workflow code",
                    "keep it in `self` or a variable, or store it by an @action",
                )
            case ast.Nonlocal(names=names) if any(map(self._is_of_factory, names)):
                listed = ", ".join(filter(self._is_of_factory, names))
                self._refuse(
                    node,
                    "HF010",
                    f"`nonlocal {listed}` of the function around it, in workflow code",
                    "keep it in `self` or a variable, or store it by an @action",
                )
            case ast.Call(func):
                self._call(node, func)
            case _:
                pass

    def _is_of_factory(self, name: str) -> bool:
        return name in self.source.function.__code__.co_freevars

    # --- calls

    def _call(self, node: ast.Call, func: ast.expr) -> None:
        value = self._static(func)
        hint = self._instead_of_foreign(func)
        if hint is not None:
            self._refuse(node, "HF004", f"`{ast.unparse(func)}(…)` is async, and is not compiled in", hint)
            return
        if self._sets_context(func, value):
            self._refuse(
                node,
                "HF010",
                f"`{ast.unparse(func)}(…)` in workflow code: what it sets is not saved",
                "keep the value in `self` or a variable, and pass it on; an action may set it for itself",
            )
            return
        if value is _UNKNOWN and isinstance(func, ast.Attribute) and self._opens_file(func):
            self._refuse(
                node, "HF005", f"`{ast.unparse(func)}(…)` reads or writes files", "make it an @action, and await that"
            )
        if value is _UNKNOWN or (isinstance(func, ast.Name) and func.id in CLOSED_BUILTINS):
            return  # closed builtins are refused by name
        dotted = is_closed(value)
        if self._is_class_method(value):
            self._refuse(
                node,
                "HF004",
                f"`{ast.unparse(func)}(…)` is an async class method",
                "make it a method or a static method; what it needs of the class, `type(self)` has",
            )
        elif dotted is None and hides_async(value):
            self._refuse(node, "HF004", *hidden_async(f"{ast.unparse(func)}"))
        if dotted is not None and closed_exception(value) is None:
            self._refuse(node, "HF005", f"`{ast.unparse(func)}(…)` is a blocking or outside call", _instead(dotted))

    def _sets_context(self, func: ast.expr, value: object) -> bool:
        """Whether it gives a context variable, or the context of `decimal`, a value."""
        if isinstance(func, ast.Attribute) and func.attr in ("set", "reset"):
            return isinstance(self._static(func.value), ContextVar)
        return value is decimal.setcontext

    def _opens_file(self, method: ast.Attribute) -> bool:
        if method.attr in _OF_FILES:
            return not (isinstance(method.value, ast.Name) and method.value.id == "self")
        return method.attr in _OF_PATHS and self._is_path(method.value)

    def _is_path(self, node: ast.expr) -> bool:
        """Whether it surely is a path of `pathlib` that is in the file system."""
        match node:
            case ast.Call(func):
                made = self._static(func)
                return isinstance(made, type) and issubclass(made, Path)
            case ast.BinOp(left, ast.Div(), _):
                return self._is_path(left)
            case _:
                return isinstance(self._static(node), Path)

    def _instead_of_foreign(self, func: ast.expr) -> str | None:
        """What to write where an async function of yours is called through something that leaves it as it is."""
        if not isinstance(func, ast.Attribute):
            return None
        root = func.value
        while isinstance(root, ast.Attribute):
            root = root.value
        holder = self._static(func.value)
        if holder is _UNKNOWN or not isinstance(root, ast.Name) or root.id == "self":
            return None
        if isinstance(holder, ModuleType) or compiled_in(holder, func.attr) is not None:
            return None
        cls = cast(type, holder if isinstance(holder, type) else type(holder))
        raw = inspect.getattr_static(cls, func.attr, None)
        if cls in self.cls.__mro__ or not isinstance(raw, FunctionType | staticmethod | classmethod):
            return None
        if not is_async(plain(cast(object, raw))):
            return None
        return "call it inside an @action, and await that; or make it a function of the module, which is compiled in"

    def _is_class_method(self, value: Any) -> bool:
        """Whether it is an async class method of the workflow, as its object or its class gives it."""
        owner: Any = self.source.owner
        bound = inspect.ismethod(value) and owner is not None and value.__self__ in owner.__mro__
        return (bound or isinstance(value, classmethod)) and is_async(plain(cast(object, value)))

    def _waits(self, call: ast.Call) -> bool:
        """Whether a call gives something that must be awaited, as far as that is known."""
        match call.func:
            case ast.Attribute(ast.Call(made), "run" | "start"):
                return hasattr(self._static(made), "__holdfast_workflow__")
            case func:
                value = self._static(func)
        if value is _UNKNOWN:
            return False
        if action_of(value) is not None or hasattr(value, "__holdfast_awaitable__"):
            return True
        return inspect.iscoroutinefunction(plain(value))

    def _await(self, value: ast.expr) -> None:
        if not isinstance(value, ast.Call):
            self._await_uncalled(value)
            return
        func = self._static(value.func)
        if func is _UNKNOWN or action_of(func) is not None or hasattr(func, "__holdfast_awaitable__"):
            return
        if inspect.isfunction(func) or inspect.ismethod(func) or inspect.isbuiltin(func):
            module = getattr(func, "__module__", None) or ""
            if module.startswith("asyncio"):
                return
            if self._is_class_method(func) or self._instead_of_foreign(value.func) is not None:
                return  # refused as a call
            if is_async(func) and (users_own(func) or librarys_wrapper(func)):
                return
            if hides_async(func):
                return  # refused as a call already
            if not inspect.iscoroutinefunction(func) and not inspect.isbuiltin(func) and not is_closed(func):
                return  # a plain function may return a durable call
            if is_closed(func) and not inspect.iscoroutinefunction(func):
                return  # refused as a blocking call already
            self._refuse(
                value,
                "HF004",
                f"`{ast.unparse(value.func)}(…)` is not durable",
                "call it inside an @action, and await that",
            )

    def _await_uncalled(self, value: ast.expr) -> None:
        found = self._static(value)
        if found is not _UNKNOWN and (action_of(found) is not None or is_async(plain(found))):
            text = ast.unparse(value)
            self._refuse(value, "HF004", f"`{text}` is awaited without being called", f"await {text}(…)")

    def _async_for(self, iterable: ast.expr) -> None:
        if isinstance(iterable, ast.Call):
            func = self._static(iterable.func)
            if func is not _UNKNOWN and getattr(func, "__name__", "") != "as_completed":
                self._refuse(
                    iterable,
                    "HF008",
                    f"`async for` over `{ast.unparse(iterable.func)}(…)`",
                    "let an @action return a list, and loop over it",
                )

    def lazy(self, iterable: ast.expr) -> str | None:
        """How it is called if it surely gives an iterator that nothing can keep, such as a `map`; else None."""
        if not isinstance(iterable, ast.Call):
            return None
        made = self._static(iterable.func)
        if any(made is each for each in (enumerate, iter, zip)):
            return next(filter(None, map(self.lazy, iterable.args)), None)
        return ast.unparse(iterable.func) if _is_lazy(made) else None

    def _with(self, manager: ast.expr) -> None:
        value = self._static(manager)
        if is_closed(value):
            shown = ast.unparse(manager)
            self._refuse(manager, "HF005", f"`{shown}` is closed to workflow code", instead_of_closed(value))

    def _async_with(self, manager: ast.expr) -> None:
        if not isinstance(manager, ast.Call):
            self._with(manager)
            return
        func = self._static(manager.func)
        if func is _UNKNOWN:
            return
        if (getattr(func, "__module__", "") or "").startswith("asyncio") and getattr(func, "__name__", "") in (
            "timeout",
            "timeout_at",
            "TaskGroup",
        ):
            return
        self._refuse(
            manager,
            "HF007",
            f"`async with {ast.unparse(manager.func)}(…)` cannot be kept across steps",
            "open and use it inside one @action",
        )

    def _asyncio(self, node: ast.expr, dotted: str) -> None:
        """A name of asyncio without a counterpart, whichever way it was imported."""
        parts = dotted.split(".")
        if parts[0] in self.own:
            return
        root = self._lookup(parts[0])
        if isinstance(root, ModuleType) and root.__name__.partition(".")[0] == "asyncio":
            name = ".".join([*root.__name__.split(".")[1:], *parts[1:]])
            foreign = bool(name) and name.partition(".")[0] not in ASYNC_NAMES
        else:
            # What another module or a class holds of asyncio is asyncio's own, whatever it is called.
            found = next(filter(_is_asyncios, map(self._static, _prefixes(node))), None)
            name = getattr(found, "__name__", type(found).__name__)
            foreign = _is_asyncios(found) and (found is not root or name not in ASYNC_NAMES)
        if foreign and name in ASYNC_NAMES:
            hint = f"write `asyncio.{name}`, or import it from asyncio in the module of the workflow"
            self._refuse(node, "HF017", f"`{dotted}` is asyncio's own, and not its durable counterpart", hint)
        elif foreign:
            self._refuse(node, "HF017", f"`{dotted}` of asyncio has no durable counterpart", _instead_of(name))

    # --- what an expression means before anything runs

    def _static(self, node: ast.expr) -> object:
        match node:
            case ast.Name(name):
                return self._lookup(name)
            case ast.Attribute(ast.Name("self"), attr) if self.source.owner is not None:
                return inspect.getattr_static(self.source.owner, attr, _UNKNOWN)
            case ast.Attribute(ast.Call(ast.Name("super"), [], []), attr) if self.source.owner is not None:
                line = self.source.owner.__mro__[1:]
                return next((vars(base)[attr] for base in line if attr in vars(base)), _UNKNOWN)
            case ast.Attribute(value, attr):
                owner = self._static(value)
                if isinstance(owner, ModuleType | type):
                    return cast(object, getattr(owner, attr, _UNKNOWN))
                return _UNKNOWN
            case _:
                return _UNKNOWN

    def _lookup(self, name: str) -> object:
        if name in self.own:
            return _UNKNOWN
        try:
            return self.source.lookup(name)
        except LookupError:
            return _UNKNOWN

    def _refuse(self, node: ast.AST, code: str, message: str, hint: str) -> None:
        self.problems.add(problem_at(node, self.source.file, code=code, message=message, hint=hint))


def _is_lazy(made: object) -> bool:
    """Whether calling it gives an iterator that nothing can keep: of `itertools`, a `map`, a generator of the user's."""
    if made is map or made is filter or (inspect.isgeneratorfunction(plain(made)) and not _is_asyncios(made)):
        return True
    made = getattr(made, "__self__", made)  # `chain.from_iterable`
    return isinstance(made, type) and made.__module__ == "itertools"


def _prefixes(node: ast.expr) -> list[ast.expr]:
    """`a`, `a.b` and `a.b.c` of the last of them."""
    return [*_prefixes(node.value), node] if isinstance(node, ast.Attribute) else [node]


def _is_asyncios(value: object) -> bool:
    """Whether a function, class or object comes from asyncio and is more than an exception."""
    module = getattr(value, "__module__", None)
    if not isinstance(module, str) or module.partition(".")[0] not in ("asyncio", "_asyncio"):
        return False
    return not isinstance(value, BaseException) and not (isinstance(value, type) and issubclass(value, BaseException))


def _instead_of(name: str) -> str:
    """What to write for a name of asyncio."""
    match name:
        case "to_thread" | "threads.to_thread":
            return "make the function an @action, and await that: sync actions run in threads"
        case "run" | "runners.run" | "Runner" | "runners.Runner":
            return "await the call itself, or make it an @action"
        case "Lock" | "Semaphore" | "BoundedSemaphore" | "Condition":
            return INSTEAD_OF_LOCK
        case _:
            return "use gather, wait, TaskGroup, timeouts, tasks, or self.receive(…); or do it inside one @action"


def _instead(dotted: str) -> str:
    if dotted == "time.sleep":
        return "await asyncio.sleep(…), which is durable here"
    return "make it an @action, and await that"
