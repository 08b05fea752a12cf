"""Ways out: where `return`, `break` and `continue` go, and what they owe on the way there. Lowers no statement."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from holdfast.compiler.blocks import Builder, Draft
from holdfast.compiler.pieces import at, load, unbind


@dataclass(slots=True)
class Loop:
    """A loop whose body is being lowered: where `break` and `continue` go."""

    after: Draft
    again: Draft


@dataclass(slots=True)
class Finally:
    """A try statement whose `finally` is owed to whoever leaves it. `exits` are the ways out, by number."""

    entry: Draft
    kind: str
    value: str
    exits: list[Exit] = field(default_factory=list["Exit"])

    def exit(self, way: Exit) -> int:
        """The number of a way out; 0 is falling through, -1 raising."""
        if way not in self.exits:
            self.exits.append(way)
        return self.exits.index(way) + 1


@dataclass(slots=True)
class Forget:
    """An except clause: its `as` name is unbound whichever way it is left."""

    name: str


@dataclass(slots=True, frozen=True)
class Exit:
    """A way out of a statement: `return`, `break` or `continue`, the latter two of the loop numbered `loop`."""

    kind: str
    loop: int = -1


class Ways:
    """The ways out of the statements `around` what is being lowered, the outermost first."""

    def __init__(self, build: Builder, node: ast.AsyncFunctionDef) -> None:
        self._build = build
        self._node = node
        self.around: list[Loop | Finally | Forget] = []

    @property
    def owe(self) -> bool:
        """Whether a return from here has something to do on its way."""
        return any(isinstance(ctx, Finally | Forget) for ctx in self.around)

    def leave_with(self, value: ast.expr | None) -> None:
        """Return `value`, already lifted, through every `finally` in between."""
        if value is not None and self._innermost() is None and self.owe:
            # What it is made of is unbound before it is returned.
            name = self._build.temp()
            self._build.assign(name, value)
            value = load(name, value)
        self._give(value)

    def leave(self, kind: str) -> None:
        """Leave by `return`, `break` or `continue`, through every `finally` in between."""
        loops = [i for i, ctx in enumerate(self.around) if isinstance(ctx, Loop)]
        self._go(Exit(kind, loops[-1] if kind != "return" and loops else -1), len(self.around))

    def follow(self, way: Exit, value: str) -> None:
        """Go on along a way out that has run the `finally` it owed; `value` holds what a return returns."""
        if way.kind != "return":
            self._go(way, len(self.around))
            return
        self._give(load(value, self._node))

    def _give(self, value: ast.expr | None) -> None:
        owed = self._innermost()
        if owed is None:
            self._forget_all()
            self._build.returns(value)
        else:
            self._build.assign(owed.value, value if value is not None else at(ast.Constant(None), self._node))
            self.leave("return")

    def _go(self, way: Exit, depth: int) -> None:
        """Follow `way` outward from inside `self.around[:depth]`."""
        for i in range(depth - 1, way.loop, -1):
            ctx = self.around[i]
            if isinstance(ctx, Forget):
                self._build.emit(unbind(ctx.name, self._node))
            elif isinstance(ctx, Finally):
                self._build.assign(ctx.kind, at(ast.Constant(ctx.exit(way)), self._node))
                self._build.jump(ctx.entry)
                return
        if way.kind == "return":
            raise AssertionError("a return outside of every finally is given at once")
        loop = self.around[way.loop]
        assert isinstance(loop, Loop)
        self._build.jump(loop.after if way.kind == "break" else loop.again)

    def _innermost(self) -> Finally | None:
        return next((ctx for ctx in reversed(self.around) if isinstance(ctx, Finally)), None)

    def _forget_all(self) -> None:
        for ctx in self.around:
            if isinstance(ctx, Forget):
                self._build.emit(unbind(ctx.name, self._node))
