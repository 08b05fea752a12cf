"""Calls that must be awaited and surely never are. Whatever might be awaited later is left alone. Reads trees; changes none.

A call's value is followed to where it ends: dropped, tested, reckoned with, or kept in a variable of which all uses end so.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from holdfast.ir.scopes import Comprehension, children, every_node, own_nodes


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A call without its `await`: what became of its value, and what to write instead."""

    call: ast.Call
    fate: str
    hint: str


def forgotten(function: ast.AsyncFunctionDef, *, waits: Callable[[ast.Call], bool], entry: bool) -> Iterator[Forgotten]:
    """The forgotten calls of a function among those of which `waits` says that they must be awaited.

    What the `entry` function returns is the workflow's result, which nobody awaits.
    """
    uses = _Uses(function, entry=entry)
    for stmt in function.body:
        for node in own_nodes(stmt):
            if isinstance(node, ast.Call) and not uses.is_shadowed(node) and waits(node):
                found = uses.of_call(node)
                if found is not None:
                    yield found


class _Uses:
    def __init__(self, function: ast.AsyncFunctionDef, *, entry: bool) -> None:
        self.entry = entry
        self.parents: dict[ast.AST, ast.AST] = {}
        self.loads: dict[str, list[ast.Name]] = {}
        self.blocks: dict[ast.AST, Sequence[ast.stmt]] = {}
        """For each statement the statements among which it stands."""
        for node in every_node(function):
            for child in children(node):
                self.parents[child] = node
            for name in ("body", "orelse", "finalbody"):
                found = getattr(node, name, None)
                # The body of a lambda is no block.
                block = cast("list[ast.stmt]", found if isinstance(found, list) else [])
                self.blocks.update(dict.fromkeys(block, block))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.loads.setdefault(node.id, []).append(node)

    def is_shadowed(self, call: ast.Call) -> bool:
        """Whether a comprehension around the call gives the name of what is called another meaning."""
        names = {node.id for node in every_node(call.func) if isinstance(node, ast.Name)}
        node: ast.AST = call
        while (parent := self.parents.get(node)) is not None:
            if isinstance(parent, Comprehension):
                bound = {n.id for g in parent.generators for n in every_node(g.target) if isinstance(n, ast.Name)}
                if names & bound:
                    return True
            node = parent
        return False

    def of_call(self, call: ast.Call) -> Forgotten | None:
        """What became of a call, if that is certain."""
        text = f"await {ast.unparse(call)}"
        name = self._kept_in(call)
        if name is not None:
            line = self._misused_next(call, name)
            if line is not None:
                fate = f"is kept in `{name}`, which is used in line {line} as if it had been awaited"
                return Forgotten(call, fate, f"{name} = {text}")
            if self._all_wasted(name):
                return Forgotten(call, f"is kept in `{name}` and never awaited", f"{name} = {text}")
            return None
        fate = self._fate(call)
        if fate is None:
            return None
        inside = isinstance(self.parents[call], ast.Attribute | ast.Subscript)
        return Forgotten(call, f"{fate}never awaited", f"({text})" if inside else text)

    # --- where a value ends

    def _fate(self, node: ast.expr) -> str | None:
        """In what a value ends that it surely is never awaited: words to say so, or None."""
        parent = self.parents[node]
        match parent:
            case ast.Expr():
                return "is "
            case ast.If(test=test) | ast.While(test=test) | ast.Assert(test=test) if test is node:
                return "is tested and "
            case ast.IfExp(test=test):
                return "is tested and " if test is node else self._fate(parent)
            case ast.UnaryOp(op=ast.Not()):
                return "is tested and "
            case ast.comprehension(iter=iterable) | ast.For(iter=iterable):
                return "is iterated over and " if iterable is node else "is tested and "
            case ast.match_case():
                return "is tested and "
            case ast.BoolOp(op=ast.And(), values=values) if values[-1] is not node:
                return "is tested and "
            case ast.BoolOp():
                # A call counts as true, so that `or` passes it on.
                return self._fate(parent)
            case ast.Compare():
                return "is compared and "
            case ast.Match(cases=cases):
                whole = any(isinstance(case.pattern, ast.MatchAs) and case.pattern.name for case in cases)
                return None if whole else "is compared and "
            case ast.BinOp() | ast.UnaryOp() | ast.AugAssign():
                return "is reckoned with and "
            case ast.FormattedValue():
                return "is formatted and "
            case ast.Attribute(attr=attr):
                return f"is asked for `.{attr}` and "
            case ast.Subscript(value=value) if value is node:
                return "is indexed and "
            case ast.Starred():
                return "is unpacked and "
            case ast.Return() if self.entry:
                return "is returned and "
            case ast.NamedExpr(target=target):
                return self._fate(parent) if self._all_wasted(target.id) else None
            case _:
                return None

    def _kept_in(self, call: ast.Call) -> str | None:
        """The variable that an assignment gives this very call, if it is one."""
        parent = self.parents[call]
        match parent:
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
                return name
            case ast.Tuple(elts):
                match self.parents[parent]:
                    case ast.Assign([ast.Tuple(targets)]) if len(targets) == len(elts):
                        target = targets[elts.index(call)]
                        starred = any(isinstance(each, ast.Starred) for each in [*targets, *elts])
                        return target.id if isinstance(target, ast.Name) and not starred else None
                    case _:
                        return None
            case _:
                return None

    def _all_wasted(self, name: str) -> bool:
        return all(self._fate(load) is not None for load in self.loads.get(name, ()))

    # --- what comes right after

    def _misused_next(self, call: ast.Call, name: str) -> int | None:
        """The line of the statement that uses the variable next, if it surely does so as only a result can be used."""
        stmt: ast.AST = call
        while stmt not in self.blocks:
            stmt = self.parents[stmt]
        block = self.blocks[stmt]
        for following in block[block.index(stmt) + 1 :]:  # type: ignore[arg-type]
            if not any(isinstance(node, ast.Name) and node.id == name for node in every_node(following)):
                continue
            if any(self._needs_a_result(node) for node in _surely(following) if _is_name(node, name)):
                return following.lineno
            return None
        return None

    def _needs_a_result(self, name: ast.AST) -> bool:
        """Whether what is done with this name fails with anything that is still to be awaited."""
        match self.parents[name]:
            case ast.BinOp() | ast.AugAssign() | ast.Attribute() | ast.Starred():
                return True
            case ast.UnaryOp(op=op):
                return not isinstance(op, ast.Not)
            case ast.Subscript(value=value):
                return value is name
            case ast.For(iter=iterable):
                return iterable is name
            case ast.Compare(ops=ops):
                return any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in ops)
            case _:
                return False


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _surely(node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated whenever a statement is: not its body, nor what depends on a condition or is put off."""
    yield node
    match node:
        case ast.If(test=inner) | ast.While(test=inner) | ast.Match(subject=inner):
            yield from _surely(inner)
        case ast.For(iter=inner):
            yield from _surely(inner)
        case ast.BoolOp(values=[inner, *_]) | ast.IfExp(test=inner):
            yield from _surely(inner)
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            yield from _surely(node.generators[0].iter)
        case ast.Lambda() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return
        case ast.Try() | ast.TryStar() | ast.With() | ast.AsyncWith() | ast.AsyncFor():
            return
        case _:
            for child in children(node):
                yield from _surely(child)
