"""Programs as data: functions made of blocks, each native statements and one terminator. Knows no source and no state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Native:
    """One Python statement or expression that holds no await.

    `lines` gives the source line of each statement in it, in the order `ast.walk` meets them.
    """

    source: str
    lines: tuple[int, ...]

    @property
    def line(self) -> int:
        """The first line."""
        return self.lines[0]


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on at `to`."""

    to: int


@dataclass(frozen=True, slots=True)
class Branch:
    """Go on at `then` if `test` is true, else at `orelse`."""

    test: Native
    then: int
    orelse: int


@dataclass(frozen=True, slots=True)
class Next:
    """Take one item from the iterator in variable `iterator` into variable `into`; at its end go to `done`."""

    iterator: str
    into: str
    body: int
    done: int
    line: int


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for `value`; its result goes into variable `into`, then go on at `to`. `keep` names what is still needed."""

    value: Native
    into: str | None
    to: int
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Return:
    """End the function with the value of an expression."""

    value: Native | None


@dataclass(frozen=True, slots=True)
class Raise:
    """Go on raising the exception in variable `error`."""

    error: str


Terminator = Jump | Branch | Next | Await | Return | Raise


@dataclass(frozen=True, slots=True)
class Block:
    """Native statements and one terminator.

    `handler` is the block that an exception raised here goes to; `catches` the variable in which this block, being a
    handler, receives it; `context` the variable that holds the exception being handled while this block runs.
    """

    code: tuple[Native, ...]
    end: Terminator
    handler: int | None = None
    catches: str | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """One async function. `params` is its parameter list as source; its defaults are names of constants."""

    name: str
    title: str
    """The function's name as its author wrote it, for tracebacks."""
    space: str
    """The namespace in which its global names are looked up."""
    params: str
    file: str
    line: int
    variables: tuple[str, ...]
    """All local names; what is not among them is global."""
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """A global that the worker resolves: `kind` says how, `target` names it.

    Kinds: `action` (its registered name), `workflow` and `object` (`module:qualname`), `module` (its name),
    `function` (another function of this program), `async` (a name of `asyncio`), `exception` (an exception class of a
    module that is closed otherwise, which some other module has imported).
    """

    kind: str
    target: str


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled workflow: self-contained but for its refs."""

    name: str
    cls: str
    """`module:qualname` of the workflow class."""
    functions: Mapping[str, Function]
    refs: Mapping[str, Mapping[str, Ref]]
    """For each namespace (a source module, or one function with names of its own) its global names."""
    consts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """For each namespace its captured constants, encoded."""
    entry: str = ""
    methods: Mapping[str, str] = field(default_factory=dict[str, str])
    """Attribute names of the workflow class and the functions of this program they stand for."""
    statics: tuple[str, ...] = ()
    """Which of these take no object of the class."""
    modules: tuple[str, ...] = ()
    """Modules to import before anything of this program is decoded."""


def successors(end: Terminator) -> tuple[int, ...]:
    """The blocks a terminator may lead to, exceptions aside."""
    match end:
        case Jump(to):
            return (to,)
        case Branch(_, then, orelse):
            return (then, orelse)
        case Next(_, _, body, done, _):
            return (body, done)
        case Await(_, _, to, _):
            return (to,)
        case Return() | Raise():
            return ()
