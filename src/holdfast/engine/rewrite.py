"""Native statements made to work on a frame's variables: `x` becomes `_f["x"]`. Changes names only, nothing else."""

from __future__ import annotations

import ast
import sys
from typing import Any, cast

from holdfast.errors import ProgramError
from holdfast.ir.scopes import bound_names, comprehension_targets

FRAME = "_f"
INLINED = sys.version_info >= (3, 12)
"""Whether a comprehension is a part of the function that it stands in."""


class Rewriter(ast.NodeTransformer):
    """Turns each local name of the function into an item of the frame; names of nested scopes stay theirs."""

    def __init__(self, variables: frozenset[str]) -> None:
        self.variables = variables
        self.hidden: list[set[str]] = []
        self.nested = 0
        """How many nested functions the visit is inside of; generator expressions are such, and comprehensions before 3.12."""
        self._fresh = 0

    def admit(self, tree: ast.AST) -> None:
        """Raise ProgramError for text that must not be rewritten at all."""

    def statements(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Rewrite a list of statements."""
        out: list[ast.stmt] = []
        for stmt in body:
            done: Any = self.visit(stmt)
            out += cast("list[ast.stmt]", done) if isinstance(done, list) else [done]
        return out

    def _is_variable(self, name: str) -> bool:
        return name in self.variables and not any(name in scope for scope in self.hidden)

    # --- names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not self._is_variable(node.id):
            return node
        if self.nested and isinstance(node.ctx, ast.Load):
            return _at(_call(ast.Attribute(_name(FRAME), "free", ast.Load()), ast.Constant(node.id)), node)
        return _item(node.id, node.ctx, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "_hf_unbind":
            return _at(_call(ast.Attribute(_name(FRAME), "unbind", ast.Load()), *node.args), node)
        self.generic_visit(node)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        # A walrus binds in the function's scope even inside a comprehension, but never in that of a nested function.
        value = self.visit(node.value)
        if node.target.id in self.variables and not self._in_nested(node.target.id):
            return _at(_call(ast.Attribute(_name(FRAME), "let", ast.Load()), ast.Constant(node.target.id), value), node)
        return _at(ast.NamedExpr(node.target, value), node)

    def _in_nested(self, name: str) -> bool:
        return any(name in scope for scope in self.hidden)

    def visit_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for target in node.targets:
            names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            for name in names:
                if isinstance(name, ast.Name) and self._is_variable(name.id):
                    drop = _call(ast.Attribute(_name(FRAME), "drop", ast.Load()), ast.Constant(name.id))
                    out.append(_at(ast.Expr(drop), node))
                else:
                    out.append(_at(ast.Delete([self.visit(name)]), node))
        return out

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            # It gives its target nothing, and evaluates what leads to it.
            match node.target:
                case ast.Attribute(owner):
                    return _at(ast.Expr(self.visit(owner)), node)
                case ast.Subscript(owner, index):
                    parts = [self.visit(owner), self.visit(index)]
                    return _at(ast.Expr(ast.Tuple(parts, ast.Load())), node)
                case _:
                    return _at(ast.Pass(), node)
        return _at(ast.Assign([self.visit(node.target)], self.visit(node.value)), node)

    # --- scopes

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        self._defaults(node.args)
        self.hidden.append(bound_names([node.body], node.args))
        self.nested += 1
        node.body = self.visit(node.body)
        self.nested -= 1
        self.hidden.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self._defaults(node.args)
        for arg in ast.walk(node.args):
            if isinstance(arg, ast.arg):
                arg.annotation = None
        node.returns = None
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        self.hidden.append(bound_names(node.body, node.args))
        self.nested += 1
        node.body = self.statements(node.body)
        self.nested -= 1
        self.hidden.pop()
        if not self._is_variable(node.name):
            return node
        bind = ast.Assign([_item(node.name, ast.Store(), node)], _name(node.name))
        return [node, _at(bind, node)]

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.stmt:
        inner = [name for name in node.names if not self._is_variable(name)]
        return _at(ast.Nonlocal(inner), node) if inner else _at(ast.Pass(), node)

    def _comprehension(self, node: Any) -> ast.expr:
        first = self.visit(node.generators[0].iter)
        inner = isinstance(node, ast.GeneratorExp) or not INLINED
        self.nested += inner
        self.hidden.append(comprehension_targets(node))
        for i, generator in enumerate(node.generators):
            generator.target = self.visit(generator.target)
            if i:
                generator.iter = self.visit(generator.iter)
            generator.ifs = [self.visit(test) for test in generator.ifs]
        if isinstance(node, ast.DictComp):
            node.key, node.value = self.visit(node.key), self.visit(node.value)
        else:
            node.elt = self.visit(node.elt)
        self.hidden.pop()
        self.nested -= inner
        node.generators[0].iter = first
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _defaults(self, args: ast.arguments) -> None:
        args.defaults = [self.visit(d) for d in args.defaults]
        args.kw_defaults = [d and self.visit(d) for d in args.kw_defaults]

    # --- bindings that must be plain names in Python's grammar

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        if node.type is not None:
            node.type = self.visit(node.type)
        name = node.name
        node.body = self.statements(node.body)
        if name is not None and self._is_variable(name):
            node.name = own = self._own()
            bind = _at(ast.Assign([_item(name, ast.Store(), node)], _name(own)), node)
            unbind = _at(ast.Expr(_call(ast.Attribute(_name(FRAME), "unbind", ast.Load()), ast.Constant(name))), node)
            node.body = [bind, _at(ast.Try(node.body, [], [], [unbind]), node)]
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        captures: dict[str, str] = {}
        for inner in ast.walk(node.pattern):
            for attr in ("name", "rest"):
                name = getattr(inner, attr, None)
                if isinstance(name, str) and self._is_variable(name):
                    setattr(inner, attr, captures.setdefault(name, self._own()))
        node.pattern = self.visit(node.pattern)
        guard = None if node.guard is None else self.visit(node.guard)
        if captures:
            # Python binds captures before it evaluates the guard, and keeps them where the guard fails.
            bind: ast.expr = _call(ast.Attribute(_name(FRAME), "bind", ast.Load()))
            assert isinstance(bind, ast.Call)
            bind.keywords = [ast.keyword(name, _name(own)) for name, own in captures.items()]
            guard = bind if guard is None else ast.BoolOp(ast.And(), [bind, guard])
            guard = _at(guard, node.pattern)
        node.guard = guard
        node.body = self.statements(node.body)
        return node

    def visit_Return(self, node: ast.Return) -> Any:
        if self.hidden:
            return self.generic_visit(node)
        value = ast.Constant(None) if node.value is None else self.visit(node.value)
        give = ast.Assign([ast.Attribute(_name(FRAME), "value", ast.Store())], value)
        return [_at(give, node), _at(ast.Return(ast.Constant(-1)), node)]

    def visit_Import(self, node: ast.Import) -> ast.AST:
        raise ProgramError("the stored program holds an import, which is never compiled into one")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        raise ProgramError("the stored program holds an import, which is never compiled into one")

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        raise ProgramError("the stored program holds a class, which is never compiled into one")

    def visit_Global(self, node: ast.Global) -> ast.AST:
        raise ProgramError("the stored program declares a global, which is never compiled into one")

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        raise ProgramError("the stored program holds an async function, which is never compiled into one")

    def visit_Await(self, node: ast.Await) -> ast.AST:
        raise ProgramError("the stored program holds an await inside native code")

    def _own(self) -> str:
        self._fresh += 1
        return f"_hfl{self._fresh}"


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _item(name: str, ctx: ast.expr_context, at: ast.AST) -> ast.expr:
    return _at(ast.Subscript(_name(FRAME), ast.Constant(name), ctx), at)


def _call(func: ast.expr, *args: ast.expr) -> ast.expr:
    return ast.Call(func, list(args), [])


def _at(node: Any, at: ast.AST) -> Any:
    line = getattr(at, "lineno", 1)
    for inner in ast.walk(node):
        if isinstance(inner, ast.expr | ast.stmt | ast.pattern | ast.ExceptHandler | ast.keyword) and not hasattr(
            inner, "lineno"
        ):
            inner.lineno = inner.end_lineno = line
            inner.col_offset = inner.end_col_offset = 0
    return node
