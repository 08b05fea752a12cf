"""Pieces of syntax that lowering puts in place of what was written. Each stands where the code it comes from stood."""

from __future__ import annotations

import ast
from typing import TypeVar

T = TypeVar("T", bound=ast.AST)


def at(node: T, place: ast.AST) -> T:
    """`node`, at the place of what it stands for."""
    return ast.fix_missing_locations(ast.copy_location(node, place))


def load(name: str, place: ast.AST) -> ast.expr:
    """A variable's value."""
    return at(ast.Name(name, ast.Load()), place)


def call(name: str, *args: ast.expr, place: ast.AST) -> ast.expr:
    """A call of one of the functions that the engine gives to every block."""
    return at(ast.Call(ast.Name(name, ast.Load()), list(args), []), place)


def unbind(name: str, place: ast.AST) -> ast.stmt:
    """Unbind a variable that may be unbound already."""
    return at(ast.Expr(call("_hf_unbind", ast.Constant(name), place=place)), place)
