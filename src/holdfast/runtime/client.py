"""The client side: start instances, watch them, tell them things, and wait for what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from holdfast.clock import Clock, as_seconds
from holdfast.codec import Decoder, dumps, encode, loads, show_remote_tracebacks, traceback_of
from holdfast.engine import Entries, begin_calls_anew
from holdfast.errors import (
    ConfigurationError,
    HoldfastError,
    InstanceNotFound,
    StoreError,
    StoreUnavailable,
    WaitTimeout,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowParked,
)
from holdfast.ids import InstanceId, uuid7
from holdfast.model.call import message_key
from holdfast.model.instance import (
    Delivery,
    DeliveryKind,
    Ending,
    InstanceView,
    Start,
    Status,
    Step,
)
from holdfast.ports import Store
from holdfast.registry import Registry
from holdfast.runtime.announcing import read_ended
from holdfast.runtime.patience import patiently
from holdfast.runtime.resident import entries_of, start_payload
from holdfast.workflow import Run, Workflow, definition_of

R = TypeVar("R")

FALLBACK_POLL = 2.0
"""Seconds after which a waiting client looks for itself, in case an announcement was lost."""
GLANCE = 0.02
"""Seconds between two questions whether another process has written, to a store that knows."""
CHECK_LIMIT = 500
"""Instances looked at in one statement."""


class Client:
    """Speaks to the store for whoever starts and watches instances."""

    def __init__(self, *, store: Store, registry: Registry, clock: Clock, poll_interval: float) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.poll_interval = poll_interval
        self.channel = f"hf_c_{uuid7()}"
        self._waiting: dict[InstanceId, list[asyncio.Future[InstanceView]]] = {}
        self._unseen: list[InstanceId] = []
        """Those that have just begun to be waited for, and who do not know of it."""
        self._ended: list[InstanceId] = []
        """Those that are said to have ended."""
        self._any_ended = False
        """Whether others may have ended as well."""
        self._woken = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], Awaitable[None]] | None = None
        self._kept: set[str] = set()

    async def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(StoreUnavailable("the App was closed while its result was waited for"))
        self._waiting.clear()
        if self._unlisten is not None:
            await self._unlisten()
            self._unlisten = None

    # --- starting

    async def start(self, runs: Sequence[Run[Any]], *, waiting: bool = False) -> list[Handle[Any]]:
        """Start instances, all in one statement. Those whose id exists already are left as they are."""
        now = self.clock.now()
        if waiting:
            await self._listen()
        starts: list[Start] = []
        for run in runs:
            definition = definition_of(run.cls)
            if definition.hash not in self._kept:
                await self.store.save_programs([self.registry.stored(definition)])
                self._kept.add(definition.hash)
            options = run.options
            starts.append(
                Start(
                    id=InstanceId(run.id or uuid7()),
                    name=run.workflow,
                    program=definition.hash,
                    input=start_payload(cast("dict[str, Any]", vars(run.instance)), run.bound),
                    created_at=now,
                    due_at=now + float(options.get("delay", 0.0)),
                    queue=options.get("queue", "default"),
                    priority=options.get("priority", 0),
                    waiter=self.channel if waiting else None,
                    tags=options.get("tags", ""),
                )
            )
        new = set(await self.store.start(starts))
        await self._check_names([start for start in starts if start.id not in new])
        # A new instance knows who waits for it from the start; of others it must be looked up.
        return [
            Handle(self, start.id, run.cls, registered=waiting and start.id in new)
            for start, run in zip(starts, runs, strict=True)
        ]

    async def _check_names(self, starts: Sequence[Start]) -> None:
        """Ids that exist already must be of the same workflow. Raises ConfigurationError."""
        if not starts:
            return
        names = {view.id: view.name for view in await self.store.view([start.id for start in starts])}
        for start in starts:
            if names.get(start.id, start.name) != start.name:
                raise ConfigurationError(
                    f"the id {start.id!r} belongs to an instance of {names[start.id]}; choose another"
                )

    async def fork(
        self, id: InstanceId, *, at: int | None, changes: Mapping[str, Any], new_id: str | None
    ) -> InstanceId:
        """A new instance that goes on from a step of another's history, with some variables changed."""
        views = await self.store.view([id])
        if not views:
            raise InstanceNotFound(f"there is no instance {id!r}")
        steps = await self.history(id)
        last = steps[-1].seq
        seq = at if at is not None else (last - 1 if views[0].status.ended and last > 0 else last)
        if not steps[0].seq <= seq <= last:
            raise HoldfastError(f"there is no step {seq}; the history holds {steps[0].seq} to {last}")
        entries = entries_of(steps, upto=seq)
        for name, value in changes.items():
            _change(entries, name, encode(value))
        now = self.clock.now()
        made = InstanceId(new_id or uuid7())
        begin_calls_anew(entries, old=id, new=made)
        payload = dumps(
            entries if "start" in entries else {"full": entries, "notes": [["forked", {"from": id, "at": seq}]]}
        )
        start = Start(
            id=made,
            name=views[0].name,
            program=views[0].program,
            input=payload,
            created_at=now,
            due_at=now,
            queue=views[0].queue,
            priority=views[0].priority,
            tags=f"fork={id}@{seq}",
        )
        if not await self.store.start([start]):
            raise HoldfastError(f"there is an instance {made!r} already; choose another id")
        return made

    async def history(self, id: InstanceId) -> list[Step]:
        """All kept rows of an instance's journal, oldest first."""
        steps: list[Step] = []
        while page := await self.store.history(id, after=steps[-1].seq if steps else -1, limit=1000):
            steps += page
        return steps

    # --- waiting

    def ended(self, id: InstanceId, ending: Ending) -> bool:
        """A worker in this very process ended an instance; True if somebody here waited for it."""
        futures = self._waiting.pop(id, None)
        if futures is None:
            return False
        for future in futures:
            if not future.done():
                future.set_result(_ended_view(id, ending))
        return True

    def parked(self, id: InstanceId) -> None:
        """A worker in this very process parked an instance: whoever waits for it looks again."""
        if id in self._waiting:
            self._unseen.append(id)
            self._woken.set()

    async def outcome(self, id: InstanceId, *, timeout: float | None = None, registered: bool = False) -> InstanceView:
        """The view of an instance once it has ended or is parked. Raises WaitTimeout, InstanceNotFound."""
        await self._listen()
        future: asyncio.Future[InstanceView] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(future)
        if not registered:
            # From here on its end is announced; if it has ended already, this says so.
            self._unseen.append(id)
            self._woken.set()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            raise WaitTimeout(f"instance {id} has not ended within {timeout} seconds; it goes on") from error
        finally:
            waiting = self._waiting.get(id)
            if waiting is not None and future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiting[id]

    async def _listen(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
            self._unlisten = await self.store.listen(self.channel, self._announce)

    async def _watch(self) -> None:
        """Look at what is waited for, when told so and now and then."""
        notifies = self.store.traits.notifies
        nap = FALLBACK_POLL if notifies else self.poll_interval
        if not notifies and self.store.traits.sees_changes:
            nap = min(nap, GLANCE)
        while True:
            unseen: list[InstanceId] = []
            seen: list[InstanceId] = []
            try:
                async with asyncio.timeout(nap):
                    await self._woken.wait()
                self._woken.clear()
                unseen, self._unseen = self._unseen, []
                seen, self._ended = self._ended, []
                if self._any_ended:
                    self._any_ended = False
                    seen = list(self._waiting)
            except TimeoutError:
                if notifies:
                    # Announcements are rarely lost: the oldest few are looked at in turn, and told again who waits.
                    unseen = list(self._waiting)[:CHECK_LIMIT]
                elif self._waiting and await self._changed():
                    seen = list(self._waiting)
            for ids, waiter in ((unseen, self.channel), (seen, None)):
                for i in range(0, len(ids), CHECK_LIMIT):
                    await self._patiently_check(ids[i : i + CHECK_LIMIT], waiter)
                    await asyncio.sleep(0)

    async def _changed(self) -> bool:
        try:
            return await self.store.changed()
        except HoldfastError:
            # Out of reach for the moment; the next look says more.
            return True

    async def _patiently_check(self, ids: list[InstanceId], waiter: str | None) -> None:
        async def check() -> None:
            try:
                await self._check(ids, waiter)
            except StoreError:
                # What is announced during an outage is lost, so that all are looked at after it.
                self._announce()
                raise

        # Nobody else would look for those who wait, so that whatever the store says, this goes on.
        await patiently(check, first=1.0, longest=1.0, trouble=StoreError)

    def _announce(self, channel: str = "", text: str = "") -> None:
        ended = read_ended(text)
        if ended is None:
            self._any_ended = True
        else:
            self._ended += [InstanceId(id) for id in ended if id in self._waiting]
        self._woken.set()

    async def _check(self, ids: list[InstanceId], waiter: str | None) -> None:
        """Look at these; with a waiter's channel, have them announce their ends there."""
        found = {view.id: view for view in await self.store.view(ids, waiter=waiter)}
        for id in ids:
            view = found.get(id)
            if view is not None and not view.status.ended and view.status is not Status.PARKED:
                continue
            for future in self._waiting.pop(id, ()):
                if future.done():
                    continue
                if view is None:
                    future.set_exception(InstanceNotFound(f"there is no instance {id!r}"))
                else:
                    future.set_result(view)

    # --- telling

    async def deliver(
        self, ids: Iterable[InstanceId], kind: DeliveryKind, key: str, payload: bytes
    ) -> list[InstanceId]:
        """Put something into inboxes; returns the ids that exist and have not ended."""
        now = self.clock.now()
        rows = [Delivery(id=uuid7(), instance=id, kind=kind, key=key, payload=payload, at=now) for id in ids]
        return list(await self.store.deliver(rows))


class Handle(Generic[R]):
    """A running instance, from outside. Its verbs are those of a person watching it."""

    def __init__(
        self, client: Client, id: InstanceId, cls: type[Workflow] | None = None, *, registered: bool = False
    ) -> None:
        self._client = client
        self._registered = registered
        self.id = id
        """The instance's id, under which any process finds it again."""
        self.workflow = cls

    async def result(self, *, timeout: float | Any | None = None) -> R:
        """Wait for its result. Raises its own exception, WorkflowCancelled, WorkflowParked, or WaitTimeout."""
        seconds = None if timeout is None else as_seconds(timeout)
        view = await self._client.outcome(self.id, timeout=seconds, registered=self._registered)
        self._registered = False
        return outcome_of(view)

    async def wait(self, *, timeout: float | Any | None = None) -> Status:
        """Wait until it has ended, whichever way, or is parked; returns its status."""
        seconds = None if timeout is None else as_seconds(timeout)
        return (await self._client.outcome(self.id, timeout=seconds)).status

    async def view(self) -> InstanceView:
        """All that is known of it. Raises InstanceNotFound."""
        for view in await self._client.store.view([self.id]):
            return view
        raise InstanceNotFound(f"there is no instance {self.id!r}")

    async def status(self) -> Status:
        """Where it stands. Raises InstanceNotFound."""
        return (await self.view()).status

    async def cancel(self) -> bool:
        """Ask it to end: CancelledError is raised where it waits. False if it had ended before."""
        return bool(await self._client.deliver([self.id], DeliveryKind.CANCEL, "", b"null"))

    async def send(self, message: Any, value: Any = None, /) -> bool:
        """Send it a message: `send("name", value)`, or `send(value)` under its type. False if it has ended."""
        payload = value if isinstance(message, str) else message
        return bool(
            await self._client.deliver([self.id], DeliveryKind.MESSAGE, message_key(message), dumps(encode(payload)))
        )

    async def history(self, *, after: int = -1, limit: int = 1000) -> Sequence[Step]:
        """Its journal, oldest kept row first."""
        return await self._client.store.history(self.id, after=after, limit=limit)

    def __repr__(self) -> str:
        return f"<workflow handle {self.id}>"


def outcome_of(view: InstanceView) -> Any:
    """The result of an ended instance, or its exception raised."""
    if view.status is Status.PARKED:
        raise WorkflowParked(
            f"instance {view.id} is parked: {view.reason}; mend that, then `holdfast workflows retry {view.id}`",
            reason=view.reason or "",
        )
    tree = loads(view.outcome or b"null")
    if view.status is Status.DONE:
        return Decoder().decode(tree)
    if view.status is Status.CANCELLED:
        raise WorkflowCancelled(f"instance {view.id} was cancelled")
    error = Decoder(lenient_exceptions=True).decode(tree)
    if isinstance(error, BaseException):
        show_remote_tracebacks(error, f"On its worker, in instance {view.id}")
    if isinstance(error, Exception):
        raise error
    if isinstance(error, BaseException):
        # SystemExit and its like ended the workflow; they must not end whoever looks at it.
        raise WorkflowFailed(
            f"instance {view.id} ended with {type(error).__name__}: {error}",
            original_type=f"{type(error).__module__}:{type(error).__qualname__}",
            original_args=error.args,
            traceback_text=traceback_of(error),
        ) from error
    raise WorkflowFailed(f"instance {view.id} failed, and its exception cannot be read here")


def _change(entries: Entries, name: str, tree: Any) -> None:
    """Give a variable of the outermost function that has it another value."""
    if "start" in entries:
        arguments = entries["start"][1]
        if name not in arguments:
            known = ", ".join(sorted(arguments)) or "none"
            raise HoldfastError(f"there is no argument {name!r}; there are: {known}")
        arguments[name] = tree
        return
    cells = {key: key for key in entries if key[0].isdigit()}
    cells.update({cell: key for key, group in entries.items() if key[0] == "=" for cell, _ in group})
    found = sorted((cell for cell in cells if cell.partition(".")[2] == name), key=lambda c: int(c.partition(".")[0]))
    if not found:
        names = sorted({cell.partition(".")[2] for cell in cells if not cell.partition(".")[2].startswith("_hf")})
        raise HoldfastError(f"there is no variable {name!r} at this step; there are: {', '.join(names)}")
    key = cells[found[0]]
    if key[0] != "=":
        entries[found[0]] = tree
    else:
        # The others of the group are numbered together, so it leaves the group without its place being lost.
        entries[key] = [[cell if cell != found[0] else "-1.replaced", inner] for cell, inner in entries[key]]
        entries[found[0]] = tree


def _ended_view(id: InstanceId, ending: Ending) -> InstanceView:
    """What this process knows of an instance that ended in it: enough to read its outcome."""
    return InstanceView(
        id=id,
        name="",
        program="",  # type: ignore[arg-type]
        status=ending.status,
        queue="",
        priority=0,
        created_at=0.0,
        ended_at=None,
        due_at=None,
        owner=None,
        parent=None,
        reason=None,
        tags="",
        outcome=ending.payload,
    )
