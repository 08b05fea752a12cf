"""A branch: one line of control, a stack of frames and what it waits for. Data of the machine, no behaviour."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Any

from holdfast.engine.events import PendingCall
from holdfast.engine.frame import Vars
from holdfast.engine.link import LinkedFunction
from holdfast.engine.values import Completed, Future, Task, TaskGroup

NOWHERE = Context()
"""That of a branch that has ended: its own would keep the machine alive."""


class Frame:
    """A running function: where it is and its variables."""

    __slots__ = ("block", "code", "dirty", "id", "saved", "vars")

    def __init__(self, id: int, code: LinkedFunction, bound: dict[str, Any]) -> None:
        self.id = id
        self.code = code
        self.vars = Vars(bound)
        self.block = 0
        self.dirty: set[str] = set(bound)
        """Variables that may have changed since they were last saved."""
        self.saved: dict[str, str] = {}
        """For each variable that may be saved, the key of its entry."""


class Branch:
    """One line of control. Its id is that of its task."""

    __slots__ = ("context", "floor", "frames", "item", "key", "must_cancel", "task", "wait")

    def __init__(self, task: Task, item: Any) -> None:
        self.task = task
        self.key = f"b{task.id}"
        """Under which its record is saved."""
        self.item = item
        """What it was made to wait for, until it has started."""
        self.frames: list[Frame] = []
        self.context = copy_context()
        """As a task in asyncio, a branch begins with a copy of what whoever made it sees of context variables."""
        self.wait: Wait | None = None
        self.must_cancel = False
        self.floor = 0
        """The lowest frame whose handled exception those above can see. As in Python, an exception that is thrown into
        a waiting function does not meet what its callers are handling before it leaves that function."""

    @property
    def id(self) -> int:
        return self.task.id


class OnCall:
    """Waiting for a call's outcome."""

    __slots__ = ("call",)

    def __init__(self, call: PendingCall) -> None:
        self.call = call


class OnTime:
    """Waiting for a moment."""

    __slots__ = ("at", "result", "serial")

    def __init__(self, at: float, result: Any) -> None:
        self.at = at
        self.result = result
        self.serial = 0


class OnFuture:
    """Waiting for a task or another future."""

    __slots__ = ("future",)

    def __init__(self, future: Future) -> None:
        self.future = future


class OnSet:
    """Waiting for some or all of several futures, perhaps until a moment."""

    __slots__ = ("at", "futures", "mode", "serial", "told")

    def __init__(self, futures: list[Future], mode: str, at: float | None) -> None:
        self.futures = futures
        self.mode = mode
        self.at = at
        self.serial = 0
        self.told: set[int] = set()
        """Ids of the futures whose end was noticed."""


class OnLimited:
    """Waiting for a task until a moment; `state` is waiting, late (timed out) or cancelled (from outside)."""

    __slots__ = ("at", "future", "serial", "state")

    def __init__(self, future: Future, at: float | None, state: str = "waiting") -> None:
        self.future = future
        self.at = at
        self.state = state
        self.serial = 0


class OnMessage:
    """Waiting for a message, perhaps until a moment."""

    __slots__ = ("at", "key", "serial")

    def __init__(self, key: str, at: float | None) -> None:
        self.key = key
        self.at = at
        self.serial = 0


class OnNext:
    """Waiting for whichever of several futures ends next."""

    __slots__ = ("boxed", "source")

    def __init__(self, source: Completed, boxed: bool) -> None:
        self.source = source
        self.boxed = boxed


class OnGroup:
    """Waiting for the tasks of a group to end."""

    __slots__ = ("cancelled", "group")

    def __init__(self, group: TaskGroup, cancelled: BaseException | None) -> None:
        self.group = group
        self.cancelled = cancelled
        """The cancellation to go on raising when they have."""


Wait = OnCall | OnTime | OnFuture | OnSet | OnLimited | OnMessage | OnNext | OnGroup
