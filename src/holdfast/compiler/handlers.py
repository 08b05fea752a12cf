"""Statements that hold handlers: `try` with all its clauses, `with` and `async with`. Lowers no other statement."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from typing import Protocol

from holdfast.compiler.blocks import Builder, Draft
from holdfast.compiler.lift import Lifter
from holdfast.compiler.pieces import at, call, load, unbind
from holdfast.compiler.ways import Finally, Forget, Ways
from holdfast.ir.scopes import every_node


class Lowering(Protocol):
    """What lowers the statements inside."""

    @property
    def build(self) -> Builder: ...
    @property
    def lifter(self) -> Lifter: ...
    @property
    def ways(self) -> Ways: ...

    def body(self, stmts: Sequence[ast.stmt]) -> None: ...
    def target(self, target: ast.expr) -> ast.expr:
        """An assignment target whose own awaits have been lifted out."""
        ...


def lower_try(lower: Lowering, stmt: ast.Try | ast.TryStar) -> None:
    """`try` with `except` or `except*`, `else` and `finally`."""
    clauses = _except if isinstance(stmt, ast.Try) else _except_star
    if stmt.finalbody:
        with _Owed(lower, stmt.finalbody):
            clauses(lower, stmt.body, stmt.handlers, stmt.orelse)
    else:
        clauses(lower, stmt.body, stmt.handlers, stmt.orelse)


def lower_with(lower: Lowering, stmt: ast.With | ast.AsyncWith) -> None:
    """`with` and `async with`, one manager inside the other."""
    _managed(lower, stmt.items, stmt)


def lower_suppress(lower: Lowering, stmt: ast.With) -> None:
    """`with suppress(…)` around awaits: a `try` that passes over these exceptions, for a manager could not be kept."""
    item, *rest = stmt.items
    assert isinstance(item.context_expr, ast.Call)
    build = lower.build
    classes = build.temp()
    given = ast.Tuple(item.context_expr.args, ast.Load())
    # A tuple within a tuple is as good here, other than in an `except` clause.
    flat = ast.Call(ast.Name("_hf_flat", ast.Load()), [given], [])
    lower.lifter.into(at(flat, item.context_expr), classes)
    if item.optional_vars is not None:
        build.emit(at(ast.Assign([lower.target(item.optional_vars)], ast.Constant(None)), stmt))
    body = [at(ast.With(rest, stmt.body), stmt)] if rest else stmt.body
    handlers = [ast.ExceptHandler(ast.Name(classes, ast.Load()), None, [ast.Pass()])]
    if sys.version_info >= (3, 12):
        # Of a group, what is to be suppressed is taken out.
        group, left = build.temp(), build.temp()
        ask = f"{left} = {group}.split({classes})[1]\nif {left} is not None: raise {left}"
        handlers.append(ast.ExceptHandler(ast.Name("BaseExceptionGroup", ast.Load()), group, ast.parse(ask).body))
    _except(lower, body, [_placed(handler, item.context_expr) for handler in handlers], [])


def _placed(handler: ast.ExceptHandler, place: ast.AST) -> ast.ExceptHandler:
    for node in every_node(handler):
        ast.copy_location(node, place)
    return handler


def _managed(lower: Lowering, items: Sequence[ast.withitem], stmt: ast.With | ast.AsyncWith) -> None:
    if not items:
        lower.body(stmt.body)
        return
    item, *rest = items
    build = lower.build
    manager, error = build.temp(), build.temp()
    lower.lifter.into(item.context_expr, manager)
    waits = isinstance(stmt, ast.AsyncWith)
    enter, leave = ("_hf_enter", "_hf_exit") if waits else ("_hf_open", "_hf_close")

    def kit(name: str, *args: ast.expr) -> ast.expr:
        return call(name, *args, place=item.context_expr)

    def variable(name: str) -> ast.expr:
        return load(name, item.context_expr)

    def ask(value: ast.expr, into: str) -> None:
        if waits:
            build.wait(value, into)
        else:
            build.assign(into, value)

    entered = build.temp()
    ask(kit(enter, variable(manager)), entered)
    leaving = kit(leave, variable(manager), ast.Constant(None))
    normal_exit = [at(ast.Expr(ast.Await(leaving) if waits else leaving), stmt)]
    landing, suppressed = build.block(), build.temp()
    landing.catches = error
    with _Owed(lower, normal_exit, on_error=landing):
        if item.optional_vars is not None:
            target = lower.target(item.optional_vars)
            build.emit(at(ast.Assign([target], variable(entered)), stmt))
        _managed(lower, rest, stmt)
    after = build.here
    build.start(landing)
    with build.handling(error):
        exiting = build.block()
        build.jump(exiting)
        build.start(exiting)
        ask(kit(leave, variable(manager), variable(error)), suppressed)
        again = build.block()
        build.branch(variable(suppressed), after, again)
        build.start(again)
        build.raises(error)
    build.start(after)


def _protected(lower: Lowering, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt], error: str) -> Draft:
    """The body with its `else`. Leaves the builder where its errors arrive in `error`; returns where all goes on."""
    build = lower.build
    dispatch, after = build.block(), build.block()
    dispatch.catches = error
    dispatch.context = error
    with build.guarded(dispatch):
        inside = build.block()
        build.jump(inside)
        build.start(inside)
        lower.body(body)
        fell_through = build.here
    if fell_through.end is None:
        onward = build.block()
        build.jump(onward)
        build.start(onward)
        lower.body(orelse)
        build.jump(after)
    build.start(dispatch)
    return after


def _except(
    lower: Lowering, body: Sequence[ast.stmt], handlers: Sequence[ast.ExceptHandler], orelse: Sequence[ast.stmt]
) -> None:
    if not handlers:
        lower.body([*body, *orelse])
        return
    build = lower.build
    error = build.temp()
    after = _protected(lower, body, orelse, error)
    for handler in handlers:
        with build.handling(error):
            _clause(lower, handler, error, after)
    build.raises(error)
    build.start(after)


def _clause(lower: Lowering, handler: ast.ExceptHandler, error: str, after: Draft) -> None:
    """One `except`: test, bind, run, unbind. Leaves the builder where the next clause is tested."""
    build = lower.build
    matched, otherwise = build.block(), build.block()
    if handler.type is None:
        build.jump(matched)
    else:
        tested = lower.lifter.lift(handler.type)
        test = call("_hf_matches", ast.Name(error, ast.Load()), tested, place=handler.type)
        build.branch(test, matched, otherwise)
    build.start(matched)
    if handler.name is None:
        lower.body(handler.body)
        build.jump(after)
    else:
        build.assign(handler.name, load(error, handler))
        landing, raised = build.block(), build.temp()
        landing.catches = raised
        landing.code.append(unbind(handler.name, handler))
        lower.ways.around.append(Forget(handler.name))
        with build.guarded(landing):
            inside = build.block()
            build.jump(inside)
            build.start(inside)
            lower.body(handler.body)
        lower.ways.around.pop()
        build.emit(unbind(handler.name, handler))
        build.jump(after)
        build.start(landing)
        build.raises(raised)
    build.start(otherwise)


def _except_star(
    lower: Lowering, body: Sequence[ast.stmt], handlers: Sequence[ast.ExceptHandler], orelse: Sequence[ast.stmt]
) -> None:
    """Each clause takes its part of the group; what clauses raise, and the rest, is raised at the end."""
    build = lower.build
    error, split, part, raised = build.temp(), build.temp(), build.temp(), build.temp()
    after = _protected(lower, body, orelse, error)
    first = handlers[0]

    def kit(name: str, *args: ast.expr) -> ast.expr:
        return call(name, *args, place=first)

    def variable(name: str) -> ast.expr:
        return load(name, first)

    with build.handling(error):
        build.assign(split, kit("_hf_split", variable(error)))
        for handler in handlers:
            assert handler.type is not None
            tested = lower.lifter.lift(handler.type)
            build.assign(part, kit("_hf_part", variable(split), tested))
            matched, otherwise, landing = build.block(), build.block(), build.block()
            build.branch(variable(part), matched, otherwise)
            landing.catches = raised
            landing.code.append(at(ast.Expr(kit("_hf_raised", variable(split), variable(raised))), first))
            with build.guarded(landing), build.handling(part):
                inside = build.block()
            build.start(matched)
            if handler.name:
                build.assign(handler.name, variable(part))
                landing.code.append(unbind(handler.name, handler))
            build.jump(inside)
            build.start(inside)
            with build.guarded(landing), build.handling(part):
                lower.body(handler.body)
            if handler.name:
                build.emit(unbind(handler.name, handler))
            build.jump(otherwise)
            build.start(landing)
            build.jump(otherwise)
            build.start(otherwise)
        build.assign(raised, kit("_hf_rest", variable(split)))
        again = build.block()
        build.branch(variable(raised), again, after)
        build.start(again)
        build.raises(raised)
    build.start(after)


class _Owed:
    """Around a body whose `finally` must run whichever way the body is left.

    With `on_error`, exceptions go there instead, and the owed statements run only on the other ways out.
    """

    def __init__(self, lower: Lowering, owed: Sequence[ast.stmt], *, on_error: Draft | None = None) -> None:
        self.lower = lower
        self.owed = owed
        self.on_error = on_error
        self.outer_context = lower.build.context

    def __enter__(self) -> None:
        build = self.lower.build
        anchor = self.owed[0]
        self.error = build.temp()
        self.ctx = Finally(build.block(), build.temp(), build.temp())
        self.landing = self.on_error or build.block()
        if self.on_error is None:
            # What is handled around the statement is handled in its `finally` too, unless that runs for an exception.
            outer = self.outer_context
            build.assign(self.error, at(ast.Name(outer, ast.Load()) if outer else ast.Constant(None), anchor))
        self.guard = build.guarded(self.landing)
        self.guard.__enter__()
        inside = build.block()
        build.jump(inside)
        build.start(inside)
        self.lower.ways.around.append(self.ctx)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        lower, build, ctx = self.lower, self.lower.build, self.ctx
        lower.ways.around.pop()
        self.guard.__exit__(None, None, None)
        if error is not None:
            return
        self._reach(0)
        if self.on_error is not None:
            build.start(ctx.entry)
            self._run()
            return
        self.landing.catches = self.error
        build.start(self.landing)
        self._reach(-1)
        ctx.entry.context = self.error
        build.start(ctx.entry)
        with build.handling(self.error):
            self._run()
            again, after = build.block(), build.block()
            build.branch(_kind_is(ctx.kind, -1, self.owed[0]), again, after)
            build.start(again)
            build.raises(self.error)
        after.context = self.outer_context
        build.start(after)

    def _reach(self, kind: int) -> None:
        """Go to the owed statements by falling through (0) or raising (-1)."""
        self.lower.build.assign(self.ctx.kind, at(ast.Constant(kind), self.owed[0]))
        self.lower.build.jump(self.ctx.entry)

    def _run(self) -> None:
        """The owed statements, then on along whichever way out was taken."""
        build = self.lower.build
        self.lower.body(self.owed)
        for number, way in enumerate(self.ctx.exits, start=1):
            taken, otherwise = build.block(), build.block()
            build.branch(_kind_is(self.ctx.kind, number, self.owed[0]), taken, otherwise)
            build.start(taken)
            self.lower.ways.follow(way, self.ctx.value)
            build.start(otherwise)


def _kind_is(kind: str, number: int, place: ast.AST) -> ast.expr:
    return at(ast.Compare(ast.Name(kind, ast.Load()), [ast.Eq()], [ast.Constant(number)]), place)
