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
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, cast

from pydantic import BaseModel

from holdfast.compiler import LOCAL_OBJECTS
from holdfast.errors import CompileError, ProgramError
from holdfast.ids import ProgramHash
from holdfast.ir.plain import PLAIN_NAMES, is_accelerator, is_plain
from holdfast.ir.program import Await, Branch, Function, Native, Program, Ref, Return
from holdfast.ir.rules import BUILTINS, module_chains
from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS, Definition, Workflow, definition_of

_KIT_OF_HOLDFAST = frozenset(
    """holdfast.codec.tracebacks:traceback_of
    holdfast.retry:RetryPolicy holdfast.retry:BackoffPolicy holdfast.retry:RetryMode
    holdfast.model.instance:Status holdfast.schedules.spec:CatchUp holdfast.schedules.spec:Overlap""".split()  # noqa: SIM905
)
"""What of Holdfast a workflow may rightly name, apart from its exceptions."""

_LIBRARIES = frozenset({"asyncio", "holdfast", "pydantic", "pydantic_core", "pydantic_settings"})
"""Packages whose classes are machinery, even where they are data by their form."""


_CLASS_MAKERS = frozenset({"typing:NamedTuple", "typing:TypedDict", "types:new_class", "dataclasses:make_dataclass"})
_ASYNC_DUNDERS = frozenset({"__call__", "__aenter__", "__aexit__"})


def is_compiled_here(program: Program, *, hash: ProgramHash) -> bool:
    """Whether this very program is the one that this process has compiled from the workflow's source."""
    current = WORKFLOWS.get(program.name)
    return current is not None and any(definition.hash == hash for definition in _definitions([current]))


def check_reach(program: Program, reach: Reach) -> None:
    """Raise ProgramError for a name of the program that nothing here vouches for."""
    for module in program.modules:
        if not reach.may_import(module):
            raise _unknown(program.name, module, "a module that is not loaded")
    for refs in program.refs.values():
        for name, ref in refs.items():
            if ref.kind in ("module", "object") and not reach.vouches(ref):
                raise _unknown(program.name, name, ref.target)
    for attribute in program.methods:
        if attribute.startswith("__") and attribute.endswith("__") and attribute not in _ASYNC_DUNDERS:
            raise ProgramError(f"program {program.name}: its method {attribute} would change what the class is")
    for function, native in _natives(program):
        try:
            tree = ast.parse(native.source)
        except SyntaxError as error:
            raise ProgramError(f"the stored program is damaged: {native.source[:60]!r} does not parse") from error
        refs = program.refs.get(function.space, {})
        _check_patterns(tree, frozenset(refs), program.name)
        for _, dotted in module_chains(tree):
            root, *parts = dotted.split(".")
            ref = refs.get(root)
            if root not in function.variables and ref is not None and ref.kind == "module" and ref.target != "asyncio":
                _check_chain(program.name, ref.target, parts, reach)


def _check_chain(program: str, module: str, parts: list[str], reach: Reach) -> None:
    for part in parts:
        if not reach.vouches_attribute(module, part):
            raise _unknown(program, f"{module}.{part}", "an attribute")
        found = getattr(sys.modules.get(module), part, None)
        if not isinstance(found, ModuleType):
            return
        module = found.__name__


class Reach:
    """What this process vouches for, by what it has loaded and compiled. `find` gives the object of a target."""

    def __init__(self, find: Callable[[str], object]) -> None:
        self._find = find
        definitions = list(_definitions(WORKFLOWS.values()))
        self._compiled = {ref for each in definitions for refs in each.program.refs.values() for ref in refs.values()}
        self._own = _own_packages()
        self._held: dict[int, object] = {}
        self._seen = 0

    def may_import(self, module: str) -> bool:
        """Whether a module is loaded, or may be: importing one runs it."""
        known = module in sys.modules or module in PLAIN_NAMES or is_accelerator(module)
        return known or module.partition(".")[0] in self._own

    def vouches(self, ref: Ref) -> bool:
        """Whether a program may hold what the ref names."""
        if ref in self._compiled or ref.target in LOCAL_OBJECTS:
            return True
        module, _, name = ref.target.partition(":")
        top = module.partition(".")[0]
        if ref.kind == "module":
            listed = top in self._own or module == "asyncio" or module in PLAIN_NAMES
            return listed or self._uses(sys.modules.get(module))
        if is_plain(module, name) or ref.target in _KIT_OF_HOLDFAST:
            return True
        if not self.may_import(module):
            return False
        found = self._find(ref.target)
        if _is_machinery(found) or (top == "holdfast" and not _is_exception(found)):
            return False
        if top in self._own or _is_exception(found) or self._uses(found):
            return True
        library = top in _LIBRARIES or top in sys.stdlib_module_names
        return _is_full_enum(found) or (not library and _is_data(found))

    def vouches_attribute(self, module: str, name: str) -> bool:
        """Whether a program that holds a module may read this of it."""
        top = module.partition(".")[0]
        found = getattr(sys.modules.get(module), name, None)
        if found is None or is_plain(module, name) or f"{module}:{name}" in _KIT_OF_HOLDFAST:
            # Where there is nothing, reading it says what is missing.
            return True
        if isinstance(found, ModuleType):
            part = found.__name__
            return top not in sys.stdlib_module_names or part in PLAIN_NAMES or self._uses(found)
        if _is_machinery(found) or (top == "holdfast" and not _is_exception(found)):
            return False
        return module not in PLAIN_NAMES or _is_exception(found) or _is_full_enum(found) or self._uses(found)

    def _uses(self, found: object) -> bool:
        """Whether a loaded module of the user's holds this very object under some name."""
        if self._seen != len(sys.modules):
            # Objects are held beside their ids, which so stay theirs.
            self._held = {id(value): value for value in _held_by(self._own)}
            self._seen = len(sys.modules)
        return found is not None and id(found) in self._held


def _unknown(program: str, name: str, target: str) -> ProgramError:
    return ProgramError(
        f"program {program}: nothing here vouches for the name {name!r} ({target}): no module of yours "
        "uses it, and the program is not signed; import it in the module of the workflow, or set "
        "HOLDFAST_SIGNING_KEY wherever workflows are started and run"
    )


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


def _held_by(packages: frozenset[str]) -> Iterator[object]:
    """All that the loaded modules of these packages have a name for."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages:
            yield from list(getattr(module, "__dict__", {}).values())


def _is_data(found: object) -> bool:
    if not inspect.isclass(found):
        return False
    named_tuple = "_fields" in vars(found) and tuple in found.__mro__
    return named_tuple or dataclasses.is_dataclass(found) or issubclass(found, enum.Enum | BaseModel)


def _is_exception(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, BaseException)


def _is_full_enum(found: object) -> bool:
    """Whether it is an enum with members: one without makes classes when it is called."""
    return inspect.isclass(found) and issubclass(found, enum.Enum) and len(found) > 0


def _is_machinery(found: object) -> bool:
    """Whether calling it makes loops, evaluates annotations or makes classes, whoever holds it."""
    if not isinstance(found, type | FunctionType | BuiltinFunctionType) or _is_exception(found) or found is BaseModel:
        return False
    module = getattr(found, "__module__", None) or ""
    if module.partition(".")[0] in ("asyncio", "pydantic", "pydantic_core"):
        return True
    if inspect.isclass(found):
        return issubclass(found, type) or (issubclass(found, enum.Enum) and not _is_full_enum(found))
    return f"{module}:{cast(Any, found).__qualname__}" in _CLASS_MAKERS


def _natives(program: Program) -> Iterator[tuple[Function, Native]]:
    for function in program.functions.values():
        for block in function.blocks:
            for native in block.code:
                yield function, native
            match block.end:
                case Branch(test=native) | Await(value=native) | Return(value=Native() as native):
                    yield function, native
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
