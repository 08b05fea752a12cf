"""A workflow class into a program: read, check, resolve, lower, keep what lives. Runs nothing of the user's."""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import inspect
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, cast

from holdfast.compiler.begin import CALLED, calling
from holdfast.compiler.blocks import finish
from holdfast.compiler.check import check
from holdfast.compiler.diagnostics import Problem, Problems, problem_at
from holdfast.compiler.dotted import compiled_in, rename_dotted
from holdfast.compiler.failures import exception_of
from holdfast.compiler.labels import Labels
from holdfast.compiler.liveness import function_variables, live_after_awaits
from holdfast.compiler.lower import Lowerer
from holdfast.compiler.names import Names, hidden_async
from holdfast.compiler.shared import assigned_attributes, shared_changes
from holdfast.compiler.source import Source, read_source
from holdfast.compiler.wrapping import (
    hides_async,
    is_async,
    librarys_wrapper,
    module_of,
    plain,
    title_of,
    users_own,
    wrapped_in,
)
from holdfast.ir.program import Function, Program, Ref
from holdfast.ir.scopes import every_node, own_nodes

_MISSING = object()
_SHARED = {
    "class": ("the class's", "assign it in `__init__`, so that each instance has its own"),
    "module": ("of the module", "keep it in `self` or a variable, or store it by an @action"),
    "default": ("a default, one for all calls", "let the default be None, and make a new one where it is"),
}
"""Whose something shared is, and what to do instead of changing it."""


def compile_workflow(cls: type, *, name: str, entry: str = "run", base: type = object) -> Program:
    """The program of `cls`, whose async methods up to `base` are compiled in.

    Raises CompileError with every problem found; its `problems` are all HF002 where only names were missing, which
    may be defined later in the module.
    """
    return _Compiler(cls, name=name, entry=entry, base=base).program()


class _Compiler:
    def __init__(self, cls: type, *, name: str, entry: str, base: type) -> None:
        self.cls = cls
        self.name = name
        self.entry = entry
        self.base = base
        self.problems = Problems()
        self.labels = Labels()
        self.names = Names(self.problems, self.labels)
        self.assigned = assigned_attributes(cls, base)
        self.functions: dict[str, Function] = {}
        self.stems: dict[tuple[str, str], str] = {}
        """The function of each beginning of names for defaults, in each space."""
        self.inherited: list[tuple[type, FunctionType]] = []
        """Methods that were called by the name of a base class, to be compiled in."""

    def program(self) -> Program:
        methods = async_methods(self.cls, self.base)
        entry = methods.get(self.entry)
        if entry is None:
            self._refuse_shape()
            raise AssertionError
        self._check_receiver(entry[1])
        self._check_slots(entry[1])
        for owner, function in methods.values():
            self._compile(function, owner)
        while self.names.functions or self.inherited:
            if self.inherited:
                owner, function = self.inherited.pop()
            else:
                function = self.names.functions.pop()
                owner = self._class_of(function)
            if self.labels.of(function) not in self.functions:
                self._compile(function, owner)
        label = self._entry(entry[1])
        self.problems.raise_if_any(f"workflow {self.name}")
        return Program(
            name=self.name,
            cls=f"{self.cls.__module__}:{self.cls.__qualname__}",
            functions=self.functions,
            refs={space: refs for space, refs in self.names.refs.items() if refs},
            consts={space: consts for space, consts in self.names.consts.items() if consts},
            entry=label,
            methods={attr: self.labels.of(function) for attr, (_, function) in methods.items()},
            statics=tuple(sorted(a for a, (cls, _) in methods.items() if isinstance(vars(cls)[a], staticmethod))),
            modules=self._modules(),
        )

    def _class_of(self, function: FunctionType) -> type | None:
        """The class among this one and its bases in whose body a function stands: a decorator may have taken it out."""
        title = title_of(function)
        mine = (cls for cls in self.cls.__mro__ if cls.__module__ == module_of(function))
        return next((cls for cls in mine if f"{cls.__qualname__}.{function.__name__}" == title), None)

    def _compile(self, function: FunctionType, owner: type | None) -> None:
        if librarys_wrapper(function):
            self._refuse_wrapper(function)
        else:
            self._function(read_source(function, name=self.labels.of(function), owner=owner))

    def _entry(self, function: FunctionType) -> str:
        """The label of what an instance begins with: `run`, or what calls its decorator's wrapper as it was asked to."""
        label = self.labels.of(function)
        asked, own = inspect.signature(function), inspect.signature(function, follow_wrapped=False)
        if [(p.name, p.kind) for p in asked.parameters.values()] == [(p.name, p.kind) for p in own.parameters.values()]:
            return label
        inner = next((each for each in wrapped_in(function) if isinstance(each, FunctionType)), function)
        made = calling(asked, function=inner, name=self.labels.another(f"{module_of(inner)}:{title_of(inner)}"))
        self.functions[made.name] = made
        self.names.refs[made.space] = {CALLED: Ref("function", label)}
        return made.name

    def _function(self, source: Source) -> None:
        """Compile one function into the program."""
        space = source.name if source.function.__code__.co_freevars else source.namespace
        lazy = check(source, self.problems, self.cls)
        self._check_shared(source)
        self._name_inherited(source, space)
        rename_dotted(source, functools.partial(self._dotted, source, space))
        self.names.resolve(source, space)
        suppressing = set(self._suppressing(source))
        lowerer = Lowerer(
            source.node, own=source.own, lazy=lazy, file=source.file, problems=self.problems, suppressing=suppressing
        )
        drafts = lowerer.lower()
        variables = lowerer.variables | {
            node.id
            for draft in drafts
            for stmt in draft.code
            for node in every_node(stmt)
            if isinstance(node, ast.Name) and node.id.startswith("_hf") and node.id[3:4].isdigit()
        }
        for draft in drafts:
            variables |= {v for v in (draft.catches, getattr(draft.end, "into", None)) if v}
        keeps = live_after_awaits(drafts, variables)
        functions = function_variables(drafts, variables)
        for index, keep in keeps.items():
            for variable in keep:
                if variable in functions:
                    self._refuse_function(functions[variable], variable, drafts[index].expr, source)
                if (over := lowerer.over.pop(variable, None)) is not None:
                    self._refuse_lazy(*over, drafts[index].expr, source)
        self.functions[source.name] = Function(
            name=source.name,
            title=source.title,
            space=space,
            params=self._params(source, space),
            file=source.file,
            line=source.node.lineno,
            variables=tuple(sorted(variables)),
            blocks=finish(drafts, keeps),
        )

    def _check_shared(self, source: Source) -> None:
        for change in shared_changes(source, self.cls, self.assigned):
            whose, hint = _SHARED[change.whose]
            message = f"`{change.name}` is {whose}: a change of it is seen by other instances, and not saved"
            self.problems.add(problem_at(change.node, source.file, code="HF010", message=message, hint=hint))

    def _suppressing(self, source: Source) -> Iterator[ast.withitem]:
        """What of its `with` statements is a call of `contextlib.suppress`, however that is named there."""
        for node in every_node(source.node):
            match node:
                case ast.withitem(ast.Call(func, _, [])) if source.meaning(func) is contextlib.suppress:
                    yield node
                case _:
                    pass

    def _name_inherited(self, source: Source, space: str) -> None:
        """Let `Base.method` and `super().method` mean that method: an async one is compiled in."""
        own = source.own
        for node in [inner for stmt in source.node.body for inner in own_nodes(stmt)]:
            match node:
                case ast.Call(ast.Attribute(ast.Name(name), attr) as func) if name not in own:
                    method = self._inherited(source, name, attr)
                    if method is not None:
                        node.func = self._compiled_in(method, f"_hfm_{name}_{attr}", space, func)
                case ast.Call(ast.Attribute(ast.Call(ast.Name("super"), [], []), attr)) if "super" not in own:
                    self._name_super(source, space, node, attr)
                case _:
                    pass

    def _compiled_in(self, method: tuple[type, FunctionType], label: str, space: str, place: ast.expr) -> ast.expr:
        """The name in `space` of an async method that is compiled in."""
        self.inherited.append(method)
        return self._named(Ref("function", self.labels.of(method[1])), label, space, place)

    def _dotted(self, source: Source, space: str, node: ast.Attribute, holder: object, root: object) -> ast.expr | None:
        """The name in `space` of what a dotted name leads to, if the program is to hold that by itself."""
        if not isinstance(holder, ModuleType | type):
            return None
        label = f"_hfm_{ast.unparse(node).replace('.', '_')}"
        value: object = getattr(holder, node.attr, _MISSING)
        ref = exception_of(value, root=root) if isinstance(root, ModuleType) else None
        if ref is None and (function := compiled_in(holder, node.attr)) is not None:
            self.names.functions.append(function)
            ref = Ref("function", self.labels.of(function))
        if ref is None and value is _MISSING and _is_half_read(holder):
            message = f"`{ast.unparse(node)}` is not defined"
            hint = f"define it in {holder.__name__}, which is still being imported"
            self.problems.add(problem_at(node, source.file, code="HF002", message=message, hint=hint))
        return None if ref is None else self._named(ref, label, space, node)

    def _named(self, ref: Ref, label: str, space: str, place: ast.expr) -> ast.expr:
        refs = self.names.refs.setdefault(space, {})
        while refs.get(label, ref) != ref:
            label += "_"
        refs[label] = ref
        return ast.copy_location(ast.Name(label, ast.Load()), place)

    def _name_super(self, source: Source, space: str, call: ast.Call, attr: str) -> None:
        """Let `super().attr(…)` call what comes next in the order of the class's bases; what is not known is refused later."""
        params = [*source.node.args.posonlyargs, *source.node.args.args]
        if source.owner is None or not params:
            return
        line = self.cls.__mro__
        after = line[line.index(source.owner) + 1 :] if source.owner in line else ()
        base = next((each for each in after if attr in vars(each)), None)
        if base is None or base in self.base.__mro__:
            return
        raw = vars(base)[attr]
        method = async_methods(base, self.base).get(attr)
        if method is not None and method[0] is base:
            call.func = self._compiled_in(method, f"_hfm_super_{attr}", space, call.func)
        elif isinstance(raw, FunctionType | staticmethod):
            label = f"_hfb_{base.__qualname__.replace('.', '_').replace('<locals>', '')}"
            self.names.declare(space, label, base, call, source, code="HF023")
            call.func = ast.copy_location(ast.Attribute(ast.Name(label, ast.Load()), attr, ast.Load()), call.func)
            ast.fix_missing_locations(call)
        else:
            return
        if not isinstance(raw, staticmethod):
            call.args.insert(0, ast.copy_location(ast.Name(params[0].arg, ast.Load()), call))

    def _inherited(self, source: Source, name: str, attr: str) -> tuple[type, FunctionType] | None:
        try:
            base = source.lookup(name)
        except LookupError:
            return None
        if not isinstance(base, type) or not issubclass(self.cls, base) or base in (object, self.base):
            return None
        if isinstance(inspect.getattr_static(base, attr, None), classmethod):
            return None
        return async_methods(base, self.base).get(attr)

    def _params(self, source: Source, space: str) -> str:
        """The parameter list without annotations; each default becomes the name of a captured constant."""
        args = copy.deepcopy(source.node.args)
        function = source.function
        for arg in every_node(args):
            if isinstance(arg, ast.arg):
                arg.annotation = None
        stem = self._stem(source, space)

        def constant(label: str, value: object, at: ast.AST) -> ast.expr:
            self.names.declare(space, label, value, at, source, code="HF019")
            return ast.Name(label, ast.Load())

        defaults = function.__defaults__ or ()
        args.defaults = [
            constant(f"{stem}_{i}", value, node)
            for i, (node, value) in enumerate(zip(args.defaults, defaults, strict=True))
        ]
        keyword: dict[str, Any] = cast(Any, function).__kwdefaults__ or {}
        args.kw_defaults = [
            node and constant(f"{stem}_{arg.arg}", keyword[arg.arg], node)
            for arg, node in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        ]
        return ast.unparse(args)

    def _stem(self, source: Source, space: str) -> str:
        """What the names of a function's defaults begin with in `space`."""
        stem = "_hfd_" + source.title.replace(".", "_").replace("<locals>", "")
        while self.stems.setdefault((space, stem), source.name) != source.name:
            stem += "_"
        return stem

    def _modules(self) -> tuple[str, ...]:
        found = {self.cls.__module__, *(name.partition(":")[0] for name in self.functions)}
        for refs in self.names.refs.values():
            for ref in refs.values():
                if ref.kind in ("object", "workflow") and ":" in ref.target:
                    found.add(ref.target.partition(":")[0])
                elif ref.kind == "module":
                    found.add(ref.target)
        return tuple(sorted(found - {"builtins"}))

    def _refuse_function(self, node: ast.AST, name: str, expr: ast.expr | None, source: Source) -> None:
        line = getattr(expr, "lineno", "?")
        self.problems.add(
            problem_at(
                node,
                source.file,
                code="HF011",
                message=f"`{name}` is a function that is still needed after the await in line {line}",
                hint="make it a method or a module-level function, or define it anew after the await",
            )
        )

    def _refuse_lazy(self, node: ast.expr, name: str, expr: ast.expr | None, source: Source) -> None:
        line = getattr(expr, "lineno", "?")
        message = f"a loop goes over `{name}(…)`, whose next items are still needed after the await in line {line}"
        hint = f"make it a list: list({name}(…))"
        self.problems.add(problem_at(node, source.file, code="HF012", message=message, hint=hint))

    def _refuse_wrapper(self, function: FunctionType) -> None:
        inner = next(each for each in wrapped_in(function) if isinstance(each, FunctionType) and users_own(each))
        self._refuse_definition(
            inner,
            code="HF004",
            message=f"`{inner.__qualname__}` has a decorator of an installed library, whose code is not compiled",
            hint="decorate an @action with it, or what an @action calls; a retry is an action's `retry=`",
        )

    def _refuse_definition(self, function: FunctionType, *, code: str, message: str, hint: str) -> None:
        """Where a function is defined, something is wrong with it as a whole."""
        where = function.__code__
        self.problems.add(
            Problem(code=code, message=message, file=where.co_filename, line=where.co_firstlineno, column=1, hint=hint)
        )

    def _check_receiver(self, function: FunctionType) -> None:
        first = next(iter(inspect.signature(function).parameters.values()), None)
        if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
            self._refuse_definition(
                function,
                code="HF020",
                message=f"`{self.entry}` of {self.cls.__qualname__} has no parameter for the workflow object",
                hint=f"write `async def {self.entry}(self, …)`, and `@functools.wraps` over the wrapper of its decorator",
            )

    def _check_slots(self, function: FunctionType) -> None:
        for cls in self.cls.__mro__:
            own: object = vars(cls).get("__slots__", ())
            names = [own] if isinstance(own, str) else [*cast("Iterable[str]", own)]
            if slots := [name for name in names if name not in ("__dict__", "__weakref__")]:
                self._refuse_definition(
                    function,
                    code="HF020",
                    message=f"`{cls.__qualname__}` keeps `{slots[0]}` in a slot, where no state is saved from",
                    hint="leave out `__slots__`: a workflow object has a `__dict__` in any case",
                )

    def _refuse_shape(self) -> None:
        found = inspect.getattr_static(self.cls, self.entry, None)
        if hides_async(found):
            inner = next(filter(is_async, wrapped_in(plain(found))))
            message, hint = hidden_async(self.entry)
            self._refuse_definition(inner, code="HF020", message=message, hint=hint)
            self.problems.raise_if_any(f"workflow {self.name}")
        file, line = "?", 1
        # A class made by exec(), or whose module is gone, has no source.
        with suppress(OSError, TypeError):
            file = inspect.getsourcefile(self.cls) or file
            line = inspect.getsourcelines(self.cls)[1]
        self.problems.add(
            Problem(
                code="HF020",
                message=f"{self.cls.__qualname__} has no `async def {self.entry}`",
                file=file,
                line=line,
                column=1,
                hint=f"add `async def {self.entry}(self, …)`",
            )
        )
        self.problems.raise_if_any(f"workflow {self.name}")


def async_methods(cls: type, base: type) -> dict[str, tuple[type, FunctionType]]:
    """The async methods of `cls` and its bases below `base`, by attribute name."""
    found: dict[str, tuple[type, FunctionType]] = {}
    for owner in reversed(cls.__mro__):
        if owner in base.__mro__:
            continue
        for name, raw in vars(owner).items():
            function: Any = None if isinstance(raw, classmethod) else plain(raw)
            # One that yields is taken too, so that its `yield` can be refused.
            waits = is_async(function) or inspect.isasyncgenfunction(function)
            # A class of a library that is mixed in knows nothing of workflows, and waits as it likes.
            if waits and (issubclass(owner, base) or users_own(function) or librarys_wrapper(function)):
                found[name] = (owner, function)
            elif name in found:
                del found[name]
    return found


def _is_half_read(holder: object) -> bool:
    """Whether it is a module that is still being imported, by which modules that import each other meet."""
    return isinstance(holder, ModuleType) and bool(getattr(holder.__spec__, "_initializing", False))


def only_undefined(problems: tuple[object, ...]) -> bool:
    """Whether nothing is wrong but names that may be defined later."""
    return bool(problems) and all(isinstance(p, Problem) and p.code == "HF002" for p in problems)
