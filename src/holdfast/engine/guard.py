"""The text of programs that nobody vouches for: refused, or rewritten so that reads and changes are checked. Runs nothing.

An attribute is checked where it is named in the text; what its object is shows only when the program runs (`guarded.py`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from holdfast.engine.guarded import CHECKED, ITEM, OWNER, READ, SLICE
from holdfast.engine.rewrite import FRAME, Rewriter
from holdfast.errors import ProgramError
from holdfast.ir.scopes import every_node

_RESERVED = frozenset({READ, OWNER, ITEM, SLICE})


class GuardedRewriter(Rewriter):
    """Sends attributes that depend on their owner through `GUARD`, and refuses what cannot be sent."""

    def admit(self, tree: ast.AST) -> None:
        for node in every_node(tree):
            for name in _identifiers(node):
                if name in _RESERVED or (name == FRAME and name not in self.variables):
                    raise ProgramError(f"the stored program uses the name {name!r}, which is the engine's own")

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = node.value
        declared = isinstance(value, ast.Name) and not self._is_variable(value.id) and not self._in_nested(value.id)
        self.generic_visit(node)
        name = ast.Constant(node.attr)
        if isinstance(node.ctx, ast.Load):
            return _placed(_call(READ, node.value, name), node) if _is_checked(node.attr) else node
        if declared:
            raise ProgramError(f"the stored program changes {ast.unparse(node)}, which is none of its variables")
        node.value = _placed(_call(OWNER, node.value, name), node)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, ast.Slice):
            return node
        if isinstance(node.slice, ast.Tuple):
            node.slice.elts = [_as_value(part) for part in node.slice.elts]
        return _placed(_call(ITEM, node.value, node.slice), node)

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        _check_pattern(node.cls, node.kwd_attrs)
        return self.generic_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        _check_pattern(node.value, [])
        return self.generic_visit(node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        for key in node.keys:
            _check_pattern(key, [])
        return self.generic_visit(node)


def check_params(function: ast.FunctionDef) -> None:
    """Refuse a stored parameter list that computes: a compiled one has names for defaults, and no annotations."""
    args = function.args
    defaults = [*args.defaults, *(default for default in args.kw_defaults if default is not None)]
    annotated = any(isinstance(arg, ast.arg) and arg.annotation is not None for arg in every_node(args))
    if annotated or function.returns is not None or not all(isinstance(default, ast.Name) for default in defaults):
        raise ProgramError("the stored program computes in a parameter list, which is never compiled into one")


def check_file(file: str) -> None:
    """Refuse a program that says it comes from a file which holds no code: its lines are shown in tracebacks."""
    if not file.endswith((".py", ".pyw", ".ipynb")) and not (file.startswith("<") and file.endswith(">")):
        raise ProgramError(f"the stored program says that it comes from {file!r}, which is no Python file")


def _identifiers(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case _:
            pass


def _check_pattern(value: ast.expr, attributes: list[str]) -> None:
    """A pattern cannot call, so that nothing in it can be checked when it runs."""
    names = [*attributes, *(inner.attr for inner in every_node(value) if isinstance(inner, ast.Attribute))]
    for name in names:
        if _is_checked(name):
            raise ProgramError(f"the stored program reads the attribute {name!r} in a pattern, where it is closed")


def _is_checked(name: str) -> bool:
    return name in CHECKED or name.startswith("_")


def _as_value(part: ast.expr) -> ast.expr:
    """A slice among several indices, which may not stand alone, as the call that makes it."""
    if not isinstance(part, ast.Slice):
        return part
    ends = (part.lower, part.upper, part.step)
    return _placed(_call(SLICE, *(ast.Constant(None) if end is None else end for end in ends)), part)


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


def _placed(made: ast.expr, at: ast.expr) -> ast.expr:
    return ast.fix_missing_locations(ast.copy_location(made, at))
