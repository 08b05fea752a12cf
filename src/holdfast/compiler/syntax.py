"""Questions about syntax trees: does it wait, may it stay native, what does it read. Pure; changes no tree."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from holdfast.ir.scopes import Comprehension, bound_names, children, comprehension_targets, every_node, own_nodes

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
                for child in children(node)
                if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
            )


def rebinds(nodes: list[ast.expr], name: str) -> bool:
    """Whether evaluating these expressions may bind `name` anew."""
    return any(
        isinstance(inner, ast.NamedExpr) and inner.target.id == name for node in nodes for inner in own_nodes(node)
    )


def read_names(node: ast.AST) -> set[str]:
    """The names of the function's own scope whose value `node` may read from before, nested functions included."""
    match node:
        case ast.Name(name, ctx):
            return set() if isinstance(ctx, ast.Store) else {name}
        case ast.AugAssign(target=ast.Name(name)):
            return {name} | read_names(node.value)
        case ast.Nonlocal(names=listed):
            return set(listed)
        case ast.FunctionDef() | ast.Lambda():
            outer = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
            outer += getattr(node, "decorator_list", [])
            inside: list[ast.AST] = list(node.body) if isinstance(node, ast.FunctionDef) else [node.body]
            return _read_in_turn(outer) | (_read(inside) - bound_names(inside, node.args))
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            first, *others = node.generators
            inner: list[ast.AST] = [*first.ifs, *others]
            inner += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            return read_names(first.iter) | ((_read(inner) | read_names(first.target)) - comprehension_targets(node))
        case ast.IfExp(test, body, orelse):
            return read_names(test) | (_read([body, orelse]) - surely_bound(test))
        case ast.BoolOp() | ast.BinOp() | ast.Compare() | ast.Call() | ast.Tuple() | ast.List():
            return _read_in_turn([child for child in children(node) if isinstance(child, ast.expr | ast.keyword)])
        case _:
            return _read(children(node))


def surely_bound(node: ast.AST) -> set[str]:
    """The names to which a walrus has given a value whenever evaluating an expression has come to its end."""
    match node:
        case ast.NamedExpr(ast.Name(name), value):
            return {name} | surely_bound(value)
        case ast.Lambda():
            return set()
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return surely_bound(node.generators[0].iter)
        case ast.BoolOp(values=[first, *_]) | ast.IfExp(test=first):
            return surely_bound(first)
        case ast.Compare(left, _, [second, *_]):
            return surely_bound(left) | surely_bound(second)
        case _:
            return set[str]().union(*map(surely_bound, children(node)))


def put_off(node: Comprehension) -> list[ast.AST]:
    """What of a comprehension is evaluated for each item, and not where it stands."""
    first, *others = node.generators
    asynchronous = [first] if first.is_async else []
    made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    return [*made, first.target, *first.ifs, *others, *asynchronous]


def captured(pattern: ast.pattern) -> set[str]:
    """The names that a pattern has bound once it has matched."""
    found: set[str] = set()
    for inner in every_node(pattern):
        match inner:
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                found.add(name)
            case _:
                pass
    return found


def bound_anywhere(function: ast.AST, *, augmented: bool = True) -> set[str]:
    """The names that a function or one inside of it binds, parameters apart, whichever scope they are of.

    Without `augmented`, `x += …` does not count: it may leave the object that `x` had.
    """
    nodes = every_node(function)
    added = set[int]() if augmented else {id(node.target) for node in nodes if isinstance(node, ast.AugAssign)}
    stored = (node for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
    names = {node.id for node in stored if id(node) not in added}
    names |= {name for node in nodes if isinstance(name := getattr(node, "name", None), str)}
    return names | {node.rest for node in nodes if isinstance(node, ast.MatchMapping) and node.rest}


def is_irrefutable(case: ast.match_case) -> bool:
    """Whether a case is taken whatever the subject is."""
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None


def _read(nodes: list[ast.AST]) -> set[str]:
    return set[str]().union(*map(read_names, nodes))


def _read_in_turn(nodes: Sequence[ast.expr | ast.keyword]) -> set[str]:
    """What expressions read that are evaluated one after the other, where an earlier one may have bound it."""
    names: set[str] = set()
    bound: set[str] = set()
    for node in nodes:
        names |= read_names(node) - bound
        bound |= surely_bound(node)
    return names
