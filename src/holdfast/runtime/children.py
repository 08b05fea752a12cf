"""Children that others have started: find out which they are, and tell those that joined them of their ends.

Likewise those that were given up: nobody waits for one that is not there. Acts as `joining` decides; starts and cancels
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.clock import Clock
from holdfast.errors import StoreError
from holdfast.ids import InstanceId
from holdfast.model.instance import Commit, Committed, Delivery
from holdfast.ports import Store
from holdfast.runtime import joining
from holdfast.runtime.background import Background
from holdfast.runtime.patience import patiently
from holdfast.runtime.resident import Resident


class Joiner:
    """Brings the outcomes of shared children to parents: `mail` and `look` are called when inboxes got something.

    `stir` is called for a parent once all of its children are known, `abandon` where that cannot be found out.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        stir: Callable[[Resident], None],
        abandon: Callable[[Resident, str], None],
        mail: Callable[[], None],
        look: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._stir = stir
        self._abandon = abandon
        self._mail = mail
        self._look = look
        self._background = Background()

    @property
    def busy(self) -> bool:
        """Whether it finds out about somebody's children."""
        return self._background.busy

    def look_after(self, resident: Resident) -> None:
        """Look again at the children that others have started, where it is time: whoever was to tell may be gone."""
        children = resident.children
        if children.look_at is not None and children.look_at <= self._clock.now():
            children.look_at = None
            self.join(resident, sorted(children.joined & resident.machine.calls.keys()))

    def join(self, resident: Resident, calls: Sequence[int]) -> None:
        """Find out whether others have started the children of these calls, and see to it that it hears of their ends."""
        self._background.begin(self._join(resident, calls))

    def let_go(self, resident: Resident, calls: Sequence[int]) -> None:
        """Find out whether the children of these calls, which were asked to end, are there to tell of their ends.

        It waits no more for those that are not, or that another has started, whom it cannot ask.
        """
        self._background.begin(self._let_go(resident, calls))

    def stop(self) -> None:
        """Find out nothing more: whoever takes the parents over does."""
        self._background.cancel()

    async def tell(self, commits: Sequence[Commit], committed: Committed) -> None:
        """Tell parents that have joined what has ended with these commits."""
        await self._hand_over(joining.outcomes(commits, committed.waiters, self._clock.now()))

    async def _join(self, resident: Resident, calls: Sequence[int]) -> None:
        try:
            await self._find_out(resident, calls)
        except StoreError as error:
            self._abandon(resident, f"its children cannot be looked for: {error}")

    async def _let_go(self, resident: Resident, asked: Sequence[int]) -> None:
        machine = resident.machine
        calls = [machine.calls[id] for id in asked if id in machine.calls]
        ids = [InstanceId(call.child_id) for call in calls]
        try:
            views = {view.id: view for view in await patiently(lambda: self._store.view(ids))}
        except StoreError as error:
            self._abandon(resident, f"its children cannot be looked for: {error}")
            return
        now = self._clock.now()
        await self._hand_over(
            [
                joining.lost(resident.id, call, now)
                for call in calls
                if (view := views.get(InstanceId(call.child_id))) is None
                or not joining.is_own(resident.id, call.id, view)
            ]
        )
        self._stir(resident)

    async def _find_out(self, resident: Resident, asked: Sequence[int]) -> None:
        children, machine = resident.children, resident.machine
        calls = [machine.calls[id] for id in asked if id in machine.calls]
        ids = [InstanceId(call.child_id) for call in calls]
        views = {view.id: view for view in await patiently(lambda: self._store.view(ids))}
        told: list[Delivery] = []
        for call, id in zip(calls, ids, strict=True):
            view = views.get(id)
            if view is not None and joining.is_own(resident.id, call.id, view):
                continue
            error = joining.refusal(resident.id, call, view)
            if error is None:
                # First ask to be told, then look: an end in between is seen, or told.
                word = joining.word_of(resident.id, call.id)
                (view,) = await patiently(lambda id=id, word=word: self._store.view([id], waiter=word)) or (None,)
                error = joining.refusal(resident.id, call, view)
            if error is not None:
                told.append(joining.refused(resident.id, call, error, self._clock.now()))
            elif view is not None and view.status.ended:
                told.append(joining.outcome(resident.id, call.id, view, self._clock.now()))
            children.joined.add(call.id)
        await self._hand_over(told)
        children.unknown.difference_update(asked)
        children.joined &= machine.calls.keys()
        children.look_at = self._clock.now() + joining.LOOK_AFTER if children.joined else None
        # It may sleep now.
        self._stir(resident)

    async def _hand_over(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            await patiently(lambda: self._store.deliver(deliveries))
            self._mail()
            self._look()
