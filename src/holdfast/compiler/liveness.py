"""Which variables are still needed after each await: the only ones an instance keeps. A backward walk over the blocks."""

from __future__ import annotations

import ast

from holdfast.compiler.blocks import Draft
from holdfast.compiler.syntax import captured, is_irrefutable, read_names, surely_bound
from holdfast.ir.program import Await, Next, Raise, successors
from holdfast.ir.scopes import own_nodes


def live_after_awaits(drafts: list[Draft], variables: set[str]) -> dict[int, tuple[str, ...]]:
    """For each block that awaits, the variables needed once it goes on or fails."""
    facts = [_Facts(draft, variables) for draft in drafts]
    live: list[set[str]] = [set() for _ in drafts]
    changed = True
    while changed:
        changed = False
        for draft in reversed(drafts):
            needed = facts[draft.index].needed_before(_after(draft, live), _on_error(draft, live))
            if needed != live[draft.index]:
                live[draft.index] = needed
                changed = True
    keeps: dict[int, tuple[str, ...]] = {}
    for draft in drafts:
        if isinstance(draft.end, Await):
            onward = _after(draft, live) - {draft.end.into}
            keeps[draft.index] = tuple(sorted(onward | _on_error(draft, live)))
    return keeps


def _after(draft: Draft, live: list[set[str]]) -> set[str]:
    if draft.end is None:
        return set()
    return set[str]().union(*(live[to] for to in successors(draft.end)))


def _on_error(draft: Draft, live: list[set[str]]) -> set[str]:
    return live[draft.handler] if draft.handler is not None else set()


class _Facts:
    """What a block reads and certainly writes, statement by statement."""

    def __init__(self, draft: Draft, variables: set[str]) -> None:
        self.draft = draft
        self.steps: list[tuple[set[str], set[str]]] = []
        for stmt in draft.code:
            reads, writes = _effect(stmt)
            self.steps.append((reads & variables, writes))
        ends: set[str] = set()
        self.bound: set[str] = set()
        if draft.expr is not None:
            ends |= read_names(draft.expr) & variables
            self.bound = surely_bound(draft.expr)
        self.into: set[str] = set()
        match draft.end:
            case Next(iterator, into, _, _, _):
                ends.add(iterator)
                self.into = {into}
            case Raise(error):
                ends.add(error)
            case Await(_, str(into), _, _):
                self.into = {into}
            case _:
                pass
        if draft.context:
            ends.add(draft.context)
        self.ends = ends

    def needed_before(self, after: set[str], on_error: set[str]) -> set[str]:
        # Each statement may fail, so what the handler needs is needed throughout.
        needed = ((after - self.into - self.bound) | self.ends) | on_error
        for reads, writes in reversed(self.steps):
            needed = (needed - writes) | reads | on_error
        if self.draft.context:
            needed = needed | {self.draft.context}
        if self.draft.catches:
            needed = needed - {self.draft.catches}
        return needed - self.draft.binds


def _effect(stmt: ast.stmt) -> tuple[set[str], set[str]]:
    """Variables that `stmt` may read the value of from before, and those that surely have a new one once it ended."""
    match stmt:
        case ast.Expr(value):
            return read_names(value), surely_bound(value)
        case ast.Assign(targets, value):
            written = surely_bound(value)
            reads = read_names(value) | (set[str]().union(*map(read_names, targets)) - written)
            return reads, written | {name for target in targets for name in _plain(target)}
        case ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
            return read_names(value), surely_bound(value) | {name}
        case ast.FunctionDef(name=name):
            return read_names(stmt) - (set() if stmt.decorator_list else {name}), {name}
        case ast.If(test, body, orelse):
            tested, yes, no = surely_bound(test), _effects(body), _effects(orelse)
            return read_names(test) | ((yes[0] | no[0]) - tested), tested | (yes[1] & no[1])
        case ast.While(test, body, orelse):
            tested = surely_bound(test)
            return read_names(test) | ((_effects(body)[0] | _effects(orelse)[0]) - tested), tested
        case ast.For(target, iterable, body, orelse):
            iterated = surely_bound(iterable)
            inside = read_names(target) | (_effects(body)[0] - _plain(target))
            return read_names(iterable) | ((inside | _effects(orelse)[0]) - iterated), iterated
        case ast.Try(body, handlers, orelse, finalbody):
            reads = _effects([*body, *orelse])[0] | _effects(finalbody)[0]
            for handler in handlers:
                caught = {handler.name} if handler.name else set[str]()
                reads |= (read_names(handler.type) if handler.type else set()) | (_effects(handler.body)[0] - caught)
            return reads, _effects(finalbody)[1]
        case ast.Match(subject, cases):
            return _matched(subject, cases)
        case ast.With(items, body):
            return _managed(items, body)
        case _:
            return read_names(stmt), set()


def _matched(subject: ast.expr, cases: list[ast.match_case]) -> tuple[set[str], set[str]]:
    """Of a `match`: each case binds what its pattern captures, but only where it is taken."""
    before = surely_bound(subject)
    reads: set[str] = set()
    writes: list[set[str]] = []
    for case in cases:
        own = captured(case.pattern)
        inside = _effects(case.body)
        guard = read_names(case.guard) if case.guard else set[str]()
        reads |= read_names(case.pattern) | ((guard | inside[0]) - own)
        writes.append(own | inside[1])
    sure = set[str].intersection(*writes) if is_irrefutable(cases[-1]) else set[str]()
    return read_names(subject) | (reads - before), before | sure


def _managed(items: list[ast.withitem], body: list[ast.stmt]) -> tuple[set[str], set[str]]:
    """Of a `with`: its body has all that the managers gave. After it only the first is sure, as a manager may end exceptions."""
    reads: set[str] = set()
    bound: set[str] = set()
    for item in items:
        reads |= read_names(item.context_expr) - bound
        bound |= surely_bound(item.context_expr)
        if item.optional_vars is not None:
            reads |= read_names(item.optional_vars) - bound
            bound |= _plain(item.optional_vars)
    reads |= _effects(body)[0] - bound
    first = items[0]
    sure = {first.optional_vars.id} if isinstance(first.optional_vars, ast.Name) else set[str]()
    return reads, sure | surely_bound(first.context_expr)


def _effects(body: list[ast.stmt]) -> tuple[set[str], set[str]]:
    reads: set[str] = set()
    writes: set[str] = set()
    for stmt in body:
        read, written = _effect(stmt)
        reads |= read - writes
        writes |= written
    return reads, writes


def _plain(target: ast.expr) -> set[str]:
    match target:
        case ast.Name(name):
            return {name}
        case ast.Tuple(elts) | ast.List(elts):
            return set[str]().union(*(_plain(elt) for elt in elts))
        case ast.Starred(value):
            return _plain(value)
        case _:
            return set()


def function_variables(drafts: list[Draft], own: set[str]) -> dict[str, ast.AST]:
    """Variables bound to a nested function or lambda, with the place where."""
    found: dict[str, ast.AST] = {}
    for draft in drafts:
        for stmt in draft.code:
            for node in own_nodes(stmt):
                match node:
                    case ast.FunctionDef(name=name):
                        found.setdefault(name, node)
                    case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda()):
                        found.setdefault(name, node)
                    case _:
                        pass
    return {name: node for name, node in found.items() if name in own}
