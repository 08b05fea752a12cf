"""What all parts of the machine share: its state, and the verbs by which they reach each other. Decides nothing."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.engine.branch import Branch
from holdfast.engine.events import Command, Note, PendingCall
from holdfast.engine.objects import Objects
from holdfast.engine.values import Future, TaskGroup, Tracked


class Core:
    """The machine, as its parts see it."""

    instance: str
    now: float
    ready: deque[tuple[Any, ...]]
    branches: dict[int, Branch]
    objects: Objects
    calls: dict[int, PendingCall]
    mailbox: dict[int, tuple[str, Any]]
    timers: list[tuple[float, int, str, Any, Any]]
    commands: list[Command]
    notes: list[Note]
    touched_calls: set[int]
    touched_branches: dict[int, Branch]
    hops: int
    running: Branch
    """The branch whose turn it is."""

    if TYPE_CHECKING:

        def fresh(self) -> int: ...
        def moment(self, seconds: float, *, past: bool = False) -> float: ...
        def touch(self, thing: Tracked) -> None: ...
        def track(self, thing: Tracked) -> None: ...
        def timer(self, at: float, kind: str, target: Any, mark: Any, *, serial: int | None = None) -> int: ...
        def give_up(self, call: PendingCall) -> bool: ...
        def future_of(self, item: Any, *, name: str | None = None) -> Future: ...
        def cancel_future(self, future: Future) -> bool: ...
        def _abort(self, group: TaskGroup) -> None: ...
        def _complete(self, future: Future, value: Any, error: BaseException | None) -> None: ...
        def _resume(self, branch: Branch, value: Any) -> bool: ...
        def _step(self, branch: Branch, value: Any, error: BaseException | None, raised: bool = False) -> None: ...
        def _wait(self, branch: Branch, item: Any) -> bool: ...
        def _wait_future(self, branch: Branch, item: Future) -> bool: ...

    def _hold(self, branch: Branch, wait: Any) -> bool:
        branch.wait = wait
        self.touched_branches[branch.task.id] = branch
        return False

    def _go_on(self, branch: Branch, value: Any, error: BaseException | None = None, *, raised: bool = False) -> None:
        """End the branch's wait; it takes its turn after those already ready."""
        branch.wait = None
        self.ready.append(("step", branch, value, error, raised))

    def _turn_now(self, branch: Branch, value: Any, error: BaseException | None, *, raised: bool = False) -> None:
        # A task is woken by the callback itself: no further turn of the loop lies in between.
        self._step(branch, value, error, raised)
