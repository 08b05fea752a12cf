"""Which names a piece of syntax binds in its own scope. Pure; asked when compiling and when loading."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def bound_names(nodes: Sequence[ast.AST], args: ast.arguments | None = None) -> set[str]:
    """The names that a function with this body binds in its own scope, walruses in comprehensions included."""
    names = set(parameters(args)) if args else set[str]()
    outer: set[str] = set()
    for node in nodes:
        for inner in own_nodes(node):
            match inner:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.ExceptHandler(name=str(name)):
                    names.add(name)
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    names.add(name)
                case ast.MatchMapping(rest=str(name)):
                    names.add(name)
                case ast.Global(names=listed) | ast.Nonlocal(names=listed):
                    outer.update(listed)
                case ast.alias():
                    names.add((inner.asname or inner.name).partition(".")[0])
                case _:
                    pass
        names |= _stored(node)
    return names - outer


def _stored(node: ast.AST) -> set[str]:
    """Names stored or deleted by `node` in its own scope; the targets of comprehensions are theirs alone."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store | ast.Del) else set()
    if isinstance(node, Comprehension):
        found: set[str] = set()
        for inner in own_nodes(node):
            if isinstance(inner, ast.NamedExpr):
                found.add(inner.target.id)
        return found
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        children: list[ast.AST] = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
    elif isinstance(node, ast.ClassDef):
        children = []
    else:
        children = list(ast.iter_child_nodes(node))
    return set[str]().union(*(_stored(child) for child in children)) if children else set()


def parameters(args: ast.arguments) -> list[str]:
    """The names of all parameters."""
    listed = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    listed += [arg for arg in (args.vararg, args.kwarg) if arg]
    return [arg.arg for arg in listed]


def comprehension_targets(node: Comprehension) -> set[str]:
    """The names that a comprehension binds for itself."""
    return set[str]().union(*(_stored(generator.target) for generator in node.generators))


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what is in it, without the bodies of nested functions and classes."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        args = node.args
        for outer in [*args.defaults, *(d for d in args.kw_defaults if d), *getattr(node, "decorator_list", [])]:
            yield from own_nodes(outer)
        return
    if isinstance(node, ast.ClassDef):
        return
    for child in ast.iter_child_nodes(node):
        yield from own_nodes(child)
