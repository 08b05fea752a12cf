"""Statements into blocks. Each statement kind is named; whatever is not named is refused. Resolves no names."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from holdfast.compiler.blocks import Builder, Draft
from holdfast.compiler.diagnostics import Problems, Refused, refuse
from holdfast.compiler.lift import Lifter
from holdfast.compiler.syntax import bound_names, escapes, parameters, waits

T = TypeVar("T", bound=ast.AST)


@dataclass(slots=True)
class Loop:
    """A loop whose body is being lowered: where `break` and `continue` go."""

    after: Draft
    again: Draft


@dataclass(slots=True)
class Finally:
    """A try statement whose `finally` is owed to whoever leaves it. `exits` are the ways out, by number."""

    entry: Draft
    kind: str
    value: str
    exits: list[Exit] = field(default_factory=list["Exit"])

    def exit(self, way: Exit) -> int:
        """The number of a way out; 0 is falling through, -1 raising."""
        if way not in self.exits:
            self.exits.append(way)
        return self.exits.index(way) + 1


@dataclass(slots=True)
class Forget:
    """An except clause: its `as` name is unbound whichever way it is left."""

    name: str


@dataclass(slots=True, frozen=True)
class Exit:
    """A way out of a statement: `return`, `break` or `continue`, the latter two of the loop numbered `loop`."""

    kind: str
    loop: int = -1


class Lowerer:
    """Lowers the body of one async function."""

    def __init__(self, node: ast.AsyncFunctionDef, *, file: str, problems: Problems) -> None:
        self.node = node
        self.file = file
        self.problems = problems
        self.build = Builder()
        params = set(parameters(node.args))
        self.variables = bound_names(node.body, node.args)
        unbound = {
            n.id for s in node.body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Del)
        }
        self.lifter = Lifter(
            self.build,
            file=file,
            variables=self.variables,
            bound=params - unbound,
            statement=self.statement,
        )
        self.around: list[Loop | Finally | Forget] = []

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
                self._leave("break")
            case ast.Continue():
                self._leave("continue")
            case ast.Try() | ast.TryStar():
                self._try(stmt)
            case ast.Match(subject, cases):
                self._match(subject, cases, stmt)
            case ast.AsyncWith(items, body):
                self._async_with(items, body, stmt)
            case ast.Assert(test, msg):
                self._assert(test, msg, stmt)
            case ast.Raise(exc, cause):
                self._raise(exc, cause, stmt)
            case ast.Delete(targets):
                for target in targets:
                    self.build.emit(_at(ast.Delete([self._target(target)]), stmt))
            case ast.With():
                refuse(
                    stmt.items[0].context_expr,
                    self.file,
                    code="HF006",
                    message="this `with` block holds an await",
                    hint="do the work under the context manager in one @action, or use try/finally around the awaits",
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
        through_finally = any(isinstance(ctx, Finally | Forget) for ctx in self.around)
        return not escapes(stmt, returns=through_finally)

    # --- simple statements

    def _expression(self, value: ast.expr) -> None:
        if isinstance(value, ast.Await):
            self.build.wait(self.lifter.lift(value.value), None)
        else:
            self.build.emit(_at(ast.Expr(self.lifter.lift(value)), value))

    def _assign(self, targets: Sequence[ast.expr], value: ast.expr, stmt: ast.stmt) -> None:
        if len(targets) == 1 and isinstance(targets[0], ast.Name):
            self.lifter.into(value, targets[0].id)
            return
        if not any(waits(target) for target in targets):
            self.build.emit(_at(ast.Assign(list(targets), self.lifter.lift(value)), stmt))
            return
        if not isinstance(value, ast.Constant):
            name = self.build.temp()
            self.lifter.into(value, name)
            lifted: ast.expr = _at(ast.Name(name, ast.Load()), value)
        else:
            lifted = self.lifter.lift(value)
        for target in targets:
            self.build.emit(_at(ast.Assign([self._target(target)], lifted), stmt))

    def _target(self, target: ast.expr) -> ast.expr:  # noqa: RET503 - refuse() never returns
        """An assignment target whose own awaits have been lifted out."""
        if not waits(target):
            return target
        match target:
            case ast.Subscript(value, index, context):
                value, index = self.lifter.lift_all([value, index])
                return _at(ast.Subscript(value, index, context), target)
            case ast.Attribute(value, attr, context):
                return _at(ast.Attribute(self.lifter.lift(value), attr, context), target)
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
                read: ast.expr = _at(ast.Name(name, ast.Load()), target)
            case ast.Attribute(owner, attr, _):
                owner = self.lifter.spill(self.lifter.lift(owner), [value])
                place = _at(ast.Attribute(owner, attr, ast.Store()), target)
                read = _at(ast.Attribute(copy.deepcopy(owner), attr, ast.Load()), target)
            case ast.Subscript(owner, index, _):
                lifted_owner, lifted_index = self.lifter.lift_all([owner, index])
                owner = self.lifter.spill(lifted_owner, [value])
                index = self.lifter.spill(lifted_index, [value])
                place = _at(ast.Subscript(owner, index, ast.Store()), target)
                read = _at(ast.Subscript(copy.deepcopy(owner), copy.deepcopy(index), ast.Load()), target)
            case _:
                raise AssertionError("Python's grammar has no other target here")
        name = self.build.temp()
        self.build.assign(name, read)
        lifted = self.lifter.lift(value)
        result = _at(ast.Name(name, ast.Store()), target)
        self.build.emit(_at(ast.AugAssign(result, op, lifted), stmt))
        self.build.emit(_at(ast.Assign([place], ast.Name(name, ast.Load())), stmt))

    def _raise(self, exc: ast.expr | None, cause: ast.expr | None, stmt: ast.stmt) -> None:
        assert exc is not None
        parts = self.lifter.lift_all([exc, cause] if cause else [exc])
        self.build.emit(_at(ast.Raise(*parts), stmt))

    def _assert(self, test: ast.expr, msg: ast.expr | None, stmt: ast.stmt) -> None:
        error: ast.expr = ast.Name("AssertionError", ast.Load())
        if msg is not None:
            error = ast.Call(error, [msg], [])
        failed = ast.If(ast.UnaryOp(ast.Not(), test), [ast.Raise(error, None)], [])
        self.statement(_at(failed, stmt))

    # --- ways out

    def _return(self, value: ast.expr | None) -> None:
        owed = self._innermost(Finally)
        if value is None:
            lifted: ast.expr | None = None
        elif isinstance(value, ast.Await):
            name = self.build.temp()
            self.build.wait(self.lifter.lift(value.value), name)
            lifted = _at(ast.Name(name, ast.Load()), value)
        else:
            lifted = self.lifter.lift(value)
        if owed is not None:
            given = lifted if lifted is not None else _at(ast.Constant(None), self.node)
            self.build.assign(owed.value, given)
            self._leave("return")
        else:
            if lifted is not None and any(isinstance(ctx, Forget) for ctx in self.around):
                name = self.build.temp()
                self.build.assign(name, lifted)
                lifted = _at(ast.Name(name, ast.Load()), lifted)
            self._forget_all()
            self.build.returns(lifted)

    def _innermost(self, kind: type[Finally]) -> Finally | None:
        return next((ctx for ctx in reversed(self.around) if isinstance(ctx, kind)), None)

    def _forget_all(self) -> None:
        for ctx in self.around:
            if isinstance(ctx, Forget):
                self.build.emit(_unbind(ctx.name, self.node))

    def _leave(self, kind: str) -> None:
        """Leave by `return`, `break` or `continue`, through every `finally` in between."""
        loops = [i for i, ctx in enumerate(self.around) if isinstance(ctx, Loop)]
        self._go(Exit(kind, loops[-1] if kind != "return" and loops else -1), len(self.around))

    def _go(self, way: Exit, depth: int) -> None:
        """Follow `way` outward from inside `self.around[:depth]`."""
        for i in range(depth - 1, way.loop, -1):
            ctx = self.around[i]
            if isinstance(ctx, Forget):
                self.build.emit(_unbind(ctx.name, self.node))
            elif isinstance(ctx, Finally):
                self.build.assign(ctx.kind, _at(ast.Constant(ctx.exit(way)), self.node))
                self.build.jump(ctx.entry)
                return
        if way.kind == "return":
            raise AssertionError("a return outside of every finally is lowered by _return")
        loop = self.around[way.loop]
        assert isinstance(loop, Loop)
        self.build.jump(loop.after if way.kind == "break" else loop.again)

    def follow(self, way: Exit, value: str) -> None:
        """Go on along a way out that has run the `finally` it owed; `value` holds what a return returns."""
        if way.kind != "return":
            self._go(way, len(self.around))
            return
        given = _at(ast.Name(value, ast.Load()), self.node)
        owed = self._innermost(Finally)
        if owed is None:
            self._forget_all()
            self.build.returns(given)
        else:
            self.build.assign(owed.value, given)
            self._leave("return")

    # --- choices and loops

    def _if(self, test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt]) -> None:
        tested = self.lifter.lift(test)
        yes, after = self.build.block(), self.build.block()
        no = self.build.block() if orelse else after
        self.build.branch(tested, yes, no)
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
        self.build.branch(self.lifter.lift(test), inside, done)
        self._loop_body(Loop(after, again), inside, body)
        if orelse:
            self.build.start(done)
            self.body(orelse)
            self.build.jump(after)
        self.build.start(after)

    def _loop_body(self, loop: Loop, inside: Draft, body: Sequence[ast.stmt]) -> None:
        self.build.start(inside)
        self.around.append(loop)
        self.body(body)
        self.around.pop()
        self.build.jump(loop.again)

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
        lifted = self.lifter.lift(iterable)
        self.build.assign(iterator, _at(ast.Call(ast.Name("_hf_iter", ast.Load()), [lifted], []), iterable))
        again, inside, done = self.build.block(), self.build.block(), self.build.block()
        after = self.build.block() if orelse else done
        self.build.jump(again)
        self.build.start(again)
        self.build.next(iterator, item, inside, done, stmt.lineno)
        inside.code.append(_at(ast.Assign([target], ast.Name(item, ast.Load())), stmt))
        self._loop_body(Loop(after, again), inside, body)
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
        self.build.assign(iterator, _at(ast.Call(ast.Name("_hf_aiter", ast.Load()), [lifted], []), iterable))
        again, inside, done = self.build.block(), self.build.block(), self.build.block()
        after = self.build.block() if orelse else done
        self.build.jump(again)
        self.build.start(again)
        step = _at(ast.Call(ast.Name("_hf_anext", ast.Load()), [ast.Name(iterator, ast.Load())], []), stmt)
        self.build.wait(step, more)
        self.build.branch(_at(ast.Name(more, ast.Load()), stmt), inside, done)
        item = ast.Subscript(ast.Name(more, ast.Load()), ast.Constant(0), ast.Load())
        inside.code.append(_at(ast.Assign([target], item), stmt))
        self._loop_body(Loop(after, again), inside, body)
        if orelse:
            self.build.start(done)
            self.body(orelse)
            self.build.jump(after)
        self.build.start(after)

    # --- exceptions

    def _try(self, stmt: ast.Try | ast.TryStar) -> None:
        clauses = self._except if isinstance(stmt, ast.Try) else self._except_star
        if stmt.finalbody:
            with _Owed(self, stmt.finalbody):
                clauses(stmt.body, stmt.handlers, stmt.orelse)
        else:
            clauses(stmt.body, stmt.handlers, stmt.orelse)

    def _protected(self, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt], error: str) -> Draft:
        """The body with its `else`. Leaves the builder where its errors arrive in `error`; returns where all goes on."""
        build = self.build
        dispatch, after = build.block(), build.block()
        dispatch.catches = error
        dispatch.context = error
        with build.guarded(dispatch):
            inside = build.block()
            build.jump(inside)
            build.start(inside)
            self.body(body)
            fell_through = build.here
        if fell_through.end is None:
            onward = build.block()
            build.jump(onward)
            build.start(onward)
            self.body(orelse)
            build.jump(after)
        build.start(dispatch)
        return after

    def _except(
        self, body: Sequence[ast.stmt], handlers: Sequence[ast.ExceptHandler], orelse: Sequence[ast.stmt]
    ) -> None:
        if not handlers:
            self.body([*body, *orelse])
            return
        build = self.build
        error = build.temp()
        after = self._protected(body, orelse, error)
        for handler in handlers:
            with build.handling(error):
                self._clause(handler, error, after)
        build.raises(error)
        build.start(after)

    def _clause(self, handler: ast.ExceptHandler, error: str, after: Draft) -> None:
        """One `except`: test, bind, run, unbind. Leaves the builder where the next clause is tested."""
        build = self.build
        matched, otherwise = build.block(), build.block()
        if handler.type is None:
            build.jump(matched)
        else:
            tested = self.lifter.lift(handler.type)
            test = ast.Call(ast.Name("_hf_matches", ast.Load()), [ast.Name(error, ast.Load()), tested], [])
            build.branch(_at(test, handler.type), matched, otherwise)
        build.start(matched)
        if handler.name is None:
            self.body(handler.body)
            build.jump(after)
        else:
            build.assign(handler.name, _at(ast.Name(error, ast.Load()), handler))
            landing, raised = build.block(), build.temp()
            landing.catches = raised
            landing.code.append(_unbind(handler.name, handler))
            self.around.append(Forget(handler.name))
            with build.guarded(landing):
                inside = build.block()
                build.jump(inside)
                build.start(inside)
                self.body(handler.body)
            self.around.pop()
            build.emit(_unbind(handler.name, handler))
            build.jump(after)
            build.start(landing)
            build.raises(raised)
        build.start(otherwise)

    def _except_star(
        self, body: Sequence[ast.stmt], handlers: Sequence[ast.ExceptHandler], orelse: Sequence[ast.stmt]
    ) -> None:
        """Each clause takes its part of the group; what clauses raise, and the rest, is raised at the end."""
        build = self.build
        error, split, part, raised = build.temp(), build.temp(), build.temp(), build.temp()
        after = self._protected(body, orelse, error)
        first = handlers[0]

        def call(name: str, *args: ast.expr) -> ast.expr:
            return _at(ast.Call(ast.Name(name, ast.Load()), list(args), []), first)

        def load(name: str) -> ast.expr:
            return _at(ast.Name(name, ast.Load()), first)

        with build.handling(error):
            build.assign(split, call("_hf_split", load(error)))
            for handler in handlers:
                assert handler.type is not None
                tested = self.lifter.lift(handler.type)
                build.assign(part, call("_hf_part", load(split), tested))
                matched, otherwise, landing = build.block(), build.block(), build.block()
                build.branch(load(part), matched, otherwise)
                landing.catches = raised
                landing.code.append(_at(ast.Expr(call("_hf_raised", load(split), load(raised))), first))
                with build.guarded(landing), build.handling(part):
                    inside = build.block()
                build.start(matched)
                if handler.name:
                    build.assign(handler.name, load(part))
                    landing.code.append(_unbind(handler.name, handler))
                build.jump(inside)
                build.start(inside)
                with build.guarded(landing), build.handling(part):
                    self.body(handler.body)
                if handler.name:
                    build.emit(_unbind(handler.name, handler))
                build.jump(otherwise)
                build.start(landing)
                build.jump(otherwise)
                build.start(otherwise)
            build.assign(raised, call("_hf_rest", load(split)))
            again = build.block()
            build.branch(load(raised), again, after)
            build.start(again)
            build.raises(raised)
        build.start(after)

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
            build.emit(_at(ast.Match(ast.Name(value, ast.Load()), arms), stmt))
            inside, otherwise = build.block(), build.block()
            if case.guard is None:
                build.branch(_at(ast.Name(matched, ast.Load()), case.pattern), inside, otherwise)
            else:
                guarded = build.block()
                build.branch(_at(ast.Name(matched, ast.Load()), case.pattern), guarded, otherwise)
                build.start(guarded)
                build.branch(self.lifter.lift(case.guard), inside, otherwise)
            build.start(inside)
            self.body(case.body)
            build.jump(after)
            build.start(otherwise)
        build.jump(after)
        build.start(after)

    def _async_with(self, items: Sequence[ast.withitem], body: Sequence[ast.stmt], stmt: ast.stmt) -> None:
        if not items:
            self.body(body)
            return
        item, *rest = items
        build = self.build
        manager, error = build.temp(), build.temp()
        self.lifter.into(item.context_expr, manager)

        def call(name: str, *args: ast.expr) -> ast.expr:
            return _at(ast.Call(ast.Name(name, ast.Load()), list(args), []), item.context_expr)

        def load(name: str) -> ast.expr:
            return _at(ast.Name(name, ast.Load()), item.context_expr)

        entered = build.temp()
        build.wait(call("_hf_enter", load(manager)), entered)
        normal_exit = [_at(ast.Expr(ast.Await(call("_hf_exit", load(manager), ast.Constant(None)))), stmt)]
        landing, suppressed = build.block(), build.temp()
        landing.catches = error
        with _Owed(self, normal_exit, on_error=landing):
            if item.optional_vars is not None:
                target = self._target(item.optional_vars)
                build.emit(_at(ast.Assign([target], load(entered)), stmt))
            self._async_with(rest, body, stmt)
        after = build.here
        build.start(landing)
        with build.handling(error):
            exiting = build.block()
            build.jump(exiting)
            build.start(exiting)
            build.wait(call("_hf_exit", load(manager), load(error)), suppressed)
            again = build.block()
            build.branch(load(suppressed), after, again)
            build.start(again)
            build.raises(error)
        build.start(after)


class _Owed:
    """Around a body whose `finally` must run whichever way the body is left.

    With `on_error`, exceptions go there instead, and the owed statements run only on the other ways out.
    """

    def __init__(self, lower: Lowerer, owed: Sequence[ast.stmt], *, on_error: Draft | None = None) -> None:
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
            build.assign(self.error, _at(ast.Name(outer, ast.Load()) if outer else ast.Constant(None), anchor))
        self.guard = build.guarded(self.landing)
        self.guard.__enter__()
        inside = build.block()
        build.jump(inside)
        build.start(inside)
        self.lower.around.append(self.ctx)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        lower, build, ctx = self.lower, self.lower.build, self.ctx
        lower.around.pop()
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
        self.lower.build.assign(self.ctx.kind, _at(ast.Constant(kind), self.owed[0]))
        self.lower.build.jump(self.ctx.entry)

    def _run(self) -> None:
        """The owed statements, then on along whichever way out was taken."""
        build = self.lower.build
        self.lower.body(self.owed)
        for number, way in enumerate(self.ctx.exits, start=1):
            taken, otherwise = build.block(), build.block()
            build.branch(_kind_is(self.ctx.kind, number, self.owed[0]), taken, otherwise)
            build.start(taken)
            self.lower.follow(way, self.ctx.value)
            build.start(otherwise)


def _kind_is(kind: str, number: int, at: ast.AST) -> ast.expr:
    return _at(ast.Compare(ast.Name(kind, ast.Load()), [ast.Eq()], [ast.Constant(number)]), at)


def _set(name: str, value: bool) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], ast.Constant(value))


def _unbind(name: str, at: ast.AST) -> ast.stmt:
    """Unbind a variable that may be unbound already."""
    call = ast.Call(ast.Name("_hf_unbind", ast.Load()), [ast.Constant(name)], [])
    return _at(ast.Expr(call), at)


def _at(node: T, at: ast.AST) -> T:
    return ast.fix_missing_locations(ast.copy_location(node, at))
