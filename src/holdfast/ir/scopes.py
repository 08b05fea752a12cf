"""Which names a piece of syntax binds in its own scope. Pure; asked when compiling and when loading."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any, cast

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def bound_names(nodes: Sequence[ast.AST], args: ast.arguments | None = None) -> set[str]:
    """The names that a function with this body binds in its own scope, walruses in comprehensions included."""
    names = set(parameters(args)) if args else set[str]()
    outer: set[str] = set()
    rest = list(nodes)
    while rest:
        node = rest.pop()
        match node:
            case ast.Name(name, ctx):
                if not isinstance(ctx, ast.Load):
                    names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
                rest += _around(node)
            case ast.Lambda():
                rest += _around(node)
            case ast.ClassDef(name=name):
                names.add(name)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # Its targets are its own.
                names.update(inner.target.id for inner in own_nodes(node) if isinstance(inner, ast.NamedExpr))
            case ast.Global(names=listed) | ast.Nonlocal(names=listed):
                outer.update(listed)
            case ast.alias():
                names.add((node.asname or node.name).partition(".")[0])
            case _:
                found = (
                    getattr(node, "rest", None) if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
                )
                if isinstance(found, str):
                    names.add(found)
                rest += children(node)
    return names - outer


def parameters(args: ast.arguments) -> list[str]:
    """The names of all parameters."""
    listed = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    listed += [arg for arg in (args.vararg, args.kwarg) if arg]
    return [arg.arg for arg in listed]


def comprehension_targets(node: Comprehension) -> set[str]:
    """The names that a comprehension binds for itself."""
    return bound_names([generator.target for generator in node.generators])


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what is in it, without the bodies of nested functions and classes."""
    rest = [node]
    while rest:
        node = rest.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            rest += reversed(_around(node))
        elif not isinstance(node, ast.ClassDef):
            rest += reversed(children(node))


def every_node(tree: ast.AST) -> list[ast.AST]:
    """`tree` and all that is in it, level by level as `ast.walk` goes, but for operators and contexts."""
    found = [tree]
    for node in found:
        found += children(node)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """What a node is made of, in order, but for operators and contexts. Faster than `ast.iter_child_nodes`."""
    cls = type(node)
    fields = _FIELDS.get(cls)
    if fields is None:
        fields = _FIELDS[cls] = tuple(name for name in cls._fields if name not in _BARE)
    found: list[ast.AST] = []
    for name in fields:
        value: Any = getattr(node, name, None)
        if type(value) is list:
            found += [each for each in cast("list[object]", value) if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


_BARE = frozenset(
    {"arg", "attr", "conversion", "ctx", "id", "kind", "level", "lineno", "module", "op", "ops", "simple"}
)
"""Fields that hold no node with something in it."""
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {ast.Constant: ()}


def _around(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.expr]:
    """What of a nested function is evaluated where it stands."""
    args = node.args
    return [*args.defaults, *(d for d in args.kw_defaults if d), *getattr(node, "decorator_list", [])]
