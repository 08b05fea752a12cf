"""Exception classes of closed modules: code may name them, as they only say what an action has failed with. Calls nothing."""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import TypeGuard

from holdfast.codec.names import can_be_found, name_of
from holdfast.compiler.source import Source
from holdfast.compiler.syntax import bound_anywhere
from holdfast.ir.program import Ref
from holdfast.ir.rules import closed, is_closed


def closed_exception(value: object) -> Ref | None:
    """The ref of an exception class that is closed to workflow code, but for its name."""
    if _is_exception(value) and is_closed(value) and can_be_found(value):
        return Ref("exception", name_of(value))
    return None


def name_exceptions(source: Source, named: Callable[[Ref, str, ast.expr], ast.expr]) -> None:
    """Let `module.Error` be a name of its own, which `named` gives, where the module is closed or has it from one that is."""
    naming = _Naming(source, named)
    source.node.body = [naming.visit(stmt) for stmt in source.node.body]


class _Naming(ast.NodeTransformer):
    def __init__(self, source: Source, named: Callable[[Ref, str, ast.expr], ast.expr]) -> None:
        self.source = source
        self.named = named
        self.own = bound_anywhere(source.node) | {
            node.arg for node in ast.walk(source.node) if isinstance(node, ast.arg)
        }

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        ref = self._ref(node)
        return self.generic_visit(node) if ref is None else self.named(ref, ast.unparse(node), node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        return node  # where a bare name would be one to bind

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.target = self.visit(node.target)
        node.value = node.value and self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        returns, node.returns = node.returns, None
        self.generic_visit(node)
        node.returns = returns
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def _ref(self, node: ast.Attribute) -> Ref | None:
        value, root = self._meaning(node), self._meaning(_root(node))
        if not isinstance(root, ModuleType):
            return None
        if closed(root.__name__) and _is_exception(value):
            return Ref("exception", name_of(value)) if can_be_found(value) else None
        return closed_exception(value)

    def _meaning(self, node: ast.expr) -> object:
        match node:
            case ast.Name(name) if name not in self.own:
                with suppress(LookupError):
                    return self.source.lookup(name)
                return None
            case ast.Attribute(value, attr):
                owner = self._meaning(value)
                return getattr(owner, attr, None) if isinstance(owner, ModuleType | type) else None
            case _:
                return None


def _root(node: ast.expr) -> ast.expr:
    return _root(node.value) if isinstance(node, ast.Attribute) else node


def _is_exception(value: object) -> TypeGuard[type[BaseException]]:
    return isinstance(value, type) and issubclass(value, BaseException)
