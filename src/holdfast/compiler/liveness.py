"""Which variables are still needed after each await: the only ones an instance keeps. A backward walk over the blocks."""

from __future__ import annotations

import ast

from holdfast.compiler.blocks import Draft
from holdfast.compiler.syntax import own_nodes, read_names
from holdfast.ir.program import Await, Next, Raise, successors


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
    return set().union(*(live[to] for to in successors(draft.end)))


def _on_error(draft: Draft, live: list[set[str]]) -> set[str]:
    return live[draft.handler] if draft.handler is not None else set()


class _Facts:
    """What a block reads and certainly writes, statement by statement."""

    def __init__(self, draft: Draft, variables: set[str]) -> None:
        self.draft = draft
        self.steps: list[tuple[set[str], set[str]]] = []
        for stmt in draft.code:
            self.steps.append((read_names(stmt) & variables, _writes(stmt)))
        ends: set[str] = set()
        if draft.expr is not None:
            ends |= read_names(draft.expr) & variables
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
        needed = ((after - self.into) | self.ends) | on_error
        for reads, writes in reversed(self.steps):
            needed = (needed - writes) | reads | on_error
        if self.draft.context:
            needed = needed | {self.draft.context}
        if self.draft.catches:
            needed = needed - {self.draft.catches}
        return needed


def _writes(stmt: ast.stmt) -> set[str]:
    """Variables that have a new value once `stmt` has ended, whatever happened in it."""
    match stmt:
        case ast.Assign(targets, _):
            return {name for target in targets for name in _plain(target)}
        case ast.FunctionDef(name=name):
            return {name}
        case _:
            return set()


def _plain(target: ast.expr) -> set[str]:
    match target:
        case ast.Name(name):
            return {name}
        case ast.Tuple(elts) | ast.List(elts):
            return set().union(*(_plain(elt) for elt in elts))
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


