"""Dotted names that become names of the program's own: async functions to compile in, exceptions. Calls nothing."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, cast

from holdfast.compiler.source import Source
from holdfast.compiler.wrapping import behind_static, is_async, librarys_wrapper, users_own
from holdfast.ir.scopes import bound_names, comprehension_targets

Renaming = Callable[[ast.Attribute, object, object], ast.expr | None]
"""What stands instead of a dotted name, by what it means and what its first part means; None to leave it."""


def rename_dotted(source: Source, rename: Renaming) -> None:
    """Let `rename` say what stands instead of the dotted names in `source`; the longest ones come first."""
    renaming = _Renaming(source, rename)
    source.node.body = [renaming.visit(stmt) for stmt in source.node.body]


def compiled_in(holder: object, name: str) -> FunctionType | None:
    """The async function of the user's that a module, or a class as a static method, holds under this name."""
    if isinstance(holder, ModuleType):
        found: object = getattr(holder, name, None)
    elif isinstance(holder, type):
        raw: object = inspect.getattr_static(holder, name, None)
        found = behind_static(cast(object, raw)) if type(raw) is staticmethod else None
    else:
        return None
    return found if is_async(found) and (users_own(found) or librarys_wrapper(found)) else None


class _Renaming(ast.NodeTransformer):
    def __init__(self, source: Source, rename: Renaming) -> None:
        self.source = source
        self.rename = rename
        self.bound: list[Collection[str]] = [source.own]
        """What each scope around the place binds."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        renamed = None
        if isinstance(node.ctx, ast.Load):
            holder, root = (self.source.meaning(each, self.bound) for each in (node.value, _root(node)))
            renamed = self.rename(node, holder, root)
        return self.generic_visit(node) if renamed is None else renamed

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        return node  # where a bare name would be one to bind

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.target = self.visit(node.target)
        node.value = node.value and self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [self.visit(each) for each in node.decorator_list]
        self._defaults(node.args)
        with self._inside(bound_names(node.body, node.args)):
            node.body = [self.visit(stmt) for stmt in node.body]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self._defaults(node.args)
        with self._inside(bound_names([node.body], node.args)):
            node.body = self.visit(node.body)
        return node

    def _comprehension(self, node: Any) -> ast.AST:
        first = node.generators[0]
        # What it goes over first is evaluated outside of it.
        over, first.iter = self.visit(first.iter), ast.Constant(None)
        with self._inside(comprehension_targets(node)):
            self.generic_visit(node)
        first.iter = over
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _defaults(self, args: ast.arguments) -> None:
        args.defaults = [self.visit(each) for each in args.defaults]
        args.kw_defaults = [each and self.visit(each) for each in args.kw_defaults]

    @contextmanager
    def _inside(self, names: set[str]) -> Generator[None]:
        self.bound.append(names)
        yield
        self.bound.pop()


def _root(node: ast.expr) -> ast.expr:
    return _root(node.value) if isinstance(node, ast.Attribute) else node
