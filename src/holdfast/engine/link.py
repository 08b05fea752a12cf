"""Programs into something that runs: each block one Python function over a frame. Checks first; resolves nothing."""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, cast

from holdfast.codec import decode
from holdfast.engine.frame import Vars
from holdfast.engine.guard import GuardedRewriter, check_file, check_params
from holdfast.engine.guarded import GUARD, GUARDED_BUILTINS
from holdfast.engine.rewrite import FRAME, Rewriter
from holdfast.errors import ProgramError
from holdfast.ir.first import first_action
from holdfast.ir.program import Await, Block, Branch, Function, Jump, Native, Next, Program, Raise, Ref, Return
from holdfast.ir.rules import ASKED_BY_INTERPRETER, BUILTINS, closed, hidden, hidden_attributes
from holdfast.ir.scopes import children, every_node

RETURNED = -1
AWAITS = -2

BlockFunction = Callable[[Vars], int | None]
Resolver = Callable[[Ref], object]
"""What a ref of the program stands for in this process. Raises ProgramError where there is nothing."""


@dataclass(frozen=True, slots=True)
class AwaitPoint:
    """Where a block waits: what becomes of the result, and what is still needed."""

    into: str | None
    to: int
    keep: frozenset[str]
    line: int


@dataclass(slots=True)
class LinkedFunction:
    """A function ready to run. Lists are indexed by block."""

    name: str
    title: str
    file: str
    line: int
    blocks: list[BlockFunction]
    awaits: list[AwaitPoint | None]
    handlers: list[int | None]
    catches: list[str | None]
    contexts: list[str | None]
    raises: list[str | None]
    touches: list[frozenset[str]]
    """The variables that running a block may change, or change something reachable from."""
    bind: Callable[..., dict[str, Any]]
    """The function's own parameter list: arguments to variables, with Python's errors."""


@dataclass(slots=True)
class LinkedProgram:
    """A program ready to run."""

    program: Program
    functions: dict[str, LinkedFunction]
    cls: type
    """The workflow's class, with its async methods made durable."""

    prompt: bool
    """Whether it begins with the call of an action that follows from the arguments alone, so that a repeated beginning
    makes the very same call."""

    named: dict[str, Callable[..., Any]]
    """The functions that it has a name for, by that name: the only ones that its variables may keep."""

    keys: dict[int, str]
    """Those names by the ids of the functions."""

    modules: dict[str, Any]
    """What it sees of the modules that it names."""

    receiver: str
    """What the entry function calls its workflow object: the name of its first parameter, `self` by custom."""

    @property
    def entry(self) -> LinkedFunction:
        return self.functions[self.program.entry]


def link(
    program: Program,
    *,
    resolve: Resolver,
    cls: Callable[[dict[str, Any]], type],
    kit: Mapping[str, Any],
    guarded: bool = False,
) -> LinkedProgram:
    """Make `program` runnable. `cls` makes the class from its durable methods, `kit` holds the compiler's own names.

    A `guarded` program reads and sets attributes through checks (`guard.py`).

    Raises ProgramError where a check fails or a ref leads nowhere.
    """
    check_program(program)
    spaces = {function.space: dict(kit) for function in program.functions.values()}
    table = SAFE_BUILTINS | GUARDED_BUILTINS if guarded else SAFE_BUILTINS
    for name, space in spaces.items():
        space["__builtins__"] = table
        space.update({const: decode(tree) for const, tree in program.consts.get(name, {}).items()})
        refs = program.refs.get(name, {})
        space.update(
            {
                label: table[ref.target] if ref.kind == "builtin" else _resolved(ref, resolve)
                for label, ref in refs.items()
                if ref.kind != "function"
            }
        )
        if guarded:
            space.update(GUARD)
    functions = {
        name: _function(function, spaces[function.space], guarded=guarded)
        for name, function in program.functions.items()
    }
    make_sub: Callable[[str, dict[str, Any]], Any] = kit["_hf_sub"]
    callers = {name: _caller(name, function, make_sub) for name, function in functions.items()}
    for name, space in spaces.items():
        refs = program.refs.get(name, {})
        space.update({label: callers[ref.target] for label, ref in refs.items() if ref.kind == "function"})
    methods: dict[str, Any] = {attr: callers[name] for attr, name in program.methods.items()}
    methods |= {attr: staticmethod(methods[attr]) for attr in program.statics}
    durable = cls(methods)
    receiver = program.functions[program.entry].params.split(",")[0].strip().rstrip("/").strip()
    objects, modules = (_meant(kind, program, spaces) for kind in ("object", "module"))
    everything = {
        **{f"function {name}": caller for name, caller in callers.items()},
        **{f"object {target}": found for target, found in objects.items()},
        **{f"builtin {name}": table[name] for name in BUILTINS & table.keys()},
    }
    named = {key: found for key, found in everything.items() if isinstance(found, FunctionType | BuiltinFunctionType)}
    return LinkedProgram(
        program,
        functions,
        durable,
        first_action(program) is not None,
        named,
        {id(function): name for name, function in named.items()},
        modules,
        receiver,
    )


def _meant(kind: str, program: Program, spaces: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """By target, what the refs of this kind mean."""
    return {
        ref.target: space[label]
        for name, space in spaces.items()
        for label, ref in program.refs.get(name, {}).items()
        if ref.kind == kind
    }


def _resolved(ref: Ref, resolve: Resolver) -> object:
    found = resolve(ref)
    if isinstance(found, ModuleType):
        # A module is reached by its own name, as a view of what is open in it.
        raise ProgramError(f"{ref.target} leads to the module {found.__name__!r}; import it by its own name")
    return found


def check_program(program: Program) -> None:
    """Refuse a program that reaches for more than a compiled one could."""
    for refs in program.refs.values():
        for name, ref in refs.items():
            if ref.kind == "object" and closed(ref.target):
                raise ProgramError(f"program {program.name}: the name {name!r} leads to {ref.target}, which is closed")
            if ref.kind not in ("action", "workflow", "object", "module", "function", "async", "exception", "builtin"):
                raise ProgramError(f"program {program.name}: the name {name!r} is of an unknown kind {ref.kind!r}")
            if ref.kind == "module" and closed(ref.target):
                raise ProgramError(f"program {program.name}: the name {name!r} leads to {ref.target}, which is closed")
            if ref.kind == "builtin" and (ref.target not in SAFE_BUILTINS or ref.target.startswith("_")):
                raise ProgramError(f"program {program.name}: the name {name!r} leads to {ref.target}, which is closed")
            if ref.kind == "function" and ref.target not in program.functions:
                raise ProgramError(f"program {program.name}: the function {ref.target!r} is missing")
    missing = [name for name in (program.entry, *program.methods.values()) if name not in program.functions]
    missing += [attribute for attribute in program.statics if attribute not in program.methods]
    if missing:
        raise ProgramError(f"program {program.name}: its functions {missing} are missing")
    for function in program.functions.values():
        count = len(function.blocks)
        for block in function.blocks:
            targets = [block.handler] if block.handler is not None else []
            match block.end:
                case Jump(to) | Await(_, _, to, _):
                    targets.append(to)
                case Branch(_, then, orelse):
                    targets += [then, orelse]
                case Next(_, _, body, done, _):
                    targets += [body, done]
                case _:
                    pass
            if any(not 0 <= to < count for to in targets):
                raise ProgramError(f"program {program.name}: {function.name} jumps to a block that is not there")


def _function(function: Function, space: dict[str, Any], *, guarded: bool) -> LinkedFunction:
    variables = frozenset(function.variables)
    if guarded:
        check_file(function.file)
    module = ast.Module([], [])
    touches: list[frozenset[str]] = []
    for index, block in enumerate(function.blocks):
        body, names = _block(block, GuardedRewriter(variables) if guarded else Rewriter(variables))
        touches.append(names)
        module.body.append(_define(f"b{index}", body, function.line))
    module.body.append(_binder(function, guarded=guarded))
    code = compile(module, function.file, "exec", dont_inherit=True)
    made: dict[str, Any] = {}
    # Functions keep `space` as their globals; their own definitions land in `made`.
    exec(code, space, made)
    blocks: list[BlockFunction] = []
    for index in range(len(function.blocks)):
        block_function = made[f"b{index}"]
        short = function.title.rpartition(".")[2]
        block_function.__code__ = block_function.__code__.replace(co_name=short, co_qualname=function.title)
        blocks.append(block_function)
    binder = made["bind"]
    binder.__code__ = binder.__code__.replace(co_name=function.title.rpartition(".")[2], co_qualname=function.title)
    binder.__qualname__ = function.title
    return LinkedFunction(
        name=function.name,
        title=function.title,
        file=function.file,
        line=function.line,
        blocks=blocks,
        awaits=[_await_point(block) for block in function.blocks],
        handlers=[block.handler for block in function.blocks],
        catches=[block.catches for block in function.blocks],
        contexts=[block.context for block in function.blocks],
        raises=[block.end.error if isinstance(block.end, Raise) else None for block in function.blocks],
        touches=touches,
        bind=binder,
    )


def _binder(function: Function, *, guarded: bool) -> ast.stmt:
    """A function with the parameter list of `function` that returns its arguments by name."""
    tree = ast.parse(f"def bind({function.params}): return {{}}").body[0]
    assert isinstance(tree, ast.FunctionDef)
    names = [arg.arg for arg in every_node(tree.args) if isinstance(arg, ast.arg)]
    tree.body = [ast.Return(ast.Dict([ast.Constant(n) for n in names], [ast.Name(n, ast.Load()) for n in names]))]
    _check_native(tree)
    if guarded:
        check_params(tree)
    return _locate(tree, function.line)


def _await_point(block: Block) -> AwaitPoint | None:
    if not isinstance(block.end, Await):
        return None
    return AwaitPoint(block.end.into, block.end.to, frozenset(block.end.keep), block.end.value.line)


def _caller(name: str, function: LinkedFunction, make_sub: Callable[[str, dict[str, Any]], Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return make_sub(name, function.bind(*args, **kwargs))

    call.__name__ = function.title.rpartition(".")[2]
    call.__qualname__ = function.title
    call.__module__ = name.partition(":")[0]
    return call


def _block(block: Block, rewriter: Rewriter) -> tuple[list[ast.stmt], frozenset[str]]:
    """A block as statements that return the number of the next one, RETURNED or AWAITS."""
    body: list[ast.stmt] = []
    names: set[str] = set()

    def take(native: Native, *, expression: bool) -> Any:
        try:
            tree = ast.parse(native.source, mode="eval" if expression else "exec")
        except SyntaxError as error:
            raise ProgramError(f"the stored program is damaged: {native.source[:60]!r} does not parse") from error
        nodes: list[Any] = [tree.body] if isinstance(tree, ast.Expression) else cast(ast.Module, tree).body
        for node in nodes:
            _relocate(node, native.lines)
            _check_native(node)
            rewriter.admit(node)
            names.update(inner.id for inner in every_node(node) if isinstance(inner, ast.Name))
            names.update(
                name
                for inner in every_node(node)
                for name in (getattr(inner, "name", None), getattr(inner, "rest", None))
                if isinstance(name, str)
            )
        return nodes[0] if expression else nodes

    for native in block.code:
        for stmt in take(native, expression=False):
            body += rewriter.statements([stmt])
    end = block.end
    line = block.code[-1].line if block.code else 1
    match end:
        case Jump(to):
            body.append(_returning(to, line))
        case Branch(test, then, orelse):
            tested = rewriter.visit(take(test, expression=True))
            choice = ast.IfExp(tested, ast.Constant(then), ast.Constant(orelse))
            body.append(_locate(ast.Return(choice), test.line))
        case Next(iterator, into, inside, done, at):
            names.update((iterator, into))
            loop = ast.parse(f"for {FRAME}[{into!r}] in {FRAME}[{iterator!r}]:\n  return {inside}\nreturn {done}").body
            body += [_locate(stmt, at) for stmt in loop]
        case Await(value, into, _, _):
            if into is not None:
                names.add(into)
            body += _giving(rewriter.visit(take(value, expression=True)), AWAITS, value.line)
        case Return(None):
            body += _giving(ast.Constant(None), RETURNED, line)
        case Return(value):
            assert value is not None
            body += _giving(rewriter.visit(take(value, expression=True)), RETURNED, value.line)
        case Raise(_):
            body.append(_returning(RETURNED, line))
    if block.catches:
        names.add(block.catches)
    return body, frozenset(names & rewriter.variables)


def _check_native(tree: ast.AST) -> None:
    for _, attribute in hidden_attributes(tree):
        raise ProgramError(f"the stored program reaches for the attribute {attribute!r}, which is closed")
    for node in every_node(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            raise ProgramError("the stored program imports, which is never compiled into one")
        for name in _names_in(node):
            if name == "__builtins__":
                raise ProgramError("the stored program reaches for the table of builtins, which is closed")
            if name == "__import__":
                raise ProgramError("the stored program reaches for the import function, which is closed")


def _names_in(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name):
            return [name]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return names
        case _:
            found = (getattr(node, "name", None), getattr(node, "rest", None))
            return [name for name in found if isinstance(name, str)]


def _returning(number: int, line: int) -> ast.stmt:
    return _locate(ast.Return(ast.Constant(number)), line)


def _giving(value: ast.expr, number: int, line: int) -> list[ast.stmt]:
    give = ast.Assign([ast.Attribute(ast.Name(FRAME, ast.Load()), "value", ast.Store())], value)
    return [_locate(give, line), _returning(number, line)]


def _define(name: str, body: list[ast.stmt], line: int) -> ast.stmt:
    args = ast.arguments([], [ast.arg(FRAME)], None, [], [], None, [])
    function = ast.FunctionDef(name, args, body, [])
    function.type_params = []  # type: ignore[attr-defined] - from Python 3.12 on
    return _locate(function, line)


def _locate(node: Any, line: int) -> Any:
    nodes: list[Any] = every_node(node)
    for inner in nodes:
        if "lineno" in inner._attributes and not hasattr(inner, "lineno"):
            inner.lineno = inner.end_lineno = line
            inner.col_offset = inner.end_col_offset = 0
    return node


def _relocate(node: ast.AST, lines: tuple[int, ...]) -> None:
    """Give each statement its line in the user's file, and all within it the same."""
    numbers = iter(lines)
    current = {id(node): lines[0]}
    for inner in every_node(node):
        line = current[id(inner)]
        if isinstance(inner, ast.stmt | ast.ExceptHandler):
            line = next(numbers, line)
        for child in children(inner):
            current[id(child)] = line
        if "lineno" in inner._attributes:
            placed = cast(Any, inner)
            placed.lineno = placed.end_lineno = line
            placed.col_offset = placed.end_col_offset = 0


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(target: Any, name: Any, *rest: Any) -> Any:
        if isinstance(name, str) and hidden(name):
            raise AttributeError(f"the attribute {name!r} is closed to workflow code")
        return function(target, name, *rest)

    guarded.__name__ = guarded.__qualname__ = function.__name__
    return guarded


def _safe_builtins() -> dict[str, Any]:
    table = {name: getattr(builtins, name) for name in BUILTINS if hasattr(builtins, name)}
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            table[name] = value
    for name in ("getattr", "setattr", "delattr", "hasattr"):
        table[name] = _guarded(getattr(builtins, name))
    table["__import__"] = _load_for_interpreter
    return table


def _load_for_interpreter(name: str, *_: object) -> None:
    """What the interpreter's own C code imports by, when workflow code calls it (`strftime` needs `time`).

    It finds its module in `sys.modules` afterwards, so that nothing need be given out here.
    """
    if name not in ASKED_BY_INTERPRETER:
        raise ImportError(
            f"the module {name!r} is closed to workflow code; import it at the top of the module", name=name
        )
    importlib.import_module(name)


SAFE_BUILTINS = _safe_builtins()
"""What workflow code finds behind its declared names."""
