"""The client side: start instances, watch them, tell them things, and wait for what becomes of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, cast

from holdfast.arguments import fitted_message
from holdfast.clock import Clock, as_seconds
from holdfast.codec import Decoder, dumps, encode, loads, show_remote_tracebacks, traceback_of
from holdfast.engine import begin_calls_anew, forget_cancel
from holdfast.errors import (
    ConfigurationError,
    HoldfastError,
    InstanceNotFound,
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
from holdfast.runtime import dismissing
from holdfast.runtime.dismissing import Deletion
from holdfast.runtime.forking import change, step_to_fork
from holdfast.runtime.resident import entries_of, start_payload
from holdfast.runtime.watching import Expectation, Watch
from holdfast.workflow import Run, Workflow, definition_of

R = TypeVar("R")


class Client:
    """Speaks to the store for whoever starts and watches instances."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        clock: Clock,
        poll_interval: float,
        ready: Callable[[], Awaitable[object]],
    ) -> None:
        self.store = store
        self._ready = ready
        """Opens the store where it is not open yet."""
        self.registry = registry
        self.clock = clock
        self.poll_interval = poll_interval
        self.watch: Watch[InstanceId, InstanceView] = Watch(
            store,
            kind="instance",
            poll_interval=poll_interval,
            look=self._look,
            ended=lambda view: view.status.ended or view.status is Status.PARKED,
            missing=lambda id: InstanceNotFound(f"there is no instance {id!r}"),
        )
        self._kept: set[str] = set()

    async def close(self) -> None:
        """Stop watching."""
        await self.watch.close()

    async def reach(self) -> Store:
        """The store, open in the running event loop."""
        await self._ready()
        return self.store

    # --- starting

    async def start(self, runs: Sequence[Run[Any]], *, waiting: bool = False) -> list[Handle[Any]]:
        """Start instances, all in one statement. Those whose id exists already are left as they are."""
        now = self.clock.now()
        expected: dict[InstanceId, Expectation] = {}
        if waiting:
            await self.watch.listen()
        starts: list[Start] = []
        for run in runs:
            run.unused = False
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
                    input=start_payload(cast("dict[str, Any]", vars(run.instance)), run.bound, run.workflow),
                    created_at=now,
                    due_at=now + float(options.get("delay", 0.0)),
                    queue=options.get("queue", "default"),
                    priority=options.get("priority", 0),
                    waiter=self.watch.channel if waiting else None,
                    tags=options.get("tags", ""),
                )
            )
        if waiting:
            expected = {start.id: self.watch.expect(start.id) for start in starts}
        new = set(await self.store.start(starts))
        await self._check_names([start for start in starts if start.id not in new])
        # A new instance knows who waits for it from the start; of others it must be looked up.
        return [
            Handle(self, start.id, run.cls, expected=expected.get(start.id) if start.id in new else None)
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
        if at is not None and type(at) is not int:
            raise ConfigurationError(f"at= is the number of a step, not {at!r}")
        views = await self.store.view([id])
        if not views:
            raise InstanceNotFound(f"there is no instance {id!r}")
        steps = await self.history(id)
        seq = step_to_fork(steps, views[0].status) if at is None else at
        if not steps[0].seq <= seq <= steps[-1].seq:
            raise HoldfastError(f"there is no step {seq}; the history holds {steps[0].seq} to {steps[-1].seq}")
        entries = entries_of(steps, upto=seq)
        change(entries, changes, views[0])
        now = self.clock.now()
        made = InstanceId(new_id or uuid7())
        begin_calls_anew(entries, old=id, new=made)
        forget_cancel(entries)
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
        return self.watch.tell(id, _ended_view(id, ending))

    def parked(self, id: InstanceId) -> None:
        """A worker in this very process parked an instance: whoever waits for it looks again."""
        self.watch.look_again(id)

    async def outcome(
        self, id: InstanceId, *, timeout: float | None = None, expected: Expectation | None = None
    ) -> InstanceView:
        """The view of an instance once it has ended or is parked. Raises WaitTimeout, InstanceNotFound."""
        await self.reach()
        return await self.watch.outcome(id, timeout=timeout, expected=expected)

    async def _look(self, ids: Sequence[InstanceId], waiter: str | None) -> Mapping[InstanceId, InstanceView]:
        return {view.id: view for view in await self.store.view(ids, waiter=waiter)}

    # --- telling

    async def cancel(self, ids: Sequence[InstanceId]) -> Mapping[InstanceId, bool]:
        """Ask instances to end. Those that heard of it, and whether they have ended by that: parked ones do at once."""
        return await dismissing.cancel(await self.reach(), ids, now=self.clock.now())

    async def delete(self, ids: Sequence[InstanceId], *, force: bool = False) -> Sequence[Deletion]:
        """Remove ended and parked instances with all that descend from them; of those that exist, what became of each.

        A family of which one lives stays as it is. With `force`, the living are cancelled first, and waited for.
        """
        return await dismissing.delete(await self.reach(), ids, clock=self.clock, force=force)

    async def deliver(
        self, ids: Iterable[InstanceId], kind: DeliveryKind, key: str, payload: bytes
    ) -> list[InstanceId]:
        """Put something into inboxes; returns the ids that exist and have not ended."""
        now = self.clock.now()
        rows = [Delivery(id=uuid7(), instance=id, kind=kind, key=key, payload=payload, at=now) for id in ids]
        return list(await (await self.reach()).deliver(rows))


class Handle(Generic[R]):
    """A running instance, from outside. Its verbs are those of a person watching it."""

    def __init__(
        self, client: Client, id: InstanceId, cls: type[Workflow] | None = None, *, expected: Expectation | None = None
    ) -> None:
        self._client = client
        self._expected = expected
        self.id = id
        """The instance's id, under which any process finds it again."""
        self.workflow = cls

    async def result(self, *, timeout: float | Any | None = None) -> R:
        """Wait for its result. Raises its own exception, WorkflowCancelled, WorkflowParked, or WaitTimeout."""
        seconds = None if timeout is None else as_seconds(timeout)
        view = await self._client.outcome(self.id, timeout=seconds, expected=self._expected)
        self._expected = None
        return outcome_of(view)

    async def wait(self, *, timeout: float | Any | None = None) -> Status:
        """Wait until it has ended, whichever way, or is parked; returns its status."""
        seconds = None if timeout is None else as_seconds(timeout)
        return (await self._client.outcome(self.id, timeout=seconds)).status

    async def view(self) -> InstanceView:
        """All that is known of it. Raises InstanceNotFound."""
        for view in await (await self._client.reach()).view([self.id]):
            return view
        raise InstanceNotFound(f"there is no instance {self.id!r}")

    async def status(self) -> Status:
        """Where it stands. Raises InstanceNotFound."""
        return (await self.view()).status

    async def cancel(self) -> bool:
        """Ask it to end: CancelledError is raised where it waits; if it is parked, it ends at once, without going on.

        False if it had ended before. Raises InstanceNotFound.
        """
        return bool(await self._client.cancel([self.id])) or await self._ended()

    async def delete(self, *, force: bool = False) -> None:
        """Remove it with its history, and with all that descend from it. Parked ones end as cancelled before.

        Raises InstanceNotFound, and HoldfastError where it or a child lives. With `force`, the living are cancelled
        first, and waited for; what no worker has ended within ten seconds ends without going on.
        """
        found = await self._client.delete([self.id], force=force)
        if not found:
            raise InstanceNotFound(f"there is no instance {self.id!r}")
        if not found[0].gone:
            living = ", ".join(view.id for view in found[0].living)
            raise HoldfastError(f"instance {self.id} is not deleted: {living} lives; cancel it first, or use force")

    async def send(self, message: Any, value: Any = None, /) -> bool:
        """Send it a message: `send("name", value)`, or `send(value)` under its type. False if it has ended.

        Where the name is that of a type which is imported here (`module:Type`), the value is validated against it, so
        that a dict becomes an object. Raises InstanceNotFound, ValidationError.
        """
        given = fitted_message(message, value) if isinstance(message, str) else message
        key, payload = message_key(message), dumps(encode(given))
        return bool(await self._client.deliver([self.id], DeliveryKind.MESSAGE, key, payload)) or await self._ended()

    async def _ended(self) -> Literal[False]:
        """Nothing has reached it, so it has ended; raises InstanceNotFound where there is none."""
        await self.view()
        return False

    async def history(self, *, after: int = -1, limit: int = 1000) -> Sequence[Step]:
        """Its journal, oldest kept row first."""
        return await (await self._client.reach()).history(self.id, after=after, limit=limit)

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
        raise WorkflowCancelled(f"instance {view.id} was {_first_argument(tree) or 'cancelled'}")
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


def _first_argument(tree: Any) -> str | None:
    """What a stored exception says, as far as that is a text."""
    match tree:
        case {"args": [str(text), *_]}:
            return text
        case _:
            return None


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
