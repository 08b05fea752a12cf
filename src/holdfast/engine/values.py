"""What workflow code holds while things are under way: tasks, gathers, timeouts, task groups. They know ids, not services."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from holdfast.codec import encode
from holdfast.engine.leaving import leaving
from holdfast.errors import NotInWorkflow
from holdfast.model.call import Durable, Once, Send, message_key

if TYPE_CHECKING:
    from holdfast.engine.machine import Branch, Machine

CURRENT: ContextVar[Machine] = ContextVar("holdfast_machine")
"""The machine whose code is running now."""


def machine() -> Machine:
    """The machine whose code is running now. Raises NotInWorkflow outside of one."""
    try:
        return CURRENT.get()
    except LookupError:
        raise NotInWorkflow("this has a meaning only inside a workflow's code") from None


class Sub(Once):
    """A call of another function of the program, not started yet."""

    __slots__ = ("bound", "function")

    def __init__(self, function: str, bound: dict[str, Any]) -> None:
        self.spent = False
        self.function = function
        self.bound = bound


class Sleep(Once):
    """Waiting for time to pass."""

    __slots__ = ("result", "seconds")

    def __init__(self, seconds: float, result: Any) -> None:
        self.spent = False
        self.seconds = seconds
        self.result = result


class Ready(Durable):
    """Something that is there at once, without a turn of the loop."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class WaitFor(Once):
    """`asyncio.wait_for`"""

    __slots__ = ("item", "timeout")

    def __init__(self, item: Any, timeout: float | None) -> None:
        self.spent = False
        self.item = item
        self.timeout = timeout


class WaitSet(Once):
    """`asyncio.wait`"""

    __slots__ = ("items", "mode", "timeout")

    def __init__(self, items: list[Any], timeout: float | None, mode: str) -> None:
        self.spent = False
        self.items = items
        self.timeout = timeout
        self.mode = mode


class Exit(Durable):
    """Leaving an `async with`."""

    __slots__ = ("error", "manager")

    def __init__(self, manager: Any, error: BaseException | None) -> None:
        self.manager = manager
        self.error = error


class NextDone(Durable):
    """The next one of `as_completed`. With `boxed`, gives a one-tuple, and () at the end."""

    __slots__ = ("boxed", "source")

    def __init__(self, source: Completed, boxed: bool) -> None:
        self.source = source
        self.boxed = boxed


class Tracked:
    """An object with an identity of its own in the state: saved once under its id, and referred to by it."""

    __slots__ = ("__weakref__", "id")
    kind = ""

    def __init__(self, id: int) -> None:
        self.id = id


PENDING = object()


class Future(Tracked, Durable):
    """A result that comes later. `callbacks` say who is told."""

    __slots__ = ("callbacks", "error", "result_value", "state")
    kind = "future"

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.state = "pending"
        self.result_value: Any = None
        self.error: BaseException | None = None
        self.callbacks: list[tuple[str, Any]] = []

    def done(self) -> bool:
        """Whether it ended, in whichever way."""
        return self.state != "pending"

    def cancelled(self) -> bool:
        """Whether it ended by being cancelled."""
        return self.state == "cancelled"

    def result(self) -> Any:
        """Its result, or its exception raised. Raises InvalidStateError while it runs."""
        if self.state == "cancelled":
            raise asyncio.CancelledError
        if self.state == "pending":
            raise asyncio.InvalidStateError("Result is not set.")
        self._shown()
        if self.error is not None:
            raise self.error
        return self.result_value

    def exception(self) -> BaseException | None:
        """Its exception, or None. Raises InvalidStateError while it runs."""
        if self.state == "cancelled":
            raise asyncio.CancelledError
        if self.state == "pending":
            raise asyncio.InvalidStateError("Exception is not set.")
        self._shown()
        return self.error

    def _shown(self) -> None:
        # Whoever sees the outcome may change it, without a variable that says so.
        machine().touch(self)

    def cancel(self, msg: object = None) -> bool:
        """Ask it to end; False if it has ended."""
        if self.done():
            return False
        return machine().cancel_future(self)


class Task(Future):
    """A branch of the workflow that runs on its own."""

    __slots__ = ("branch", "cancels", "name")
    kind = "task"

    def __init__(self, id: int, name: str | None = None) -> None:
        super().__init__(id)
        self.name = name if name is not None else f"Task-{id}"
        self.branch: Branch | None = None
        self.cancels = 0

    def get_name(self) -> str:
        """The name given, or `Task-` and its id."""
        return self.name

    def set_name(self, value: object) -> None:
        """Give it another name."""
        self.name = str(value)
        machine().touch(self)

    def cancelling(self) -> int:
        """How many cancellations were asked for and not taken back."""
        return self.cancels

    def uncancel(self) -> int:
        """Take one request to cancel back; returns how many remain."""
        if self.cancels > 0:
            self.cancels -= 1
            machine().touch(self)
        return self.cancels

    def __repr__(self) -> str:
        return f"<Task {self.name!r} {self.state}>"


class Gathered(Future):
    """The outcome of `asyncio.gather`."""

    __slots__ = ("cancel_asked", "children", "keep_errors", "missing")
    kind = "gather"

    def __init__(self, id: int, children: list[Future], keep_errors: bool) -> None:
        super().__init__(id)
        self.children = children
        self.missing = len({child.id for child in children})
        self.keep_errors = keep_errors
        self.cancel_asked = False


class Shielded(Future):
    """What `asyncio.shield` gives: cancelling it leaves `inner` alone."""

    __slots__ = ("inner",)
    kind = "shield"

    def __init__(self, id: int, inner: Future | None) -> None:
        super().__init__(id)
        self.inner = inner


class ChildHandle(Future):
    """A child workflow that was started and not waited for. Awaiting `result()` waits for its outcome."""

    __slots__ = ("instance",)
    kind = "child"

    def __init__(self, id: int, instance: str) -> None:
        super().__init__(id)
        self.instance = instance


class StartedChild:
    """The handle of a child workflow that was started: `await child.result()` waits for its outcome."""

    __slots__ = ("future",)

    def __init__(self, future: ChildHandle) -> None:
        self.future = future

    @property
    def id(self) -> str:
        """The child's instance id."""
        return self.future.instance

    def result(self) -> ChildHandle:
        """Its result, or its exception, once it has ended."""
        return self.future

    def done(self) -> bool:
        """Whether its end is known here."""
        return self.future.done()

    def cancel(self) -> Send:
        """Ask it to end: `await child.cancel()`."""
        return Send(self.id, None, None)

    def send(self, message: Any, value: Any = None, /) -> Send:
        """Send it a message by name, or under its type: `await child.send("go", 1)`."""
        return Send(self.id, message_key(message), leaving(encode, value if isinstance(message, str) else message))

    def __repr__(self) -> str:
        return f"<started workflow {self.id}>"


class Timeout(Tracked):
    """`asyncio.timeout`: cancels its branch when its time is up, and turns that into a TimeoutError."""

    __slots__ = ("branch_id", "cancelling", "deadline", "delay", "serial", "state")
    kind = "timeout"

    def __init__(self, id: int, deadline: float | None) -> None:
        super().__init__(id)
        self.deadline = deadline
        self.state = "created"
        self.branch_id = -1
        self.cancelling = 0
        self.delay: float | None = None
        self.serial = 0

    def when(self) -> float | None:
        """The moment it ends, on the clock of `timeout_at` (Unix seconds)."""
        return self.deadline

    def expired(self) -> bool:
        """Whether its time was up before the block ended."""
        return self.state in ("expiring", "expired")

    def __repr__(self) -> str:
        when = "" if self.state != "entered" else f" when={None if self.deadline is None else round(self.deadline, 3)}"
        return f"<Timeout [{self.state}]{when}>"

    def reschedule(self, when: float | None) -> None:
        """Move the moment it ends."""
        if self.state == "created":
            raise RuntimeError("Timeout has not been entered")
        if self.state != "entered":
            raise RuntimeError(f"Cannot change state of {self.state} Timeout")
        self.deadline = when
        machine().arm_timeout(self)


class TaskGroup(Tracked):
    """`asyncio.TaskGroup`"""

    __slots__ = ("aborting", "branch_id", "error", "errors", "parent_cancelled", "state", "tasks")
    kind = "group"

    def __init__(self, id: int) -> None:
        super().__init__(id)
        self.state = "created"
        self.branch_id = -1
        self.tasks: dict[int, Task] = {}
        self.errors: list[BaseException] = []
        self.aborting = False
        self.parent_cancelled = False
        self.error: BaseException | None = None
        """The exception with which the block was left."""

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> Task:
        """Start a task that the group waits for."""
        if self.state == "created":
            raise RuntimeError(f"TaskGroup {self!r} has not been entered")
        if self.state == "exited" or (self.state == "exiting" and not self.tasks):
            raise RuntimeError(f"TaskGroup {self!r} is finished")
        if self.aborting:
            raise RuntimeError(f"TaskGroup {self!r} is shutting down")
        run = machine()
        task = run.spawn(coro, name=name)
        self.tasks[task.id] = task
        task.callbacks.append(("group", self))
        run.touch(self)
        return task


class Completed(Tracked):
    """What `asyncio.as_completed` gives: each turn, something to await for the next result."""

    __slots__ = ("done", "left", "waiting")
    kind = "completed"

    def __init__(self, id: int, futures: list[Future]) -> None:
        super().__init__(id)
        self.waiting = {future.id for future in futures}
        self.done: deque[Future] = deque()
        self.left = len(self.waiting)

    def __iter__(self) -> Completed:
        return self

    def __next__(self) -> NextDone:
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        machine().touch(self)
        return NextDone(self, False)
