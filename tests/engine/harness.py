"""Runs one program twice, by Python and by Holdfast, in the same order of events, and compares all that can be seen.

Python runs it on an event loop whose time is virtual: when nothing is ready, the action that started first ends; when
none is under way, time moves to the next timer. Holdfast is driven by the same rule, and its state may be saved,
folded and loaded into a new machine after any step.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import linecache
import sys
import types
from asyncio import events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.engine import world

from holdfast.codec import decode, dumps, encode, encode_exception, loads
from holdfast.engine import DropCall, Ended, LinkedProgram, Machine, Saver, StartCall, fold, load, read
from holdfast.ir.text import parse, render
from holdfast.registry import Registry
from holdfast.workflow import WORKFLOWS, Workflow, bind_arguments, definition_of

MOST_STEPS = 2_000
_serial = itertools.count()

Crashes = Callable[[int], bool]
"""Whether the process dies after the step of this number."""


def always(_: int) -> bool:
    return True


def never(_: int) -> bool:
    return False


class Endless(AssertionError):
    """A run that takes more steps than any program made here should."""


@dataclass
class Seen:
    """All that can be seen of a run."""

    outcome: Any
    effects: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])


# --- programs as modules


@contextmanager
def program_module(text: str, *, durable: bool) -> Iterator[types.ModuleType]:
    """A module made of `text`, whose source can be read, gone again afterwards. It defines the workflow class `W`."""
    name = f"compared_program_{next(_serial)}"
    file = f"/compared/{name}.py"
    module = types.ModuleType(name)
    module.__file__ = file
    module.__dict__.update(world.NAMES)
    if durable:
        module.__dict__["Workflow"] = Workflow
    else:
        module.__dict__.update({"Workflow": object, **{n: _reference(n) for n in world.PLAIN}})
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[name] = module
    try:
        exec(compile(text, file, "exec"), module.__dict__)
        yield module
    finally:
        del sys.modules[name]
        linecache.cache.pop(file, None)
        for key in [key for key, cls in WORKFLOWS.items() if cls.__module__ == name]:
            del WORKFLOWS[key]


# --- by Python


class _Handle(events.TimerHandle):
    """A timer; of two with one moment, the one set first is first."""

    serial = 0

    def __lt__(self, other: Any) -> bool:
        return (self._when, self.serial) < (other._when, other.serial)


class _NothingToRead:
    def select(self, timeout: float | None = None) -> list[Any]:
        return []

    def close(self) -> None: ...


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop that waits for nothing: actions end in the order they started, and time jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = 0.0
        self.steps = 0
        self.timer_count = 0
        self.actions: list[asyncio.Future[None]] = []
        self.made: list[asyncio.Task[Any]] = []
        self._selector = _NothingToRead()
        self.set_task_factory(self._remembered)
        self.set_exception_handler(lambda loop, context: None)

    def _remembered(self, loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **kwargs)
        self.made.append(task)
        return task

    def time(self) -> float:
        return self.moment

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = _Handle(when, callback, args, self, context)
        handle.serial = self.timer_count = self.timer_count + 1
        heapq.heappush(self._scheduled, handle)
        handle._scheduled = True
        return handle

    def idle(self) -> bool:
        """Whether nothing is left to do before an action ends or time moves."""
        return not self._ready

    def move(self) -> bool:
        """End one action, or let time come to the next timer; False if there is neither."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Endless("Python takes too many steps")
        while self.actions:
            first = self.actions.pop(0)
            if not first.done():
                first.set_result(None)
                return True
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)
        if not self._scheduled:
            return False
        self.moment = max(self.moment, self._scheduled[0]._when)
        return True

    def turn(self) -> None:
        """Run everything that is ready."""
        while True:
            self.steps += 1
            if self.steps > MOST_STEPS * 20:
                raise Endless("Python takes too many turns")
            due = self._scheduled and self._scheduled[0]._when <= self.moment
            if self.idle() and not due:
                return
            self._run_once()

    def _process_events(self, event_list: Any) -> None: ...
    def _write_to_self(self) -> None: ...


def _reference(name: str) -> Callable[..., Any]:
    """The action as a plain coroutine function that logs its start and waits for its turn to end."""
    plain = world.PLAIN[name]

    async def call(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        given, named = _copied([list(args), kwargs])
        world.EFFECTS.append(("start", name, repr(_shape([given, named]))))
        ended: asyncio.Future[None] = loop.create_future()
        loop.actions.append(ended)
        await ended
        return _copied(plain(*given, **named))

    call.__name__ = call.__qualname__ = name
    return call


def _copied(value: Any) -> Any:
    return decode(encode(value))


def by_python(text: str, *args: Any) -> Seen:
    """Run `W().run(*args)` as it stands."""
    with program_module(text, durable=False) as module:
        world.EFFECTS.clear()
        loop = VirtualLoop()
        before = events._get_running_loop()
        events._set_running_loop(loop)
        try:
            root = loop.create_task(module.W().run(*_copied(list(args))))
            loop.turn()
            while not root.done():
                if not loop.move():
                    raise Endless("Python waits for ever")
                loop.turn()
            while left := [task for task in loop.made if not task.done()]:
                unasked = [task for task in left if task.cancelling() == 0]
                for task in unasked:
                    task.cancel()
                if not unasked and not loop.move():
                    raise Endless("Python waits for ever")
                loop.turn()
            for task in loop.made:
                if not task.cancelled():
                    task.exception()
            outcome = _outcome(root)
        finally:
            events._set_running_loop(before)
            loop._ready.clear()
            loop._scheduled.clear()
            loop.close()
        return Seen(outcome, list(world.EFFECTS))


def _outcome(root: asyncio.Task[Any]) -> Any:
    if root.cancelled():
        return ("cancelled",)
    error = root.exception()
    if error is not None:
        return ("failed", shape_of_error(error))
    try:
        return ("done", _shape(_copied(root.result())))
    except Exception as error:
        return ("failed", shape_of_error(error))


# --- by Holdfast


class _Heard(list[Any]):
    """The machine's commands, logged the moment they are given."""

    def __init__(self, pending: list[int]) -> None:
        super().__init__()
        self.pending = pending

    def append(self, command: Any) -> None:
        super().append(command)
        if isinstance(command, StartCall):
            name = command.call.name.partition(":")[2]
            world.EFFECTS.append(("start", name, repr(_shape(decode(command.call.payload)))))
            self.pending.append(command.call.id)
        elif isinstance(command, DropCall):
            self.pending.remove(command.call.id)


@dataclass
class Driven:
    """One instance driven by hand. `pending` are the calls under way, in the order they started."""

    code: LinkedProgram
    machine: Machine
    saver: Saver
    entries: dict[str, Any] = field(default_factory=dict[str, Any])
    pending: list[int] = field(default_factory=list[int])
    now: float = 0.0
    steps: int = 0
    puts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def ended(self) -> Ended | None:
        return self.machine.ended

    def turn(self) -> None:
        """Run what is ready."""
        self.machine.turn(self.now)

    def save(self) -> None:
        """Write what changed, as JSON, and fold it into what was written before."""
        change = self.saver.change()
        tree = loads(dumps({"put": change.put, "gone": list(change.gone), "cut": change.cuts}))
        fold(self.entries, tree["put"], tree["gone"], tree["cut"])
        self.entries = read(self.entries)
        for group in self.saver.groups.values():
            assert dumps(self.entries[group.key]) == group.saved or not group.known, f"{group.key} was cut wrongly"
        self.puts.append(tree)
        self.machine.commands.clear()
        self.machine.notes.clear()

    def crash(self) -> None:
        """Go on in a new machine, made from what was saved."""
        self.machine = Machine(self.code, now=self.now)
        self.machine.commands = _Heard(self.pending)
        self.saver = load(self.machine, loads(dumps(self.entries)))
        stale = {key for key in self.saver.owed.gone if key[0] not in "o="}
        assert not stale, f"left behind in the state: {sorted(stale)}"

    def step(self) -> bool:
        """End one call, or let time come to the next timer; False if there is neither."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Endless("Holdfast takes too many steps")
        machine = self.machine
        if self.pending:
            id = self.pending.pop(0)
            call = machine.calls[id]
            given, named = decode(call.payload)
            try:
                value = world.PLAIN[call.name.partition(":")[2]](*given, **named)
            except Exception as error:
                machine.call_failed(id, error.with_traceback(None), encode_exception(error))
            else:
                tree = encode(value)
                machine.call_done(id, tree, decode(tree))
            return True
        at = machine.next_timer
        if at is None:
            return False
        self.now = max(self.now, at)
        return True

    def finish(self, crashes: Crashes = never) -> Ended:
        """Drive it to its end."""
        self.turn()
        while self.ended is None:
            self.save()
            if crashes(self.steps):
                self.crash()
            if not self.step():
                raise Endless("Holdfast waits for ever")
            self.turn()
        return self.ended


def linked(cls: type[Workflow]) -> LinkedProgram:
    """Compile, write as text, read, link."""
    registry = Registry()
    stored = registry.stored(definition_of(cls))
    assert render(parse(stored.text)) == stored.text
    return registry.link(stored)


def driven(cls: type[Workflow], *args: Any, code: LinkedProgram | None = None, **kwargs: Any) -> Driven:
    """An instance of `cls`, begun and not yet turned."""
    code = code or linked(cls)
    machine = Machine(code, now=0.0)
    drive = Driven(code, machine, Saver(machine))
    machine.commands = _Heard(drive.pending)
    made = object.__new__(code.cls)
    made.__dict__.update(vars(cls()))
    machine.begin(made, {"self": made, **bind_arguments(cls, tuple(args), kwargs)})
    return drive


def by_holdfast(text: str, *args: Any, crashes: tuple[Crashes, ...] = (never, always)) -> list[Seen]:
    """Compile `W` and drive it to its end, once for each way to crash."""
    with program_module(text, durable=True) as module:
        code = linked(module.W)
        runs: list[Seen] = []
        for crash in crashes:
            world.EFFECTS.clear()
            ended = driven(module.W, *_copied(list(args)), code=code).finish(crash)
            if ended.kind == "done":
                outcome: Any = ("done", _shape(decode(ended.tree)))
            elif ended.kind == "failed":
                outcome = ("failed", shape_of_error(decode(ended.tree)))
            else:
                outcome = (ended.kind,)
            runs.append(Seen(outcome, list(world.EFFECTS)))
        return runs


# --- comparing


def compare(text: str, *args: Any, crashes: tuple[Crashes, ...] = (never, always)) -> Seen:
    """Run `text` both ways; AssertionError where anything differs. Gives what Python did."""
    expected = by_python(text, *args)
    for number, got in enumerate(by_holdfast(text, *args, crashes=crashes)):
        way = f"run {number} of {len(crashes)}"
        assert got.effects == expected.effects, _difference(text, way, expected, got)
        assert got.outcome == expected.outcome, _difference(text, way, expected, got)
    return expected


def _difference(text: str, way: str, expected: Seen, got: Seen) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(expected.effects, got.effects)) if a != b),
        min(len(expected.effects), len(got.effects)),
    )
    return "\n".join(
        [
            f"{way} differs from Python, effects from number {at}:",
            f"  Python:   {expected.effects[at : at + 3]}",
            f"  Holdfast: {got.effects[at : at + 3]}",
            f"  Python ended:   {expected.outcome}",
            f"  Holdfast ended: {got.outcome}",
            text,
        ]
    )


def _shape(value: Any, met: dict[int, int] | None = None) -> Any:
    """A value as nested tuples: types, contents, and which parts are one object."""
    met = {} if met is None else met
    if isinstance(value, list | dict | set | world.Box | BaseException):
        if id(value) in met:
            return ("same as", met[id(value)])
        met[id(value)] = len(met)
    kind = type(value).__name__
    match value:
        case BaseException():
            return shape_of_error(value, met)
        case list() | tuple():
            return (kind, tuple(_shape(item, met) for item in value))
        case dict():
            return (kind, tuple((_shape(k, met), _shape(v, met)) for k, v in value.items()))
        case set() | frozenset():
            return (kind, tuple(sorted(repr(_shape(item, met)) for item in value)))
        case world.Box():
            return (kind, _shape(vars(value), met))
        case _:
            return (kind, repr(value))


def shape_of_error(error: BaseException | None, met: dict[int, int] | None = None) -> Any:
    """An exception's type, arguments, members, cause and context, all the way."""
    met = {} if met is None else met
    if error is None:
        return None
    if isinstance(error, BaseExceptionGroup):
        parts: Any = (error.message, tuple(shape_of_error(one, met) for one in error.exceptions))
    else:
        parts = _shape(error.args, met)
    return (
        type(error).__name__,
        parts,
        ("cause", type(error.__cause__).__name__),
        ("context", _contexts(error)),
    )


def _contexts(error: BaseException) -> tuple[str, ...]:
    names: list[str] = []
    inner = error.__context__
    while inner is not None and len(names) < 5:
        names.append(type(inner).__name__)
        inner = inner.__context__
    return tuple(names)
