"""Statements into blocks. Each statement kind is named; whatever is not named is refused. Resolves no names."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Collection, Sequence

from holdfast.compiler.blocks import Builder, Draft
from holdfast.compiler.diagnostics import Problems, Refused, refuse
from holdfast.compiler.handlers import lower_suppress, lower_try, lower_with
from holdfast.compiler.lift import Lifter
from holdfast.compiler.pieces import at, load
from holdfast.compiler.syntax import captured, escapes, waits
from holdfast.compiler.ways import Loop, Ways
from holdfast.ir.scopes import every_node, parameters


class Lowerer:
    """Lowers the body of one async function."""

    def __init__(
        self,
        node: ast.AsyncFunctionDef,
        *,
        own: Collection[str],
        lazy: Callable[[ast.expr], str | None],
        file: str,
        problems: Problems,
        suppressing: Collection[ast.withitem] = (),
    ) -> None:
        self.node = node
        self.suppressing = suppressing
        """What of `with` statements just suppresses exceptions."""
        self.lazy = lazy
        self.over: dict[str, tuple[ast.expr, str]] = {}
        """What loops go over that cannot be kept, by the variables of their iterators, and how it is called."""
        self.file = file
        self.problems = problems
        self.build = Builder()
        params = set(parameters(node.args))
        self.variables = set(own)
        unbound = {name for s in node.body for n in every_node(s) if (name := _unbinds(n)) is not None}
        self.lifter = Lifter(
            self.build,
            file=file,
            variables=self.variables,
            bound=params - unbound,
            shared={name for n in every_node(node) if isinstance(n, ast.Nonlocal) for name in n.names},
            statement=self.statement,
        )
        self.ways = Ways(self.build, node)

    def lower(self) -> list[Draft]:
        """The function's blocks, still as syntax."""
        body = self.node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:]
        self.body(body)
        self.build.returns(None)
        return self.build.drafts

    def body(self, stmts: Sequence[ast.stmt]) -> None:
        for stmt in stmts:
            try:
                self.statement(stmt)
            except Refused as refused:
                self.problems.add(refused.problem)

    def statement(self, stmt: ast.stmt) -> None:
        if self._native(stmt):
            self.build.emit(stmt)
            return
        match stmt:
            case ast.Expr(value):
                self._expression(value)
            case ast.Assign(targets, value):
                self._assign(targets, value, stmt)
            case ast.AnnAssign(target, _, value):
                if value is not None:
                    self._assign([target], value, stmt)
                else:
                    self._annotated(target)
            case ast.AugAssign(target, op, value):
                self._augmented(target, op, value, stmt)
            case ast.Return(value):
                self._return(value)
            case ast.If(test, body, orelse):
                self._if(test, body, orelse)
            case ast.While(test, body, orelse):
                self._while(test, body, orelse)
            case ast.For(target, iterable, body, orelse):
                self._for(target, iterable, body, orelse, stmt)
            case ast.AsyncFor(target, iterable, body, orelse):
                self._async_for(target, iterable, body, orelse, stmt)
            case ast.Break():
                self.ways.leave("break")
            case ast.Continue():
                self.ways.leave("continue")
            case ast.Try() | ast.TryStar():
                lower_try(self, stmt)
            case ast.Match(subject, cases):
                self._match(subject, cases, stmt)
            case ast.AsyncWith():
                lower_with(self, stmt)
            case ast.With() if not any(map(waits, stmt.body)):
                # It is left by more ways than a native statement can be, but within one step.
                lower_with(self, stmt)
            case ast.With(items=[first, *_]) if first in self.suppressing:
                lower_suppress(self, stmt)
            case ast.Assert(test, msg):
                self._assert(test, msg, stmt)
            case ast.Raise(exc, cause):
                self._raise(exc, cause, stmt)
            case ast.Delete(targets):
                for target in targets:
                    self.build.emit(at(ast.Delete([self.target(target)]), stmt))
            case ast.With():
                refuse(
                    stmt.items[0].context_expr,
                    self.file,
                    code="HF006",
                    message="this `with` block holds an await",
                    hint="do the work under it in one @action, or use try/finally around the awaits; `contextlib.suppress(…)` "
                    "is known",
                )
            case _:
                refuse(
                    stmt,
                    self.file,
                    code="HF022",
                    message=f"`{type(stmt).__name__}` is not supported here",
                    hint="move it into an @action or a plain helper function",
                )

    # --- what may stay as it is

    def _native(self, stmt: ast.stmt) -> bool:
        if waits(stmt) or isinstance(stmt, ast.Return | ast.Break | ast.Continue):
            return False
        return not escapes(stmt, returns=self.ways.owe)

    # --- simple statements

    def _expression(self, value: ast.expr) -> None:
        if isinstance(value, ast.Await):
            self.build.wait(self.lifter.lift(value.value), None)
        else:
            self.build.emit(at(ast.Expr(self.lifter.lift(value)), value))

    def _assign(self, targets: Sequence[ast.expr], value: ast.expr, stmt: ast.stmt) -> None:
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            self.lifter.into(value, targets[0].id)
            return
        if not any(waits(target) for target in targets):
            self.build.emit(at(ast.Assign(list(targets), self.lifter.lift(value)), stmt))
            return
        if not isinstance(value, ast.Constant):
            name = self.build.temp()
            self.lifter.into(value, name)
            lifted: ast.expr = load(name, value)
        else:
            lifted = self.lifter.lift(value)
        for target in targets:
            self.build.emit(at(ast.Assign([self.target(target)], lifted), stmt))

    def _annotated(self, target: ast.expr) -> None:
        """An annotation alone gives its target nothing, and evaluates what leads to it."""
        parts = [target.value, target.slice] if isinstance(target, ast.Subscript) else []
        if isinstance(target, ast.Attribute):
            parts = [target.value]
        self.build.emit(at(ast.Expr(ast.Tuple(self.lifter.lift_all(parts), ast.Load())), target))

    def target(self, target: ast.expr) -> ast.expr:  # noqa: RET503 - refuse() never returns
        """An assignment target whose own awaits have been lifted out."""
        if not waits(target):
            return target
        match target:
            case ast.Subscript(value, index, context):
                value, index = self.lifter.lift_all([value, index])
                return at(ast.Subscript(value, index, context), target)
            case ast.Attribute(value, attr, context):
                return at(ast.Attribute(self.lifter.lift(value), attr, context), target)
            case _:
                refuse(
                    target,
                    self.file,
                    code="HF022",
                    message="an await inside an unpacking target is not supported",
                    hint="await into a variable of its own first",
                )

    def _augmented(self, target: ast.expr, op: ast.operator, value: ast.expr, stmt: ast.stmt) -> None:
        """The target is read before the value is awaited, and written after it, as Python does."""
        match target:
            case ast.Name(name):
                place: ast.expr = target
                read = self.lifter.spill(load(name, target), [value])
                if isinstance(read, ast.Name) and read.id == name:
                    # Nothing can give it another value meanwhile, and under its own name it is seen in the history.
                    self.build.emit(at(ast.AugAssign(target, op, self.lifter.lift(value)), stmt))
                    return
            case ast.Attribute(owner, attr, _):
                owner = self.lifter.spill(self.lifter.lift(owner), [value])
                place = at(ast.Attribute(owner, attr, ast.Store()), target)
                read = at(ast.Attribute(copy.deepcopy(owner), attr, ast.Load()), target)
            case ast.Subscript(owner, index, _):
                lifted_owner, lifted_index = self.lifter.lift_all([owner, index])
                owner = self.lifter.spill(lifted_owner, [value])
                index = self.lifter.spill(lifted_index, [value])
                place = at(ast.Subscript(owner, index, ast.Store()), target)
                read = at(ast.Subscript(copy.deepcopy(owner), copy.deepcopy(index), ast.Load()), target)
            case _:
                raise AssertionError("Python's grammar has no other target here")
        name = self.build.temp()
        self.build.assign(name, read)
        lifted = self.lifter.lift(value)
        result = at(ast.Name(name, ast.Store()), target)
        self.build.emit(at(ast.AugAssign(result, op, lifted), stmt))
        self.build.emit(at(ast.Assign([place], ast.Name(name, ast.Load())), stmt))

    def _raise(self, exc: ast.expr | None, cause: ast.expr | None, stmt: ast.stmt) -> None:
        assert exc is not None
        parts = self.lifter.lift_all([exc, cause] if cause else [exc])
        self.build.emit(at(ast.Raise(*parts), stmt))

    def _assert(self, test: ast.expr, msg: ast.expr | None, stmt: ast.stmt) -> None:
        # Python takes the builtin, whatever else has its name.
        error: ast.expr = ast.Name("_hf_assertion", ast.Load())
        if msg is not None:
            error = ast.Call(error, [msg], [])
        failed = ast.If(ast.UnaryOp(ast.Not(), test), [ast.Raise(error, None)], [])
        self.statement(at(failed, stmt))

    def _return(self, value: ast.expr | None) -> None:
        if value is None:
            self.ways.leave_with(None)
        elif isinstance(value, ast.Await):
            name = self.build.temp()
            self.build.wait(self.lifter.lift(value.value), name)
            self.ways.leave_with(load(name, value))
        else:
            self.ways.leave_with(self.lifter.lift(value))

    # --- choices and loops

    def _if(self, test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        yes, after = self.build.block(), self.build.block()
        no = self.build.block() if orelse else after
        self.lifter.branch(test, yes, no)
        self.build.start(yes)
        self.body(body)
        self.build.jump(after)
        if orelse:
            self.build.start(no)
            self.body(orelse)
            self.build.jump(after)
        self.build.start(after)

    def _while(self, test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        again, inside, done = self.build.block(), self.build.block(), self.build.block()
        after = self.build.block() if orelse else done
        self.build.jump(again)
        self.build.start(again)
        self.lifter.branch(test, inside, done)
        self._loop_body(Loop(after, again), inside, body)
        if orelse:
            self.build.start(done)
            self.body(orelse)
            self.build.jump(after)
        self.build.start(after)

    def _loop_body(self, loop: Loop, inside: Draft, body: Sequence[ast.stmt], begin: ast.Assign | None = None) -> None:
        self.build.start(inside)
        if begin is not None:
            self._begin_turn(begin)
        self.ways.around.append(loop)
        self.body(body)
        self.ways.around.pop()
        self.build.jump(loop.again)

    def _begin_turn(self, begin: ast.Assign) -> None:
        target = begin.targets[0]
        if waits(target):
            begin = at(ast.Assign([self.target(target)], begin.value), begin)
        self.build.emit(begin)

    def _for(
        self,
        target: ast.expr,
        iterable: ast.expr,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt],
        stmt: ast.stmt,
    ) -> None:
        if isinstance(iterable, ast.GeneratorExp) and any(waits(s) for s in body):
            refuse(
                iterable,
                self.file,
                code="HF012",
                message="a loop with an await in its body goes over a generator expression",
                hint="loop over a list comprehension: for … in [… for … in …]:",
            )
        iterator, item = self.build.temp(), self.build.temp()
        if (name := self.lazy(iterable)) is not None:
            self.over[iterator] = iterable, name
        lifted = self.lifter.lift(iterable)
        self.build.assign(iterator, at(ast.Call(ast.Name("_hf_iter", ast.Load()), [lifted], []), iterable))
        again, inside, done = self.build.block(), self.build.block(), self.build.block()
        after = self.build.block() if orelse else done
        self.build.jump(again)
        self.build.start(again)
        self.build.next(iterator, item, inside, done, stmt.lineno)
        self._loop_body(Loop(after, again), inside, body, at(ast.Assign([target], ast.Name(item, ast.Load())), stmt))
        if orelse:
            self.build.start(done)
            self.body(orelse)
            self.build.jump(after)
        self.build.start(after)

    def _async_for(
        self,
        target: ast.expr,
        iterable: ast.expr,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt],
        stmt: ast.stmt,
    ) -> None:
        """`async for x in asyncio.as_completed(…)`: each turn waits for the next one. Others fail when they start."""
        iterator, more = self.build.temp(), self.build.temp()
        lifted = self.lifter.lift(iterable)
        self.build.assign(iterator, at(ast.Call(ast.Name("_hf_aiter", ast.Load()), [lifted], []), iterable))
        again, inside, done = self.build.block(), self.build.block(), self.build.block()
        after = self.build.block() if orelse else done
        self.build.jump(again)
        self.build.start(again)
        step = at(ast.Call(ast.Name("_hf_anext", ast.Load()), [ast.Name(iterator, ast.Load())], []), stmt)
        self.build.wait(step, more)
        self.build.branch(load(more, stmt), inside, done)
        item = ast.Subscript(ast.Name(more, ast.Load()), ast.Constant(0), ast.Load())
        self._loop_body(Loop(after, again), inside, body, at(ast.Assign([target], item), stmt))
        if orelse:
            self.build.start(done)
            self.body(orelse)
            self.build.jump(after)
        self.build.start(after)

    # --- match, async with

    def _match(self, subject: ast.expr, cases: Sequence[ast.match_case], stmt: ast.stmt) -> None:
        """Each pattern is tried natively; its guard and its body are lowered like an `if`."""
        build = self.build
        value, matched = build.temp(), build.temp()
        self.lifter.into(subject, value)
        after = build.block()
        for case in cases:
            found = ast.match_case(case.pattern, None, [_set(matched, True)])
            other = ast.match_case(ast.MatchAs(None, None), None, [_set(matched, False)])
            irrefutable = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
            arms = [found] if irrefutable else [found, other]
            build.emit(at(ast.Match(ast.Name(value, ast.Load()), arms), stmt))
            inside, otherwise = build.block(), build.block()
            first = inside
            if case.guard is None:
                build.branch(load(matched, case.pattern), inside, otherwise)
            else:
                first = guarded = build.block()
                build.branch(load(matched, case.pattern), guarded, otherwise)
                build.start(guarded)
                self.lifter.branch(case.guard, inside, otherwise)
            first.binds = captured(case.pattern)
            build.start(inside)
            self.body(case.body)
            build.jump(after)
            build.start(otherwise)
        build.jump(after)
        build.start(after)


def _unbinds(node: ast.AST) -> str | None:
    """The name that a part of a statement may leave without a value."""
    match node:
        case ast.Name(name, ast.Del()) | ast.ExceptHandler(name=str(name)):
            return name
        case _:
            return None


def _set(name: str, value: bool) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], ast.Constant(value))
