"""Blocks in the words of whoever wrote the workflow: what the compiler has put in is said as the code that it stands for."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator

from holdfast.ir.program import Await, Block, Branch, Function, Jump, Native, Next, Raise, Return

_OWN = re.compile(r"_hf\w*")
_RENAMED = re.compile(r"_hf(?:\d+|m)_(\w+)")
"""A comprehension's variable, under the name that the compiler has given to it."""
_LIMIT = 60
_SOMETHING = "…"
_LEAVE = "leave"
_EMPTY = ("[]", "{}", "…()")
"""How collections are made that comprehensions fill."""


class Words:
    """What the blocks of one function say. What they have from the compiler alone is `…`, or left out."""

    def __init__(self, function: Function) -> None:
        self._blocks = function.blocks
        self._made: dict[str, list[ast.expr | None]] = {}
        """For each variable of the compiler's own the expressions that it gets, None for what is taken or caught."""
        self._awaited: dict[str, ast.expr] = {}
        """For those that get what was awaited: what that was."""
        self._caught = {block.catches for block in function.blocks}
        self._items = {block.end.into for block in function.blocks if isinstance(block.end, Next)}
        self._kinds = {name for block in function.blocks if (name := _kind(block)) is not None}
        """Those that say on which way a `finally` was reached."""
        self._given_back = {_name(block.end.value) for block in function.blocks if isinstance(block.end, Return)}
        for block in function.blocks:
            for name, value in _given(block):
                self._made.setdefault(name, []).append(value)
            if isinstance(block.end, Await) and block.end.into is not None:
                self._awaited[block.end.into] = _expression(block.end.value)

    def of(self, block: Block) -> str:
        """A block in a few words, a line for each statement and one for how it ends; empty if there is none."""
        lines = [line for native in block.code if (line := self._statement(native)) is not None]
        if lines and lines[-1] == _LEAVE and any(line.startswith("return ") for line in lines):
            lines.pop()
        match block.end:
            case Branch(test, then, _):
                asked = self._question(test, self._blocks[then], block)
                if lines and asked in (None, lines[-1].removeprefix(f"{_SOMETHING} = ")):
                    asked = lines.pop().removeprefix(f"{_SOMETHING} = ")
                lines.append(f"{asked or _SOMETHING}?")
            case Next(iterator, _, body, _, _):
                lines.append(f"for {self._bound_by(body) or _SOMETHING} in {self._inner(iterator)}")
            case Await(value, into, to, _):
                lines.append(self._wait(value, into, to))
            case Return(None):
                lines.append("return")
            case Return(value):
                lines.append("return" if value is None else f"return {self._returned(_expression(value))}")
            case Raise():
                lines.append("raise")
            case Jump():
                pass
        return "\n".join(map(_short, lines))

    # --- statements

    def _statement(self, native: Native) -> str | None:
        (stmt,) = ast.parse(native.source).body
        if self._binding(stmt) is not None:
            # It is told where the loop takes its items, or the block is entered.
            return None
        match stmt:
            case ast.Assign([ast.Name(name)], ast.Constant(int(way))) if name in self._kinds and way > 0:
                return _LEAVE
            case ast.Assign([ast.Name(name)], value) if (
                _is_own(name) and name in self._given_back - self._awaited.keys()
            ):
                return None if _said(value) in _EMPTY else f"return {_said(value)}"
            case ast.Assign([ast.Name()], ast.Call(ast.Name("_hf_open"), [ast.Name(manager)])):
                return f"with {self._inner(manager)}"
            case ast.Assign([target], ast.Name(name)) if self._is_entered(name):
                return f"as {_said(target)}"
            case ast.Expr(ast.Call(ast.Name("_hf_close"), [ast.Name(manager), *_])):
                return f"leave {self._inner(manager)}"
            case ast.Assign([ast.Name(name)], value) if _is_own(name) and self._is_choice(name, value):
                return f"{_SOMETHING} = {_said(value)}"
            case ast.Assign([target]) | ast.AugAssign(target) if _is_own(_root(target)):
                return None
            case ast.Expr(ast.Name()):
                return None  # the compiler's, to ask whether it is bound
            case ast.Expr(value) if _is_own(_root(value)):
                return None
            case ast.Match(ast.Name(name), [case, *_]) if _is_own(name):
                return f"case {_said(case.pattern)}"
            case ast.Assign([target], ast.Name(name)) if name in self._caught or self._is_part(name):
                return f"as {_said(target)}"
            case _:
                return _said(stmt)

    def _binding(self, stmt: ast.stmt) -> str | None:
        """What a loop or an `async with` binds by this statement, if it is one that does."""
        match stmt:
            case ast.Assign([target], ast.Name(name)) if name in self._items:
                return _said(target)
            case ast.Assign([target], ast.Name(name)) if self._is_call(name, "_hf_enter"):
                return _said(target)
            case ast.Assign([target], ast.Subscript(ast.Name(name))) if self._is_call(name, "_hf_anext"):
                return _said(target)
            case _:
                return None

    def _bound_by(self, index: int) -> str | None:
        """What the first statement of a block binds for whatever leads there."""
        code = self._blocks[index].code
        return self._binding(ast.parse(code[0].source).body[0]) if code else None

    # --- how blocks end

    def _question(self, test: Native, then: Block, block: Block) -> str | None:
        """What decides; None where the block's last statement says it."""
        match _expression(test):
            case ast.Call(ast.Name("_hf_matches"), [_, ast.Name(classes)]) if _is_own(classes):
                return f"suppress {self._inner(classes)}"
            case ast.Call(ast.Name("_hf_matches"), [_, classes]):
                return f"except {_said(classes)}"
            case ast.Compare(ast.Name(name)) if name in self._kinds:
                return _way(then)
            case ast.Name(name) if _is_own(name):
                return self._answer(name, block)
            case other:
                return _said(other, self._awaited)

    def _answer(self, name: str, block: Block) -> str | None:
        match ast.parse(block.code[-1].source).body if block.code else []:
            case [ast.Match()]:
                return None
            case [ast.Assign([ast.Name(target)], ast.Call(ast.Name("_hf_close")))] if target == name:
                return "suppressed"
            case [ast.Assign([ast.Name(target)], value)] if target == name:
                return _value(value)
            case _ if self._is_call(name, "_hf_exit"):
                return "suppressed"
            case _ if self._is_call(name, "_hf_anext"):
                return "one more"
            case _ if name in self._awaited:
                return _said(self._awaited[name])
            case _:
                return self._inner(name)

    def _wait(self, value: Native, into: str | None, to: int) -> str:
        match _expression(value):
            case ast.Call(ast.Name("_hf_enter"), [ast.Name(manager)]):
                bound = self._bound_by(to)
                return f"async with {self._inner(manager)}" + (f" as {bound}" if bound else "")
            case ast.Call(ast.Name("_hf_exit"), [ast.Name(manager), *_]):
                return f"leave {self._inner(manager)}"
            case ast.Call(ast.Name("_hf_anext"), [ast.Name(source)]):
                end = self._blocks[to].end
                target = self._bound_by(end.then) if isinstance(end, Branch) else None
                return f"async for {target or _SOMETHING} in {self._inner(source)}"
            case other:
                target = "" if into is None or _is_own(into) else f"{into} = "
                return f"{target}await {_said(other)}"

    def _returned(self, value: ast.expr) -> str:
        match value:
            case ast.Name(name) if _is_own(name):
                inner = self._inner(name)
                return _SOMETHING if inner in _EMPTY else inner
            case _:
                return _said(value)

    # --- the compiler's own variables

    def _is_choice(self, name: str, value: ast.expr) -> bool:
        """Whether this is one of several values it may get, and says something."""
        plain = isinstance(value, ast.Constant | ast.UnaryOp) or _is_own(_root(value))
        return not plain and len(self._made.get(name, ())) > 1

    def _inner(self, name: str) -> str:
        """What one holds, where that is one expression."""
        match self._made.get(name):
            case [ast.expr() as value]:
                return _value(value)
            case _:
                return _SOMETHING

    def _is_call(self, name: str, function: str) -> bool:
        """Whether it gets what was awaited of this function of the engine's."""
        match self._awaited.get(name):
            case ast.Call(ast.Name(called)):
                return called == function
            case _:
                return False

    def _is_entered(self, name: str) -> bool:
        """Whether it is what a plain `with` has got from its manager."""
        match self._made.get(name):
            case [ast.Call(ast.Name("_hf_open"))]:
                return True
            case _:
                return False

    def _is_part(self, name: str) -> bool:
        made = [value for value in self._made.get(name, []) if isinstance(value, ast.Call)]
        return any(isinstance(call.func, ast.Name) and call.func.id == "_hf_part" for call in made)


def _kind(block: Block) -> str | None:
    """The variable that a block behind a `finally` asks for the way on which that was reached."""
    if not isinstance(block.end, Branch):
        return None
    match _expression(block.end.test):
        case ast.Compare(ast.Name(name), [ast.Eq()], [ast.Constant() | ast.UnaryOp()]) if _is_own(name):
            return name
        case _:
            return None


def _name(value: Native | None) -> str:
    """The variable that an expression is, if it is just one."""
    expression = None if value is None else _expression(value)
    return expression.id if isinstance(expression, ast.Name) else ""


def _way(then: Block) -> str:
    """Behind a `finally`: which of the ways that led there goes on in this block."""
    match then.end:
        case Raise():
            return "failed"
        case Return():
            return "returning"
        case _:
            return "leaving"


def _value(value: ast.expr) -> str:
    match value:
        case ast.Call(ast.Name("_hf_part"), [_, classes]):
            return f"except* {_said(classes)}"
        case ast.Call(ast.Name("_hf_rest")):
            return "failed"
        case ast.Call(ast.Name("_hf_iter" | "_hf_aiter" | "_hf_flat"), [inner]):
            return _said(inner)
        case _:
            return _said(value)


def _said(node: ast.AST, known: dict[str, ast.expr] | None = None) -> str:
    return ast.unparse(_Readable(known or {}).visit(copy.deepcopy(node)))


class _Readable(ast.NodeTransformer):
    """Takes the compiler's names out; `known` gives expressions to say instead."""

    def __init__(self, known: dict[str, ast.expr]) -> None:
        self.known = known

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        match node:
            case ast.IfExp(ast.Compare(ast.Name(name), [ast.Is()]), ast.Attribute() as method, ast.Call()) if _is_own(
                name
            ):
                return self.visit(method)
            case _:
                return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id == "_hf_assertion":
            return ast.Name("AssertionError", node.ctx)
        renamed = _RENAMED.fullmatch(node.id)
        if renamed is not None:
            return ast.Name(renamed[1], node.ctx)
        if not _is_own(node.id):
            return node
        known = self.known.get(node.id)
        return ast.Name(_SOMETHING, node.ctx) if known is None else _Readable({}).visit(copy.deepcopy(known))


def _given(block: Block) -> Iterator[tuple[str, ast.expr | None]]:
    """The compiler's own variables that a block sets, with what they get."""
    for native in block.code:
        match ast.parse(native.source).body:
            case [ast.Assign([ast.Name(name)], value)] if _is_own(name):
                yield name, value
            case _:
                pass
    match block.end:
        case Await(_, str(into), _, _) | Next(_, into, _, _, _):
            yield into, None
        case _:
            pass
    if block.catches:
        yield block.catches, None


def _root(node: ast.expr) -> str:
    """The name at the beginning of a chain of attributes, items and calls."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_own(name: str) -> bool:
    return _OWN.fullmatch(name) is not None and _RENAMED.fullmatch(name) is None


def _expression(native: Native) -> ast.expr:
    return ast.parse(native.source, mode="eval").body


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LIMIT else line[: _LIMIT - 1] + "…"
