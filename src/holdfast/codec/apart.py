"""Trees that were encoded together, taken apart: each as if it had been encoded alone. Imports no stored type.

Objects are numbered through all trees of one encoder, so that a tree taken out of its company may refer to what is not
in it. Alone, it holds those objects itself, where it first refers to them.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# Stored trees are Any until a check narrows them to list or dict, whose items are then unknown.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.codec.shown import Call, Items, Pairs, Reference, Shown, Value, look_at
from holdfast.codec.tree import MAX_DEPTH, Tree


class Company:
    """The trees that one encoder made, in their order.

    company = Company([first, second])
    describe(company.alone(second))
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._nodes: list[Tree] = []
        self._numbers: dict[int, int] = {}
        self._refers = False
        for tree in trees:
            self._number(tree, 0)

    def alone(self, tree: Tree) -> Tree:
        """One of the trees, or a part of one, with all that it refers to in it."""
        return _Copy(self._nodes, self._numbers).of(tree, 0) if self._refers else tree

    def _number(self, tree: Tree, depth: int) -> None:
        if depth > 2 * MAX_DEPTH:
            return
        shown = look_at(tree)
        if isinstance(shown, Reference):
            self._refers = True
        if _is_numbered(shown):
            self._numbers[id(tree)] = len(self._nodes)
            self._nodes.append(tree)
        for part in _parts(shown):
            self._number(part, depth + 1)


class _Copy:
    """One tree as it is copied. Counts objects as an encoder would have that had met nothing before."""

    def __init__(self, nodes: Sequence[Tree], numbers: dict[int, int]) -> None:
        self.nodes = nodes
        self.numbers = numbers
        self.met: dict[int, int] = {}
        """The number that an object has now, by the one it had."""

    def of(self, tree: Tree, depth: int) -> Tree:
        if depth > 2 * MAX_DEPTH:
            return None
        shown = look_at(tree)
        if isinstance(shown, Reference):
            known = type(shown.number) is int and 0 <= shown.number < len(self.nodes)
            if not known:
                return tree
            tree = self.nodes[shown.number]
            shown = look_at(tree)
        number = self.numbers.get(id(tree))
        if number is not None:
            if number in self.met:
                return {"$": "ref", "v": self.met[number]}
            self.met[number] = len(self.met)
        copies = {id(part): self.of(part, depth + 1) for part in _parts(shown) if type(part) in (dict, list)}
        return _rebuilt(tree, copies) if copies else tree


def _is_numbered(shown: Shown) -> bool:
    match shown:
        case Items() | Call():
            return shown.numbered
        case Pairs():
            return True
        case Value():
            return bool(shown.numbered)
        case Reference():
            return False


def _parts(shown: Shown) -> list[Tree]:
    """What is inside, in the order in which it was encoded."""
    match shown:
        case Items():
            return shown.items
        case Pairs():
            return [part for pair in shown.pairs for part in pair]
        case Call():
            return [part.tree for part in shown.parts]
        case Value() | Reference():
            return []


def _rebuilt(tree: Tree, copies: dict[int, Tree]) -> Tree:
    """The node with these copies in the places of its parts."""

    def copied(inner: Any) -> Any:
        if type(inner) not in (dict, list):
            return inner
        return copies[id(inner)] if id(inner) in copies else _rebuilt(inner, copies)

    if type(tree) is list:
        return [copied(item) for item in tree]
    return {key: copied(item) for key, item in tree.items()}
