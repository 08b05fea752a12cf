"""Ownership: instances claimed, advanced, committed in groups, and let go. One writer a worker.

It never waits on a timer to fill a batch: what came in while one commit was under way makes the next one.
A turn of the machine, the state it leads to and the calls it asks for are one commit, and a call starts only after
the commit that made it. For a first call that follows from the arguments alone, that is the commit of the start.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

from holdfast.clock import Clock
from holdfast.codec import decode, dumps, encode_exception, loads
from holdfast.engine import Change, Command, DropCall, Ended, Machine, Note, PendingCall, Send, StartCall
from holdfast.errors import (
    CodecError,
    EncodeError,
    HoldfastError,
    LeaseLost,
    ProgramError,
    StoreError,
    StoreUnavailable,
)
from holdfast.ids import InstanceId, WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import (
    Claimed,
    Commit,
    Committed,
    Delivery,
    DeliveryKind,
    Ending,
    Park,
    Release,
    SpilledCall,
    Start,
    Status,
    Step,
    StoredProgram,
)
from holdfast.ports import WORK_CHANNEL, Settled, Store, inbox_channel
from holdfast.registry import Registry
from holdfast.retry import jitter_chance
from holdfast.runtime import joining
from holdfast.runtime.executor import Attempt, Executor, Gave, Raised
from holdfast.runtime.resident import Resident, awaken, start_payload
from holdfast.settings import Settings
from holdfast.task import ACTIONS
from holdfast.workflow import WORKFLOWS, definition_of

log = get_logger("holdfast.worker")

COMMIT_LIMIT = 500
"""Instances in one commit: enough to amortise it, few enough that the others need not wait long."""
EVICT_AFTER = 1.0
"""An instance that waits longer than so many seconds leaves memory."""
GLANCE = 0.01
"""Seconds between two questions whether another process has written, to a store that knows; each costs microseconds."""
RECOVERY_LIMIT = 10
"""Takeovers in a row without a step after which an instance is taken for the cause, and parked."""
PORTION = 50
"""Turns taken at a stretch while a group is being written, so that its end is noticed in time."""
SPILL_FACTOR = 4
"""A worker keeps so many times its concurrency in calls before it hands further ones to others."""


Written = tuple[Resident, Commit, list[Command]]
"""A resident with what it produced, and the commands that wait for that to be durable."""


@dataclass(slots=True)
class Group:
    """What is written together."""

    settled: list[Settled] = field(default_factory=list[Settled])
    commits: list[Commit] = field(default_factory=list[Commit])
    """Of instances given up: their parks."""
    written: list[Written] = field(default_factory=list[Written])
    held: set[InstanceId] = field(default_factory=set[InstanceId])

    def __bool__(self) -> bool:
        return bool(self.settled or self.commits or self.written)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written, and the store's answer."""

    committed: Committed
    commits: Sequence[Commit]
    written: Sequence[Written]


class Owner:
    """The instances of one worker. `ended` is told of each that ends, with its status and outcome's payload."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        store: Store,
        registry: Registry,
        executor: Executor,
        clock: Clock,
        settings: Settings,
        ended: Callable[[InstanceId, Ending], bool],
        parked: Callable[[InstanceId], None] = lambda _id: None,
        forgetful: bool = False,
    ) -> None:
        self.worker = worker
        self.store = store
        self.registry = registry
        self.executor = executor
        self.clock = clock
        self.settings = settings
        self.queues = [queue.strip() for queue in settings.queues.split(",") if queue.strip()]
        self.residents: dict[InstanceId, Resident] = {}
        self.other_workers = 0
        self.draining = False
        self.commits = 0
        self._ended = ended
        self._parked = parked
        self._forgetful = forgetful
        """For tests: read every instance back from the store after each commit, as after a crash."""
        self._hungry = True
        """The last claim may have left something behind, for want of room."""
        self._idle = False
        """Whether the store was told that this worker has nothing to do."""
        self._napping = False
        self._stirred: dict[InstanceId, Resident] = {}
        self._parks: list[Commit] = []
        self._settled: list[Settled] = []
        self._taken: dict[str, Attempt] = {}
        self._coming = Group()
        self._sending: asyncio.Future[list[Receipt]] | None = None
        self._held: AbstractSet[InstanceId] = frozenset()
        """Of the group that is being written: their next turn waits for the end of that."""
        self._spent: set[tuple[InstanceId, str]] = set()
        """Inbox rows consumed since the inbox was last asked for: the answer may still hold them."""
        self._reading = False
        self._asking: asyncio.Future[None] | None = None
        self._write = asyncio.Event()
        self._look = asyncio.Event()
        """There may be something to claim."""
        self._mail = asyncio.Event()
        self._written = asyncio.Event()
        self._alarms: list[tuple[float, int, InstanceId]] = []
        self._alarm_count = 0
        self._cancel_alarm: Callable[[], None] | None = None
        self._alarm_at: float | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self._new_programs: dict[str, StoredProgram] = {}
        self._kept_programs: set[str] = set()
        self._writing = False

    # --- wake-ups

    def look(self, _: str = "") -> None:
        """There may be work to claim."""
        self._look.set()

    def mail(self, _: str = "") -> None:
        """There may be something in the inbox."""
        self._mail.set()

    @property
    def busy(self) -> bool:
        """Whether anything is running or waits to be written."""
        return bool(self._stirred or self._parks or self._settled or self._coming or self.executor.load)

    @property
    def quiet(self) -> bool:
        """Whether nothing will happen until time passes or somebody else acts."""
        pending = self.busy or self._writing or self._mail.is_set() or self._look.is_set() or self._reading
        return self._napping and not pending and not self._tasks

    async def settled_down(self) -> None:
        """Return once nothing runs and everything is written."""
        while self.busy or self._writing:
            await self.executor.drained()
            self._written.clear()
            if self.busy or self._writing:
                await self._written.wait()

    # --- claiming

    async def claiming(self) -> None:
        """Claim what there is room for, for as long as this runs."""
        notifies = self.store.traits.notifies
        poll = self.settings.poll_interval_ms / 1000
        nap = poll
        while not self.draining:
            self._look.clear()
            left = self.settings.max_instances - len(self.residents)
            room = max(0, min(left, COMMIT_LIMIT))
            call_room = self._call_room()
            if self._is_full(left) and call_room == 0:
                await self._until_room(poll)
                continue
            claims = await self._patiently(
                lambda room=room, call_room=call_room: self.store.claim(
                    self.worker,
                    queues=self.queues,
                    room=room,
                    call_room=call_room,
                    now=self.clock.now(),
                )
            )
            self._hungry = len(claims.instances) >= room
            self.executor.freed = self.look if claims.more_calls else None
            for call in claims.calls:
                self._run_taken(call)
            if claims.instances:
                await self._adopt(claims.instances)
                self._mail.set()
            if claims.instances or claims.calls:
                nap = poll
                if len(claims.instances) >= COMMIT_LIMIT:
                    await asyncio.sleep(0)
                    continue
            elif not self.residents and not self._idle:
                # Once more after saying so: what was started before that was not announced.
                await self._patiently(lambda: self.store.idle(self.worker, True))
                self._idle = True
                continue
            elif not self.residents:
                nap = min(max(nap * 2, poll), 1.0) if notifies else poll
            elif self._idle and len(self.residents) > COMMIT_LIMIT:
                await self._patiently(lambda: self.store.idle(self.worker, False))
                self._idle = False
            await self._nap(nap, claims.next_due)

    def _is_full(self, room: int) -> bool:
        # A claim for a few is not worth its statement, and what nothing here can run is better left to others.
        return room < min(COMMIT_LIMIT, self.settings.max_instances) // 4 + 1 or self.executor.room == 0

    async def _until_room(self, poll: float) -> None:
        """Wait until an instance has left or an action has ended. Claims nothing meanwhile."""
        self.executor.freed = self.look
        try:
            if not self.store.traits.notifies:
                # What other processes write into the inboxes of its instances is seen by looking only.
                await self._nap(poll, None)
                return
            self._napping = True
            await self._look.wait()
        finally:
            self.executor.freed = None
            self._napping = False

    async def _nap(self, nap: float, next_due: float | None) -> None:
        """Wait until something may have changed: told so, a moment has come, or another process has written."""
        glances = not self.store.traits.notifies and self.store.traits.sees_changes
        begin = time.monotonic()
        deadline = begin + (min(nap, GLANCE) if glances else nap)
        due: list[Callable[[], None]] = []
        if next_due is not None:
            due.append(self.clock.call_at(next_due, self.look))
        self._napping = True
        try:
            while True:
                left = deadline - time.monotonic()
                if left <= 0 and (not glances or await self._patiently(self.store.changed)):
                    if self.residents:
                        self._mail.set()
                    return
                if left <= 0:
                    # The longer nothing happens, the longer the pauses, up to the poll interval.
                    idle = time.monotonic() - begin
                    deadline = time.monotonic() + min(nap, max(GLANCE, idle / 20))
                    continue
                try:
                    async with asyncio.timeout(left):
                        await self._look.wait()
                    return
                except TimeoutError:
                    continue
        finally:
            self._napping = False
            for cancel in due:
                cancel()

    def _call_room(self) -> int:
        room = max(0, self.executor.room - self.executor.load)
        return room if self.settings.batch_size is None else min(room, self.settings.batch_size)

    async def _adopt(self, claimed: Sequence[Claimed]) -> None:
        wanted = {c.program for c in claimed if self.registry.get(c.program) is None}
        broken: dict[str, str] = {}
        if wanted:
            stored = await self._patiently(lambda: self.store.load_programs(sorted(wanted)))
            for program in stored:
                try:
                    self.registry.link(program)
                except ProgramError as error:
                    broken[program.hash] = str(error)
                except Exception as error:  # noqa: BLE001 - linking imports user modules
                    broken[program.hash] = f"its program cannot be loaded here: {type(error).__name__}: {error}"
            for hash in wanted - {program.hash for program in stored}:
                broken[hash] = f"its program {hash} is not in the store"
        now = self.clock.now()
        for one in claimed:
            if (resident := self.residents.get(one.id)) is not None:
                # It was released and claimed again before the answer to its release was read.
                resident.claimed_again = True
                self._mail.set()
                continue
            if one.program in broken:
                self._park(one.id, broken[one.program])
                continue
            self._awaken(one, now)

    def _awaken(self, one: Claimed, now: float, *, running: dict[int, Attempt] | None = None) -> None:
        program = self.registry.get(one.program)
        assert program is not None
        try:
            resident = awaken(one, program, now=now)
        except (CodecError, ProgramError) as error:
            self._park(one.id, f"its state cannot be read here: {error}")
            return
        except Exception as error:  # noqa: BLE001 - a damaged row must stop nobody else
            self._park(one.id, f"its state cannot be read here: {type(error).__name__}: {error}")
            return
        calls = list(resident.machine.calls.values())
        if one.recoveries >= RECOVERY_LIMIT:
            names = ", ".join(sorted({call.name for call in calls})) or "its own code"
            self._park(
                one.id,
                f"{one.recoveries} workers in a row were lost while they ran it ({names}); mend the cause, then retry it",
            )
            return
        self.residents[one.id] = resident
        resident.attempts = running or {}
        asked = {command.call.id for command in resident.machine.commands if isinstance(command, StartCall)}
        for call in calls:
            if call.child is not None or call.spilled or call.due_at is not None or call.id in asked:
                continue
            if call.id not in resident.attempts:
                self._run(resident, call)
        resident.children.unknown = {call.id for call in calls if joining.may_be_anothers(resident.id, call)}
        if resident.children.unknown:
            self._background(self._join(resident))
        self.stir(resident)

    def _park(self, id: InstanceId, reason: str) -> None:
        log.warning("instance parked", instance=id, reason=reason)
        self._parks.append(Commit(instance=id, close=Park(reason=reason)))
        self._write.set()

    # --- events

    def stir(self, resident: Resident) -> None:
        """Something happened to it: it takes its turn with the next commit."""
        if not resident.gone:
            self._stirred[resident.id] = resident
            self._write.set()

    async def reading_mail(self) -> None:
        """Fold in what arrives in inboxes, for as long as this runs."""
        while True:
            await self._mail.wait()
            self._mail.clear()
            if not self.residents:
                continue
            self._reading = True
            await self._read_mail()
            self._reading = False

    async def _read_mail(self) -> None:
        self._spent.clear()
        for row in await self._patiently(lambda: self.store.take_inbox(self.worker)):
            resident = self.residents.get(row.instance)
            if resident is None or row.id in resident.seen or (row.instance, row.id) in self._spent:
                continue
            resident.seen.add(row.id)
            resident.consumed.append(row.id)
            try:
                self._deliver(resident, row)
            except Exception as error:  # noqa: BLE001 - decoding runs what users registered
                self._abandon(resident, f"what came for it cannot be read here: {type(error).__name__}: {error}")
            self.stir(resident)

    def _deliver(self, resident: Resident, row: Delivery) -> None:
        machine = resident.machine
        machine.now = max(machine.now, self.clock.now())
        match row.kind:
            case DeliveryKind.CANCEL:
                # A parent that gives up its call names it: that concerns only the child which this very call started.
                claimed = resident.claimed
                if row.key in ("", f"{claimed.parent}:{claimed.parent_call}"):
                    machine.cancel()
            case DeliveryKind.MESSAGE:
                machine.message(row.key, loads(row.payload))
            case DeliveryKind.RESULT:
                try:
                    result = loads(row.payload)
                    call = int(row.key)
                    if "missing" in result:
                        reason = f"no action {result['missing']!r} is defined on the worker that took its call"
                        self._abandon(resident, f"{reason}; import its module there, then retry the instance")
                    elif "value" in result:
                        machine.call_done(call, result["value"], decode(result["value"]))
                    else:
                        error = decode(result["error"])
                        machine.call_failed(call, error, result["error"], chance=jitter_chance())
                except (CodecError, KeyError, ValueError, TypeError) as error:
                    self._abandon(resident, f"a result for it cannot be read here: {error}")

    def _abandon(self, resident: Resident, reason: str) -> None:
        self._forget(resident)
        self._park(resident.id, reason)
        self._look.set()

    def _forget(self, resident: Resident) -> None:
        resident.gone = True
        if self.residents.get(resident.id) is resident:
            del self.residents[resident.id]
            self._stirred.pop(resident.id, None)
        for attempt in resident.attempts.values():
            self.executor.drop(attempt)
        resident.attempts.clear()

    # --- calls

    def _run(self, resident: Resident, call: PendingCall) -> None:
        if self.draining or resident.gone or resident.machine.calls.get(call.id) is not call:
            return
        attempt = Attempt(
            call.name,
            call.payload,
            call.arguments,
            call.options.timeout,
            lambda outcome: self._reported(resident.id, call.id, outcome),
        )
        resident.attempts[call.id] = attempt
        self.executor.submit(attempt)

    def _reported(self, id: InstanceId, call: int, outcome: Gave | Raised) -> None:
        resident = self.residents.get(id)
        if resident is None:
            return
        resident.attempts.pop(call, None)
        machine = resident.machine
        if isinstance(outcome, Gave):
            machine.call_done(call, outcome.tree, outcome.value)
        elif isinstance(outcome.error, ProgramError) and "defined here" in str(outcome.error):
            self._abandon(resident, f"{outcome.error}; import its module in the worker, then retry the instance")
            return
        else:
            machine.now = max(machine.now, self.clock.now())
            machine.call_failed(call, outcome.error, outcome.tree, chance=jitter_chance())
        self.stir(resident)

    def _run_taken(self, call: SpilledCall) -> None:
        """Run an attempt of a call that belongs to an instance elsewhere."""
        if call.id in self._taken:
            return
        if call.name not in ACTIONS and not self.executor.stubbed(call.name):
            self._settle(call, {"missing": call.name})
            return
        payload = loads(call.payload)
        attempt = Attempt(
            call.name,
            payload["args"],
            None,
            payload["timeout"],
            lambda outcome: self._report_taken(call, outcome),
        )
        self._taken[call.id] = attempt
        self.executor.submit(attempt)

    def _report_taken(self, call: SpilledCall, outcome: Gave | Raised) -> None:
        self._taken.pop(call.id, None)
        self._settle(call, {"value": outcome.tree} if isinstance(outcome, Gave) else {"error": outcome.tree})

    def ask_for_taken(self) -> None:
        """Drop the calls of other workers' instances that nobody wants any more. Sends nothing where there are none."""
        if self._taken and (self._asking is None or self._asking.done()):
            self._asking = asyncio.ensure_future(self._drop_unwanted())

    async def _drop_unwanted(self) -> None:
        asked = dict(self._taken)
        try:
            wanted = set(await self.store.held_calls(self.worker, sorted(asked)))
        except StoreUnavailable as error:
            # The next heartbeat asks again.
            log.warning("taken calls not asked for", error=str(error))
            return
        for id, attempt in asked.items():
            if id not in wanted and self._taken.get(id) is attempt:
                del self._taken[id]
                self.executor.drop(attempt)
                self._look.set()

    def _settle(self, call: SpilledCall, result: dict[str, Any]) -> None:
        delivery = Delivery(
            id=call.id,
            instance=call.instance,
            kind=DeliveryKind.RESULT,
            key=call.call,
            payload=dumps(result),
            at=self.clock.now(),
        )
        self._settled.append(Settled(call=call, delivery=delivery))
        self._write.set()
        self._look.set()

    def _spills(self, call: PendingCall, local: int) -> bool:
        queue = call.options.queue
        if queue is not None and "*" not in self.queues and queue not in self.queues:
            return True
        return self.other_workers > 0 and self.executor.load + local >= SPILL_FACTOR * self.executor.room

    # --- writing

    async def writing(self) -> None:
        """Commit what instances produce, in groups, for as long as this runs."""
        try:
            while True:
                await self._write.wait()
                self._write.clear()
                self._writing = True
                await self._write_all()
                self._writing = False
                self._written.set()
        finally:
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.gather(self._sending, return_exceptions=True)

    async def _write_all(self) -> None:
        """Write until nothing is left. While one group is written, the next one is made."""
        self._gather(COMMIT_LIMIT)
        group = self._dispatch()
        while group is not None:
            receipts = await self._until_sent(group)
            # A large group goes first, so that the store has work while this process begins what the last one allows.
            following = self._dispatch() if len(self._coming.written) >= PORTION else None
            for receipt in receipts:
                await self._conclude(receipt)
            if following is None:
                self._gather(COMMIT_LIMIT)
                following = self._dispatch()
            group = following

    def _dispatch(self) -> Group | None:
        """Send the group that was made; None where there is none."""
        group, self._coming = self._coming, Group()
        if not group:
            self._sending = None
            return None
        self._sending = asyncio.ensure_future(self._send(group))
        self._sending.add_done_callback(lambda _: self._write.set())
        return group

    async def _until_sent(self, group: Group) -> list[Receipt]:
        """What became of the group, and meanwhile the turns of those whom it does not concern."""
        sending = self._sending
        assert sending is not None
        self._held = group.held
        try:
            while not sending.done():
                await self._write.wait()
                self._write.clear()
                if not sending.done():
                    self._gather(PORTION)
                    await asyncio.sleep(0)
        finally:
            self._held = frozenset()
        return sending.result()

    def _gather(self, most: int) -> None:
        """Let up to `most` of those to whom something happened take their turn, for the group that comes next."""
        coming = self._coming
        coming.settled += self._settled
        self._settled = []
        coming.commits += self._parks
        self._parks = []
        now = self.clock.now()
        for resident in list(islice(self._stirred.values(), most + len(self._held) + len(coming.held))):
            if most == 0 or len(coming.written) >= COMMIT_LIMIT:
                self._write.set()
                return
            if resident.id in self._held or resident.id in coming.held:
                continue
            most -= 1
            del self._stirred[resident.id]
            try:
                commit = self._produce(resident, now)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - one instance's trouble must never be another's
                self._abandon(resident, f"its turn failed here: {type(error).__name__}: {error}")
                continue
            if commit is not None:
                commands, resident.commands = resident.commands, []
                coming.held.add(resident.id)
                coming.written.append((resident, commit, commands))

    async def _send(self, group: Group) -> list[Receipt]:
        if group.settled:
            self._learn(await self._patiently(lambda: self.store.settle(self.worker, group.settled)))
        # Those given up since they took their turn stay where they were: a park follows, or has come before.
        written = [each for each in group.written if not each[0].gone]
        commits = [*group.commits, *(commit for _, commit, _ in written)]
        if not commits:
            return []
        if self._new_programs:
            # A child's program is there before the child is.
            programs, self._new_programs = list(self._new_programs.values()), {}
            await self._patiently(lambda: self.store.save_programs(programs))
            self._kept_programs.update(program.hash for program in programs)
        self.commits += 1
        try:
            committed = await self._patiently(lambda: self.store.commit(self.worker, commits))
        except LeaseLost:
            raise
        except StoreError as error:
            if len(commits) == 1:
                raise
            log.error("group refused", error=str(error), hint="its instances are written one by one")
            return await self._one_by_one(commits, written)
        return [Receipt(committed, commits, written)]

    async def _one_by_one(self, commits: Sequence[Commit], written: Sequence[Written]) -> list[Receipt]:
        """Write a refused group instance by instance, and park whichever the store refuses."""
        owned = {commit.instance: (resident, commit, commands) for resident, commit, commands in written}
        receipts: list[Receipt] = []
        for commit in commits:
            mine = [owned[commit.instance]] if commit.instance in owned else []
            try:
                committed = await self._patiently(lambda commit=commit: self.store.commit(self.worker, [commit]))
            except LeaseLost:
                raise
            except StoreError as error:
                words = f"the store refuses what it did: {error}"
                reason = words.encode("ascii", "replace").decode().replace("\0", "?")
                park = Commit(instance=commit.instance, close=Park(reason=reason[:1000]))
                for resident, _, _ in mine:
                    self._forget(resident)
                committed = await self._patiently(lambda park=park: self.store.commit(self.worker, [park]))
                receipts.append(Receipt(committed, [park], []))
                continue
            receipts.append(Receipt(committed, [commit], mine))
        return receipts

    async def _conclude(self, receipt: Receipt) -> None:
        """A group is durable: whoever waits is told, and what it asked for begins."""
        committed = receipt.committed
        self._learn(committed)
        for resident, commit, commands in receipt.written:
            self._written_one(resident, commit, commands, committed)
        for commit in receipt.commits:
            if isinstance(commit.close, Park):
                self._parked(commit.instance)
        await self._tell_joined(receipt.commits, committed)
        if self._forgetful:
            await self._read_back([resident for resident, _, _ in receipt.written if not resident.gone])

    def _produce(self, resident: Resident, now: float) -> Commit | None:
        """Let it take its turn; what it produced, or None if that is nothing."""
        machine = resident.machine
        machine.turn(now)
        starts: list[Start] = []
        deliveries: list[Delivery] = []
        spilled: list[SpilledCall] = []
        recalled: list[str] = []
        notes: list[Note] = []
        for command in self._asked(machine, notes, now):
            match command:
                case StartCall(call) if call.id not in machine.calls:
                    continue
                case StartCall(call) if call.child is not None:
                    try:
                        start = self._child(resident, call, now)
                    except HoldfastError as error:
                        # The parent hears of it where it awaits the child.
                        machine.call_failed(call.id, error, encode_exception(error))
                        continue
                    notes.append(("child", {"call": call.id, "name": call.name, "instance": start.id}))
                    starts.append(start)
                    if joining.may_be_anothers(resident.id, call):
                        resident.children.unknown.add(call.id)
                case StartCall(call):
                    fields = {
                        "call": call.id,
                        "name": call.name,
                        "args": call.payload,
                        "attempt": call.attempt,
                    }
                    notes.append(("call", fields))
                    call.spilled = self._spills(call, len(resident.commands))
                    if call.spilled:
                        machine.touched_calls.add(call.id)
                        spilled.append(_spilled(resident, call, now))
                    else:
                        resident.commands.append(command)
                case DropCall(call):
                    notes.append(("dropped", {"call": call.id, "name": call.name}))
                    if call.child is not None:
                        deliveries.append(_cancel(InstanceId(call.child["id"]), f"{resident.id}:{call.id}", now))
                    elif call.spilled:
                        recalled.append(f"{resident.id}:{call.id}:{call.attempt}")
                    else:
                        resident.commands.append(command)
                case Send(instance=instance, key=key, payload=payload):
                    resident.sends += 1
                    id = f"{resident.id}:s{resident.seq}:{resident.sends}"
                    kind = DeliveryKind.CANCEL if key is None else DeliveryKind.MESSAGE
                    deliveries.append(
                        Delivery(
                            id=id,
                            instance=InstanceId(instance),
                            kind=kind,
                            key=key or "",
                            payload=dumps(payload),
                            at=now,
                        )
                    )
        first_turn, resident.begun = not resident.begun, True
        if first_turn and self._begins_at_once(resident, starts, spilled, deliveries):
            # A beginning that follows from row 0 alone needs no row of its own: after a crash it is the same again.
            machine.notes = notes
            begun, resident.commands = resident.commands, []
            for command in begun:
                self._run(resident, cast(StartCall, command).call)
            return None
        close: Ending | Release | None = None
        steps: list[Step] = []
        trim: int | None = None
        if machine.ended is None:
            try:
                change = resident.saver.change()
            except EncodeError as error:
                machine.ended = Ended("failed", encode_exception(error))
            else:
                if change or notes:
                    steps.append(resident.step(change, notes, now))
                    trim = resident.trim_below(self.settings.history_steps)
                close = self._release(resident, now)
        if machine.ended is not None:
            close = _ending(machine.ended)
            # Children that somebody waited for are pointless now; those that were only started are not.
            awaited = {f"{call.child['id']}" for call in machine.calls.values() if call.child and call.branch >= 0}
            starts, spilled = [start for start in starts if start.id not in awaited], []
            resident.commands = []
            notes.append(("ended", {"status": close.status.value}))
            steps.append(resident.step(_NOTHING, notes, now))
            deliveries += self._tell_parent(resident, machine.ended, now)
            for call in machine.calls.values():
                if call.child is not None and call.branch >= 0:
                    deliveries.append(_cancel(InstanceId(call.child["id"]), f"{resident.id}:{call.id}", now))
        consumed, resident.consumed = resident.consumed, []
        if not (steps or close or consumed):
            self._set_alarm(resident)
            return None
        return Commit(
            instance=resident.id,
            steps=steps,
            close=close,
            consumed=consumed,
            starts=starts,
            deliveries=deliveries,
            spilled=spilled,
            recalled=recalled,
            trim_below=trim,
        )

    @staticmethod
    def _asked(machine: Machine, notes: list[Note], now: float) -> Iterator[Command]:
        """What the machine asks for, also in the turns it takes because of what became of that."""
        while True:
            asked, machine.commands = machine.commands, []
            notes += machine.notes
            machine.notes = []
            yield from asked
            if not machine.ready:
                notes += machine.notes
                machine.notes = []
                return
            # A child that could not be started has failed its call at once.
            machine.turn(now)

    @staticmethod
    def _begins_at_once(resident: Resident, *others: Sequence[Any]) -> bool:
        machine = resident.machine
        if not machine.code.prompt or machine.ended is not None or resident.consumed or any(others):
            return False
        return len(resident.commands) == 1 and isinstance(resident.commands[0], StartCall)

    def _release(self, resident: Resident, now: float) -> Release | None:
        """Letting go of an instance that only waits, for longer than a moment."""
        if resident.commands or resident.attempts:
            return None
        timer = resident.machine.next_timer
        if timer is not None and timer - now < EVICT_AFTER:
            return None
        if resident.children.unknown:
            return None
        if resident.children.joined and resident.children.joined & resident.machine.calls.keys():
            timer = min(timer or math.inf, now + joining.LOOK_AFTER)
        return Release(due_at=timer)

    def _written_one(self, resident: Resident, commit: Commit, commands: list[Command], committed: Committed) -> None:
        """A resident's commit is durable: what it asked for may start."""
        if resident.id in committed.lost:
            log.warning("instance lost", instance=resident.id, reason="another worker owns it now")
            self._forget(resident)
            self._look.set()
            return
        resident.seen.difference_update(commit.consumed)
        self._spent.update((resident.id, id) for id in commit.consumed)
        match commit.close:
            case Ending() as ending:
                self._forget(resident)
                self._ended(resident.id, ending)
                self._made_room()
                return
            case Release(due_at=due_at) if resident.id not in committed.kept and not resident.claimed_again:
                self._forget(resident)
                self._made_room()
                if due_at is not None:
                    # The next claim tells for how long there is nothing to do.
                    self._look.set()
                return
            case Release():
                # Something arrived before it could be let go, or it was claimed again at once.
                resident.claimed_again = False
                self._mail.set()
            case _:
                pass
        for command in commands:
            if isinstance(command, StartCall):
                if not self._forgetful:
                    self._run(resident, command.call)
            else:
                attempt = resident.attempts.pop(cast(DropCall, command).call.id, None)
                if attempt is not None:
                    self.executor.drop(attempt)
        if commit.starts and resident.children.unknown:
            self._background(self._join(resident))
        self._set_alarm(resident)

    def _made_room(self) -> None:
        """An instance has left: look for others, if some may be waiting or nobody announces them."""
        if self._hungry or not (self.residents or self._idle):
            self._look.set()

    async def _read_back(self, residents: Sequence[Resident]) -> None:
        """Take instances from the store again, as if this worker had just come by them."""
        for resident in residents:
            steps = await self.store.history(resident.id, after=resident.fulls[-1] - 1, limit=100_000)
            if resident.gone or resident.id in self._stirred:
                continue
            running, resident.attempts = resident.attempts, {}
            self._forget(resident)
            self._awaken(resident.claimed._replace(steps=steps), self.clock.now(), running=running)

    def _learn(self, committed: Committed) -> None:
        """Tell whoever waits for what a commit did."""
        channels = {channel for channel, _ in committed.waiters if not joining.is_word(channel)}
        for owner in set(committed.owners):
            if owner == self.worker:
                self._mail.set()
            else:
                channels.add(inbox_channel(owner))
        if committed.started:
            self._look.set()
            if self.other_workers:
                channels.add(WORK_CHANNEL)
        if channels:
            self._background(self._notify(sorted(channels)))

    async def _notify(self, channels: Sequence[str]) -> None:
        try:
            await self.store.notify(channels)
        except StoreUnavailable as error:
            # Whoever was to be told polls as well.
            log.warning("notification lost", channels=len(channels), error=str(error))

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- time

    def _set_alarm(self, resident: Resident) -> None:
        at = resident.machine.next_timer
        if at is None or at == resident.timer or resident.gone:
            return
        resident.timer = at
        self._alarm_count += 1
        if len(self._alarms) > 1000 + 4 * len(self.residents):
            # Alarms of instances that have left are taken out once there are too many of them.
            self._alarms = [alarm for alarm in self._alarms if alarm[2] in self.residents]
            heapq.heapify(self._alarms)
        heapq.heappush(self._alarms, (at, self._alarm_count, resident.id))
        if self._alarm_at is None or at < self._alarm_at:
            self._arm()

    def _arm(self) -> None:
        if self._cancel_alarm is not None:
            self._cancel_alarm()
            self._cancel_alarm = None
        self._alarm_at = self._alarms[0][0] if self._alarms else None
        if self._alarm_at is not None:
            self._cancel_alarm = self.clock.call_at(self._alarm_at, self._ring)

    def _ring(self) -> None:
        now = self.clock.now()
        while self._alarms and self._alarms[0][0] <= now:
            at, _, id = heapq.heappop(self._alarms)
            resident = self.residents.get(id)
            if resident is not None and resident.timer == at:
                resident.timer = None
                self.stir(resident)
        self._arm()

    # --- children and parents

    def _child(self, resident: Resident, call: PendingCall, now: float) -> Start:
        """A child's start; its id follows from the parent and the call, so that asking twice starts one."""
        options = call.child
        assert options is not None
        id = InstanceId(options["id"])
        cls = WORKFLOWS.get(call.name)
        if cls is None:
            raise ProgramError(f"no workflow {call.name!r} is defined here")
        definition = definition_of(cls)
        if definition.hash not in self._kept_programs:
            self._new_programs[definition.hash] = self.registry.stored(definition)
        return Start(
            id=id,
            name=call.name,
            program=definition.hash,
            input=start_payload(decode(call.payload["self"]), decode(call.payload["args"])),
            created_at=now,
            due_at=now + float(options.get("delay", 0.0)),
            queue=options.get("queue", resident.claimed.queue),
            priority=options.get("priority", 0),
            parent=resident.id,
            parent_call=str(call.id),
            tags=options.get("tags", ""),
        )

    def _tell_parent(self, resident: Resident, ended: Ended, now: float) -> list[Delivery]:
        claimed = resident.claimed
        if claimed.parent is None or claimed.parent_call is None:
            return []
        result = {"value": ended.tree} if ended.kind == "done" else {"error": ended.tree}
        return [
            Delivery(
                id=f"{resident.id}:end",
                instance=claimed.parent,
                kind=DeliveryKind.RESULT,
                key=claimed.parent_call,
                payload=dumps(result),
                at=now,
            )
        ]

    async def _join(self, resident: Resident) -> None:
        """Find out which of its children others have started, and see to it that it hears of their ends."""
        children, machine = resident.children, resident.machine
        calls = [machine.calls[id] for id in children.unknown if id in machine.calls]
        ids = [InstanceId(call.child_id) for call in calls]
        views = {view.id: view for view in await self._patiently(lambda: self.store.view(ids))}
        told: list[Delivery] = []
        for call, id in zip(calls, ids, strict=True):
            view = views.get(id)
            if view is not None and joining.is_own(resident.id, call.id, view):
                continue
            error = joining.refusal(resident.id, call, view)
            if error is None:
                # First ask to be told, then look: an end in between is seen, or told.
                word = joining.word_of(resident.id, call.id)
                (view,) = await self._patiently(lambda id=id, word=word: self.store.view([id], waiter=word)) or (None,)
                error = joining.refusal(resident.id, call, view)
            if error is not None:
                told.append(joining.refused(resident.id, call, error, self.clock.now()))
            elif view is not None and view.status.ended:
                told.append(joining.outcome(resident.id, call.id, view, self.clock.now()))
            children.joined.add(call.id)
        children.unknown.difference_update(call.id for call in calls)
        await self._hand_over(told)
        # It may sleep now.
        self.stir(resident)

    async def _tell_joined(self, commits: Sequence[Commit], committed: Committed) -> None:
        """Tell parents that have joined what has ended with this commit."""
        await self._hand_over(joining.outcomes(commits, committed.waiters, self.clock.now()))

    async def _hand_over(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            await self._patiently(lambda: self.store.deliver(deliveries))
            self._mail.set()
            self._look.set()

    # --- trouble

    async def _patiently(self, act: Callable[[], Any]) -> Any:
        """Do it, again and again while the store cannot be reached."""
        pause = 0.05
        while True:
            try:
                return await act()
            except StoreUnavailable as error:
                log.warning("store unavailable", error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)

    def abandon_all(self) -> None:
        """The lease is lost: drop everything in memory. Others go on from what was committed."""
        for resident in list(self.residents.values()):
            self._forget(resident)
        if self._asking is not None:
            self._asking.cancel()
        for attempt in self._taken.values():
            self.executor.drop(attempt)
        self._taken.clear()
        self._settled.clear()
        self._parks.clear()
        self._coming = Group()
        self._alarms.clear()
        self._arm()


_NOTHING = Change()


def _ending(ended: Ended) -> Ending:
    status = {"done": Status.DONE, "failed": Status.FAILED, "cancelled": Status.CANCELLED}[ended.kind]
    return Ending(status=status, payload=dumps(ended.tree))


def _cancel(instance: InstanceId, id: str, now: float) -> Delivery:
    return Delivery(id=f"{id}:cancel", instance=instance, kind=DeliveryKind.CANCEL, key=id, payload=b"null", at=now)


def _spilled(resident: Resident, call: PendingCall, now: float) -> SpilledCall:
    return SpilledCall(
        id=f"{resident.id}:{call.id}:{call.attempt}",
        instance=resident.id,
        call=str(call.id),
        name=call.name,
        queue=call.options.queue or resident.claimed.queue,
        payload=dumps({"args": call.payload, "timeout": call.options.timeout}),
        due_at=now,
        attempt=call.attempt,
    )
