"""Blocks under construction: syntax still, not yet text. Holds what lowering emits; knows nothing of Python's statements."""

from __future__ import annotations

import ast
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from holdfast.ir.program import Await, Block, Branch, Jump, Native, Next, Raise, Return, Terminator, successors
from holdfast.ir.scopes import every_node

PENDING = Native("None", (0,))
"""Stands in a terminator for the expression in `Draft.expr` until the block is finished."""


@dataclass(slots=True)
class Draft:
    """A block being written."""

    index: int
    code: list[ast.stmt] = field(default_factory=list[ast.stmt])
    expr: ast.expr | None = None
    end: Terminator | None = None
    handler: int | None = None
    catches: str | None = None
    context: str | None = None
    binds: set[str] = field(default_factory=set[str])
    """Variables that have got a value on the only way to this block, since the last await."""


class Builder:
    """Writes blocks one after another. `here` is the block being written."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.handler: int | None = None
        self.context: str | None = None
        self._temps = 0
        self.here = self.block()

    def block(self) -> Draft:
        """A new block under the present handler and context, not yet written to."""
        draft = Draft(len(self.drafts), handler=self.handler, context=self.context)
        self.drafts.append(draft)
        return draft

    def start(self, draft: Draft) -> None:
        """Write to `draft` from now on."""
        self.here = draft

    def temp(self) -> str:
        """A fresh variable of the compiler's own."""
        self._temps += 1
        return f"_hf{self._temps}"

    def is_temp(self, name: str) -> bool:
        return name.startswith("_hf")

    @property
    def open(self) -> bool:
        """Whether the present block can still be reached and written to."""
        return self.here.end is None

    def emit(self, stmt: ast.stmt) -> None:
        """Add a native statement; what follows a terminator is unreachable and left out."""
        if self.open:
            self.here.code.append(stmt)

    def assign(self, name: str, value: ast.expr) -> None:
        """Add `name = value`."""
        target = ast.Name(name, ast.Store())
        self.emit(ast.fix_missing_locations(ast.copy_location(ast.Assign([target], value), value)))

    def jump(self, to: Draft) -> None:
        """End the block by going to `to`."""
        if self.open:
            self.here.end = Jump(to.index)

    def branch(self, test: ast.expr, then: Draft, orelse: Draft) -> None:
        """End the block by choosing."""
        if self.open:
            self.here.expr, self.here.end = test, Branch(PENDING, then.index, orelse.index)

    def wait(self, value: ast.expr, into: str | None) -> None:
        """End the block by waiting for `value`, and go on in a new one."""
        if self.open:
            after = self.block()
            self.here.expr, self.here.end = value, Await(PENDING, into, after.index)
            self.start(after)

    def returns(self, value: ast.expr | None) -> None:
        """End the block and the function."""
        if self.open:
            self.here.expr, self.here.end = value, Return(None if value is None else PENDING)

    def raises(self, error: str) -> None:
        """End the block by going on raising what is in variable `error`."""
        if self.open:
            self.here.end = Raise(error)

    def next(self, iterator: str, into: str, body: Draft, done: Draft, line: int) -> None:
        """End the block by taking an item."""
        if self.open:
            self.here.end = Next(iterator, into, body.index, done.index, line)

    @contextmanager
    def guarded(self, handler: Draft | None) -> Generator[None]:
        """Blocks made inside send their exceptions to `handler` (None: to the present one)."""
        before = self.handler
        self.handler = before if handler is None else handler.index
        try:
            yield
        finally:
            self.handler = before

    @contextmanager
    def handling(self, error: str) -> Generator[None]:
        """Blocks made inside run while the exception in `error` is being handled."""
        before = self.context
        self.context = error
        try:
            yield
        finally:
            self.context = before


def finish(drafts: list[Draft], keeps: dict[int, tuple[str, ...]]) -> tuple[Block, ...]:
    """The blocks as they are kept: unreachable ones left out, empty jumps threaded, numbered in order of first use."""
    for draft in drafts:
        if draft.end is None:
            draft.end = Return(None)
    thread = _threading(drafts)
    order = _reachable(drafts, thread)
    number = {old: new for new, old in enumerate(order)}

    def to(index: int) -> int:
        return number[thread[index]]

    blocks: list[Block] = []
    for old in order:
        draft = drafts[old]
        text = None if draft.expr is None else native(draft.expr)
        blocks.append(
            Block(
                tuple(native(stmt) for stmt in draft.code),
                _finished(draft.end, text, to, keeps.get(old, ())),
                None if draft.handler is None else to(draft.handler),
                draft.catches,
                draft.context,
            )
        )
    return tuple(blocks)


def _finished(
    end: Terminator | None, text: Native | None, to: Callable[[int], int], keep: tuple[str, ...]
) -> Terminator:
    match end:
        case Jump(target):
            return Jump(to(target))
        case Branch(_, then, orelse):
            return Branch(text or PENDING, to(then), to(orelse))
        case Next(iterator, into, body, done, line):
            return Next(iterator, into, to(body), to(done), line)
        case Await(_, into, target, _):
            return Await(text or PENDING, into, to(target), keep)
        case Return(_):
            return Return(text)
        case Raise(_):
            return end
        case None:
            raise AssertionError("a block without an end")


def _threading(drafts: list[Draft]) -> list[int]:
    """For each block the one it stands for: itself, or the end of a chain of empty jumps."""

    def last(index: int) -> int:
        seen: set[int] = set()
        while index not in seen:
            seen.add(index)
            draft = drafts[index]
            if draft.code or draft.catches or not isinstance(draft.end, Jump):
                break
            index = draft.end.to
        return index

    return [last(draft.index) for draft in drafts]


def _reachable(drafts: list[Draft], thread: list[int]) -> list[int]:
    order: list[int] = []
    seen: set[int] = set()
    stack = [thread[0]]
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        order.append(index)
        draft = drafts[index]
        assert draft.end is not None
        onward = [thread[to] for to in successors(draft.end)]
        if draft.handler is not None:
            onward.append(thread[draft.handler])
        stack.extend(reversed(onward))
    return order


def native(node: ast.stmt | ast.expr) -> Native:
    """A statement or expression as text, with the lines of its statements."""
    lines = tuple(
        inner.lineno
        for inner in every_node(node)
        if isinstance(inner, ast.stmt | ast.ExceptHandler) and hasattr(inner, "lineno")
    )
    return Native(ast.unparse(node), lines or (getattr(node, "lineno", 0),))
