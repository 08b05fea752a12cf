"""Graphs: numbers for objects that carry identity, in the order they are met. Knows no type of value.

An encoding graph gives each such object the next number before it looks inside, and writes a reference
when it meets the object again. A decoding graph counts the same way, so numbers need not be stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from holdfast.codec.names import look_up
from holdfast.codec.refusals import Refusal
from holdfast.codec.tree import MAX_DEPTH, Tree
from holdfast.errors import DecodeError, EncodeError

EncodeFunction: TypeAlias = "Callable[[EncodingGraph, Any], Tree]"
DecodeFunction: TypeAlias = "Callable[[DecodingGraph, dict[str, Any]], Any]"
Resolve: TypeAlias = Callable[[str], type]


class EncodingGraph:
    """Numbers what it meets. `visit` is the one way down; the subclass says how each type is written."""

    __slots__ = ("being_filled", "chain", "closed", "depth", "lenient", "numbers", "objects", "softened")

    def __init__(self) -> None:
        self.objects: list[object] = []
        self.numbers: dict[int, int] = {}
        self.closed: set[int] = set()  # being written, and made in one piece when read: no cycle may enter
        self.being_filled: set[int] = set()  # instances being written, whose own hash would not work yet
        self.depth = 0
        self.chain = 0  # causes and contexts followed to get here
        self.lenient = False
        self.softened = False  # something in an exception could not be saved, and became text

    def encode(self, value: object) -> Tree:
        """The tree of a value. Numbering goes on where the last call on this graph left it."""
        mark = len(self.objects)
        try:
            return self.visit(value)
        except Refusal as refusal:
            self.forget_since(mark, depth=0, chain=0)
            raise _as_error(refusal) from refusal.__cause__
        except RecursionError as error:
            self.forget_since(mark, depth=0, chain=0)
            raise EncodeError("the value is nested too deeply to be saved") from error

    def visit(self, value: object) -> Tree:
        """The tree of one value inside the graph. Raises Refusal."""
        raise NotImplementedError

    def meet(self, value: object) -> Tree | None:
        """None, and a number for it, at the first meeting; a reference at every later one."""
        key = id(value)
        number = self.numbers.get(key)
        if number is None:
            self.numbers[key] = len(self.objects)
            self.objects.append(value)
            return None
        if key in self.closed:
            kind = type(value).__name__
            raise Refusal(f"a {kind} contains itself, and a cycle through a {kind} cannot be rebuilt", kind=kind)
        return {"$": "ref", "v": number}

    def deeper(self) -> None:
        """One level further in. Whoever calls this takes one off `depth` when it is done."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refusal(f"the value is nested more than {MAX_DEPTH} levels deep; make it flatter", kind="depth")

    def attempt(self, value: object) -> Tree:
        """Like visit, but leaves the graph as it was when the value is refused."""
        mark, depth, chain = len(self.objects), self.depth, self.chain
        try:
            return self.visit(value)
        except (Refusal, RecursionError):
            self.forget_since(mark, depth=depth, chain=chain)
            raise

    def forget_since(self, mark: int, *, depth: int, chain: int) -> None:
        """Takes back every number given since `mark`."""
        for dropped in self.objects[mark:]:
            key = id(dropped)
            del self.numbers[key]
            self.closed.discard(key)
            self.being_filled.discard(key)
        del self.objects[mark:]
        self.depth, self.chain = depth, chain


def _as_error(refusal: Refusal) -> EncodeError:
    path = refusal.path
    where = f"at {path}: " if path else ""
    return EncodeError(where + refusal.reason, path=path, kind=refusal.kind)


class DecodingGraph:
    """Rebuilds what an encoding graph wrote. Raises DecodeError and nothing else, whatever it is given."""

    __slots__ = (
        "_later",
        "_open",
        "being_filled",
        "depth",
        "known",
        "lenient",
        "lenient_exceptions",
        "objects",
        "resolve",
    )

    def __init__(self, *, resolve: Resolve = look_up, lenient_exceptions: bool = False) -> None:
        self.resolve = resolve
        self.lenient_exceptions = lenient_exceptions
        self.lenient = False  # inside an exception whose unknown parts may become text
        self.objects: list[object] = []
        self.being_filled = 0  # instances that have not got all their fields, so whose hash may be missing
        self.known: dict[str, Any] = {}  # what the names of classes led to so far
        self.depth = 0
        self._open: set[int] = set()
        self._later: list[Callable[[], object]] = []

    def decode(self, tree: Tree) -> Any:
        """The value of a tree. Call in the order in which the encoder was called."""
        mark = len(self.objects)
        try:
            value = self.visit(tree)
            for action in self._later:
                # What was put off holds keys whose hashes needed finished instances, innermost first.
                action()
            self._later.clear()
            return value
        except DecodeError:
            self._reset(mark)
            raise
        except Exception as error:  # the hashes and decoders of user types run in here
            self._reset(mark)
            raise DecodeError(f"the stored value does not decode: {type(error).__name__}: {error}") from error

    def visit(self, tree: Tree) -> Any:
        """The value of one tree inside the graph."""
        raise NotImplementedError

    def keep(self, value: object) -> None:
        """Gives a mutable object its number before it is filled."""
        self.objects.append(value)

    def reserve(self) -> int:
        """A number for an object that is made in one piece, once its parts are known."""
        number = len(self.objects)
        self.objects.append(None)
        self._open.add(number)
        return number

    def fulfil(self, number: int, value: Any) -> Any:
        """Puts the finished object at its reserved number."""
        self._open.discard(number)
        self.objects[number] = value
        return value

    def refer(self, number: object) -> Any:
        """The object that has this number already."""
        if type(number) is not int or not 0 <= number < len(self.objects) or number in self._open:
            raise DecodeError(f"a reference to object {str(number)[:40]}, which does not exist at this point")
        return self.objects[number]

    def later(self, action: Callable[[], object]) -> None:
        """Runs the action when the whole tree is built."""
        self._later.append(action)

    def deeper(self) -> None:
        """One level further in. Whoever calls this takes one off `depth` when it is done."""
        self.depth += 1
        if self.depth > MAX_DEPTH + 8:
            raise DecodeError(f"the stored value is nested more than {MAX_DEPTH} levels deep")

    def _reset(self, mark: int) -> None:
        del self.objects[mark:]
        self._open.clear()
        self._later.clear()
        self.depth = self.being_filled = 0
        self.lenient = False
