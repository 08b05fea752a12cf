"""Changes of what all instances share: attributes of the class, objects of a module. Reads trees and classes; runs nothing.

Only what is surely shared is found: an attribute that some method assigns is the instance's own.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, MutableMapping, MutableSequence, MutableSet
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, Literal, TypeGuard, cast

from holdfast.compiler.source import Source, itself, mangle, parsed
from holdfast.compiler.syntax import bound_anywhere
from holdfast.compiler.wrapping import class_around, plain, wrapped_in
from holdfast.ir.scopes import every_node

_CHANGING = frozenset(
    """add append appendleft clear difference_update discard extend extendleft insert intersection_update pop popitem
    popleft remove reverse rotate setdefault sort subtract symmetric_difference_update update""".split()  # noqa: SIM905
)
"""Methods by which Python's own collections are changed."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_UNKNOWN = object()


@dataclass(frozen=True, slots=True)
class Change:
    """Where something shared is changed, how it is named there, and whose it is."""

    node: ast.expr
    name: str
    whose: Literal["class", "module", "default"]


def shared_changes(source: Source, cls: type, own: frozenset[str] | None) -> Iterator[Change]:
    """What a function surely changes that is not of its instance. `own` are the attributes that methods assign; None: any."""
    yield from _Changes(source, cls, own).all()


def assigned_attributes(cls: type, base: type) -> frozenset[str] | None:
    """The attributes that some method of the class assigns to some object; None where that cannot be told."""
    found: set[str] = set(getattr(cls, "__dataclass_fields__", ()))
    for owner in cls.__mro__:
        if owner in base.__mro__ or owner.__module__ in ("abc", "typing"):
            continue
        for function in filter(_is_written, map(plain, _functions(owner))):
            try:
                tree = parsed(inspect.getsource(itself(function)))
            except (OSError, TypeError, SyntaxError):
                return None
            around = class_around(function)
            if around is not None:
                mangle(tree, around)
            for name in _stored(tree):
                if name is None:
                    return None
                found.add(name)
    return frozenset(found)


def _functions(owner: type) -> Iterator[object]:
    """What a class defines, with what is inside of properties and decorators."""
    for raw in vars(owner).values():
        parts = [getattr(raw, name, None) for name in ("fget", "fset", "func") if not isinstance(raw, type)]
        for value in [plain(raw), *parts]:
            yield value
            yield from wrapped_in(value)


def _is_written(value: object) -> TypeGuard[FunctionType]:
    """Whether it is a function that somebody wrote: `dataclass` and the like make some without a source."""
    return isinstance(value, FunctionType) and value.__code__.co_filename != "<string>"


def _stored(tree: ast.AST) -> Iterator[str | None]:
    added = {id(node.target) for node in every_node(tree) if isinstance(node, ast.AugAssign)}
    receivers = {node.args.args[0].arg for node in every_node(tree) if isinstance(node, _FUNCTIONS) and node.args.args}
    for node in every_node(tree):
        match node:
            case ast.Attribute(attr=attr, ctx=ast.Store()) if id(node) not in added:
                yield attr
            case ast.Name("setattr" | "vars") | ast.Attribute(attr="__dict__" | "__setattr__"):
                yield None
            case ast.Call(args=args) if any(isinstance(each, ast.Name) and each.id in receivers for each in args):
                # Whatever is called may assign to it.
                yield None
            case _:
                pass


class _Changes:
    def __init__(self, source: Source, cls: type, own: frozenset[str] | None) -> None:
        self.source = source
        self.cls = cls
        self.assigned = own
        self.local = bound_anywhere(source.node)
        params = [*source.node.args.posonlyargs, *source.node.args.args]
        is_method = source.owner is not None and params and params[0].arg not in self.local
        self.receiver = params[0].arg if is_method else None
        args = [node.arg for node in every_node(source.node) if isinstance(node, ast.arg)]
        if self.receiver is not None and args.count(self.receiver) > 1:
            self.receiver = None
        rebound = bound_anywhere(source.node, augmented=False)
        self.defaults = {
            name: value for name, value in _defaults(source) if args.count(name) == 1 and name not in rebound
        }
        """Collections that are the defaults of parameters."""
        self.local |= set(args)

    def all(self) -> Iterator[Change]:
        for node in (inner for stmt in self.source.node.body for inner in every_node(stmt)):
            match node:
                case ast.AugAssign(target=ast.Attribute() as target):
                    yield from self._assigned(target, added=True)
                case ast.AugAssign(target=ast.Name(name) as target) if name in self.defaults:
                    yield from self._changed(target)
                case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                    yield from self._assigned(node, added=False)
                case ast.Call(ast.Attribute(owner, attr)) if attr in _CHANGING and _is_collection(self._value(owner)):
                    yield from self._changed(owner)
                case _:
                    pass

    def _assigned(self, target: ast.Attribute | ast.Subscript, *, added: bool) -> Iterator[Change]:
        if self._is_own_attribute(target):
            # `self.items += …` changes the class's list in place, and then makes it the instance's as well.
            if added and _is_collection(self._value(target)):
                yield from self._changed(target)
            return
        yield from self._changed(target.value)

    def _changed(self, node: ast.expr) -> Iterator[Change]:
        """That something within `node` is changed, if that is shared."""
        whole = node
        while isinstance(node, ast.Attribute | ast.Subscript) and not self._is_own_attribute(node):
            node = node.value
        if isinstance(node, ast.Attribute):
            found = self._value(node)
            if found is not _UNKNOWN and not hasattr(type(found), "__get__"):
                yield Change(whole, ast.unparse(node), "class")
        elif isinstance(node, ast.Name) and self._value(node) is not _UNKNOWN:
            yield Change(whole, ast.unparse(whole), "default" if node.id in self.defaults else "module")

    def _is_own_attribute(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self.receiver

    def _value(self, node: ast.expr) -> object:
        match node:
            case ast.Attribute(ast.Name(name), attr) if name == self.receiver:
                if self.assigned is None or attr in self.assigned:
                    return _UNKNOWN
                return inspect.getattr_static(self.cls, attr, _UNKNOWN)
            case ast.Attribute(value, attr):
                owner: Any = self._value(value)
                return getattr(owner, attr, _UNKNOWN) if isinstance(owner, ModuleType | type) else _UNKNOWN
            case ast.Name(name) if name in self.defaults:
                return self.defaults[name]
            case ast.Name(name) if name not in self.local:
                with suppress(LookupError):
                    return self.source.lookup(name)
                return _UNKNOWN
            case _:
                return _UNKNOWN


def _defaults(source: Source) -> Iterator[tuple[str, object]]:
    """The collections that parameters have as defaults."""
    args, function = source.node.args, source.function
    positional = [arg.arg for arg in [*args.posonlyargs, *args.args]]
    values = function.__defaults__ or ()
    named: dict[str, object] = cast(Any, function).__kwdefaults__ or {}
    for name, value in [*zip(positional[len(positional) - len(values) :], values, strict=True), *named.items()]:
        if _is_collection(value):
            yield name, value


def _is_collection(value: object) -> bool:
    return issubclass(type(value), MutableSequence | MutableMapping | MutableSet)
