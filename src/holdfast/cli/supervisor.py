"""Keeps worker processes alive: starts them anew when they die, replaces them before they retire. Does no work itself."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.cli.scaling import Scale, ado
from holdfast.cli.telling import VARIABLE
from holdfast.errors import ConfigurationError, DecodeError
from holdfast.logs import get_logger
from holdfast.observe.health import Health, Told, health_of
from holdfast.runtime.background import Background
from holdfast.runtime.counting import Numbers, Tally, add_numbers, only_counted
from holdfast.runtime.reading import Reading, read_reading

log = get_logger("holdfast.supervisor")

STABLE_AFTER = 10.0
"""A process that lived so many seconds is started anew at once; others with a growing pause."""
SCALE_EVERY = 0.25
"""Seconds between two looks whether there should be more processes, or fewer."""
LAST_WORDS = 1.0
"""Seconds for which a process that has ended is heard at most."""
LONGEST_LINE = 16_000_000
"""Bytes of a line that a worker tells."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
NEVER = 78
"""The exit status of a worker that cannot start, and cannot when it is started anew (`EX_CONFIG` of sysexits.h)."""


@dataclass(eq=False)
class Child:
    """A worker process and what it said."""

    process: asyncio.subprocess.Process
    born: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """It has said all it will."""
    reason: str = "it told nothing"
    """Why it cannot start."""
    retiring: bool = False
    """Another one takes its place, or none does."""
    told: Reading | None = None
    """How it was when it last told."""
    told_at: float = 0.0


@dataclass(eq=False)
class Place:
    """A place for a worker process: whoever has it is replaced when it dies."""

    child: Child | None = None
    deaths: int = 0
    """How many processes in a row have died here before they were stable."""

    def lost(self, now: float) -> int:
        """How many have died in a row, unless the present one is stable."""
        stable = self.child is not None and now - self.child.born >= STABLE_AFTER
        return 0 if stable else self.deaths


class Supervisor:
    """Runs copies of `command` until a signal says stop, as many as `scale` decides."""

    def __init__(self, command: Sequence[str], *, scale: Scale, drain: float, reload: bool = False) -> None:
        self.command = list(command)
        self.scale = scale
        self.drain = drain
        self.reload = reload
        self.children: set[Child] = set()
        self._places: set[Place] = set()
        self._restarts = Tally()
        for reason in ("died", "recycled", "reloaded"):
            self._restarts.add((reason,), 0)
        self._past: Numbers = {}
        """What processes counted that have ended."""
        self._lock = threading.Lock()
        """Guards that no process counts twice, or not at all, to those who ask for numbers from another thread."""
        self._stopping = asyncio.Event()
        self._signals = 0
        self._background = Background()
        self._broken: ConfigurationError | None = None

    async def run(self) -> int:
        """Supervise until stopped; returns the exit status.

        Raises ConfigurationError where files cannot be watched, or where workers cannot start and none works.
        """
        watchfiles = _watchfiles() if self.reload else None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        for _ in range(self.scale.least):
            self._background.begin(self._post())
        if self.scale.most > self.scale.least:
            self._background.begin(self._scaling())
        if watchfiles is not None:
            self._background.begin(self._reloading(watchfiles))
        await self._stopping.wait()
        for child in self.children:
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + self.drain + 10.0
        while self.children and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for child in self.children:
            log.warning("worker killed", pid=child.process.pid, reason="it did not end in time")
            _signal(child, signal.SIGKILL)
        await self._background.stop()
        if self._broken is not None:
            raise self._broken
        return 0

    def _stop(self) -> None:
        self._signals += 1
        self._stopping.set()
        if self._signals > 1:
            for child in self.children:
                _signal(child, signal.SIGTERM)

    def health(self) -> Health:
        """How the workers are. Safe to call from any thread, as is `numbers`."""
        now = time.monotonic()
        told = [
            Told(reading=child.told, age=now - child.told_at)
            for child in list(self.children)
            if child.told is not None and not (child.retiring and child.told.draining)
        ]
        deaths = [place.lost(now) for place in list(self._places)]
        return health_of(told, wanted=self.scale.least, stopping=self._stopping.is_set(), deaths=deaths)

    def numbers(self) -> Numbers:
        """What all workers have counted, also those that have ended."""
        found: Numbers = {}
        with self._lock:
            children = list(self.children)
            told = [child.told for child in children if child.told is not None]
            for numbers in (self._past, *(reading.numbers for reading in told)):
                add_numbers(found, numbers)
        found["holdfast_processes"] = {(): [len(children)]}
        found["holdfast_processes_ready"] = {(): [sum(each.ready and not each.draining for each in told)]}
        found["holdfast_process_restarts_total"] = {
            labels: list(n) for labels, n in list(self._restarts.series.items())
        }
        return found

    async def _post(self) -> None:
        """Keep a place filled: whoever has it is replaced when it dies, until one retires."""
        place = Place()
        self._places.add(place)
        try:
            await self._fill(place)
        finally:
            self._places.discard(place)

    async def _fill(self, place: Place) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                child = await self._spawn()
            except OSError as error:
                # No more processes, memory or files just now: that passes, and the post must not be lost with it.
                log.error("worker not started", error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            place.child = child
            await self._watch(child)
            place.child = None
            if child.retiring or self._stopping.is_set():
                return
            if child.process.returncode == NEVER and await self._never(child):
                return
            lived = time.monotonic() - child.born
            log.warning("worker died", pid=child.process.pid, status=child.process.returncode, lived=round(lived, 1))
            self._restarts.add(("died",))
            place.deaths += 1
            if lived >= STABLE_AFTER:
                pause = FIRST_PAUSE
                place.deaths = 0
                continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _scaling(self) -> None:
        """Start and end processes as there is more or less to do."""
        while not self._stopping.is_set():
            await asyncio.sleep(SCALE_EVERY)
            staying = [child for child in self.children if not child.retiring]
            told = {child: child.told for child in staying if child.told is not None}
            retiring = len(self.children) - len(staying)
            match self.scale.decide(list(told.values()), places=len(self._places) - retiring, now=time.monotonic()):
                case 1:
                    log.info("worker added", processes=len(staying) + 1)
                    self._background.begin(self._post())
                case -1:
                    child = min(told, key=lambda child: ado(told[child]))
                    log.info("worker retired", pid=child.process.pid, processes=len(staying) - 1)
                    child.retiring = True
                    _signal(child, signal.SIGTERM)
                case 0:
                    pass

    async def _spawn(self) -> Child:
        read, write = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                pass_fds=(write,),
                env={**os.environ, VARIABLE: str(write)},
                start_new_session=True,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        child = Child(process, time.monotonic())
        self.children.add(child)
        self._background.begin(self._listen(child, read))
        return child

    async def _never(self, child: Child) -> bool:
        """Whether to end because of a worker that cannot start: none works, and no change of a file may mend it."""
        if self.reload or any(other.ready.is_set() for other in self.children):
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.heard.wait(), STABLE_AFTER)
        self._break(child.reason)
        return True

    def _break(self, reason: str, cause: BaseException | None = None) -> None:
        if self._broken is None:
            self._broken = ConfigurationError(reason)
            self._broken.__cause__ = cause
        self._stopping.set()

    async def _watch(self, child: Child) -> None:
        await child.process.wait()
        # Its last words may still be in the pipe; but somebody else may hold that open.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.heard.wait(), LAST_WORDS)
        with self._lock:
            self.children.discard(child)
            if child.told is not None:
                add_numbers(self._past, only_counted(child.told.numbers))

    async def _listen(self, child: Child, read: int) -> None:
        """Hear what a worker says: that it is ready, how it is, that it wants to be replaced, or why it can never start."""
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        pipe = os.fdopen(read, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await reader.readline():
                if line == b"ready\n":
                    child.ready.set()
                elif line == b"recycle\n":
                    self._background.begin(self._replace(child, "recycled"))
                elif line.startswith(b"reading "):
                    self._hear(child, line.removeprefix(b"reading "))
                elif line.startswith(b"never "):
                    child.reason = json.loads(line.removeprefix(b"never "))
        finally:
            child.heard.set()
            transport.close()

    def _hear(self, child: Child, line: bytes) -> None:
        try:
            child.told = read_reading(line)
        except DecodeError as error:
            log.warning("worker not understood", pid=child.process.pid, error=str(error))
            return
        child.told_at = time.monotonic()

    async def _replace(self, child: Child, why: str) -> None:
        """Start the replacement first; the old one drains once the new one takes work."""
        if child.retiring or self._stopping.is_set():
            return
        child.retiring = True
        self._restarts.add((why,))
        before = set(self.children)
        self._background.begin(self._post())
        while not self._stopping.is_set():
            fresh = [other for other in self.children - before if other.ready.is_set()]
            if fresh:
                break
            await asyncio.sleep(0.05)
        log.info("worker recycled", pid=child.process.pid, reason=why)
        _signal(child, signal.SIGTERM)

    async def _reloading(self, watchfiles: Any) -> None:
        try:
            watched = watchfiles.awatch(".", watch_filter=watchfiles.PythonFilter(), stop_event=self._stopping)
            async for changes in watched:
                print(f"holdfast: {len(changes)} changed, restarting", file=sys.stderr)
                for child in list(self.children):
                    self._background.begin(self._replace(child, "reloaded"))
        except OSError as error:
            self._break(f"--reload cannot watch this folder: {error}", error)


def _watchfiles() -> Any:
    try:
        return importlib.import_module("watchfiles")
    except ImportError as error:
        raise ConfigurationError("--reload needs watchfiles: pip install 'holdfast[reload]'") from error


def _signal(child: Child, number: int) -> None:
    if child.process.returncode is None:
        child.process.send_signal(number)
