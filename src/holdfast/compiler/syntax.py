"""Questions about syntax trees: does it wait, may it stay native, what does it read. Pure; changes no tree."""

from __future__ import annotations

import ast

from holdfast.ir.scopes import own_nodes

WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def waits(node: ast.AST) -> bool:
    """Whether running `node` may wait."""
    return any(
        isinstance(inner, WAITS) or (isinstance(inner, ast.comprehension) and inner.is_async)
        for inner in own_nodes(node)
    )


def escapes(stmt: ast.stmt, *, returns: bool) -> bool:
    """Whether control may leave `stmt` for somewhere that a native statement cannot reach.

    That is a `break` or `continue` of a loop around it, and a `return` where `returns` says that those count.
    """
    return _escapes(stmt, returns=returns, in_loop=False)


def _escapes(node: ast.AST, *, returns: bool, in_loop: bool) -> bool:
    match node:
        case ast.Break() | ast.Continue():
            return not in_loop
        case ast.Return():
            return returns
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
            return False
        case ast.For() | ast.While():
            return any(_escapes(s, returns=returns, in_loop=True) for s in node.body) or any(
                _escapes(s, returns=returns, in_loop=in_loop) for s in node.orelse
            )
        case _:
            return any(
                _escapes(child, returns=returns, in_loop=in_loop)
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
            )


def rebinds(nodes: list[ast.expr], name: str) -> bool:
    """Whether evaluating these expressions may bind `name` anew."""
    return any(
        isinstance(inner, ast.NamedExpr) and inner.target.id == name for node in nodes for inner in own_nodes(node)
    )


def read_names(node: ast.AST) -> set[str]:
    """All names whose value `node` may read, nested functions included."""
    names: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Name(name, ast.Load() | ast.Del()):
                names.add(name)
            case ast.AugAssign(target=ast.Name(name)):
                names.add(name)
            case ast.Nonlocal(names=listed):
                names.update(listed)
            case _:
                pass
    return names
