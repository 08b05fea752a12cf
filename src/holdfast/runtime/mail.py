"""Mail: what arrives in the inboxes of residents, read and folded into their machines. Deletes nothing: commits do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from holdfast.clock import Clock
from holdfast.codec import decode, loads
from holdfast.errors import CodecError
from holdfast.ids import InstanceId, WorkerId
from holdfast.model.instance import Claimed, Delivery, DeliveryKind, InstanceView
from holdfast.ports import Store
from holdfast.retry import jitter_chance
from holdfast.runtime.patience import patiently
from holdfast.runtime.resident import Resident


class Mail:
    """The inbox of one worker. `stir` is called for whom something came, `abandon` for whom it cannot be read."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        store: Store,
        clock: Clock,
        residents: Mapping[InstanceId, Resident],
        stir: Callable[[Resident], None],
        abandon: Callable[[Resident, str], None],
    ) -> None:
        self._worker = worker
        self._store = store
        self._clock = clock
        self._residents = residents
        self._stir = stir
        self._abandon = abandon
        self.looks = 0
        """How often something was said to have come."""
        self._look = asyncio.Event()
        self._spent: set[tuple[InstanceId, str]] = set()
        """Inbox rows consumed since the inbox was last asked for: the answer may still hold them."""
        self._reading = False

    def look(self, *_: str) -> None:
        """There may be something in the inbox."""
        self.looks += 1
        self._look.set()

    def spend(self, resident: Resident, rows: Sequence[str]) -> None:
        """A commit has consumed these rows."""
        resident.seen.difference_update(rows)
        self._spent.update([(resident.id, id) for id in rows])

    @property
    def busy(self) -> bool:
        """Whether the inbox is read, or about to be."""
        return self._reading or self._look.is_set()

    async def read(self) -> None:
        """Fold in what arrives in inboxes, for as long as this runs."""
        while True:
            await self._look.wait()
            self._look.clear()
            if not self._residents:
                continue
            self._reading = True
            await self._read_once()
            self._reading = False

    async def _read_once(self) -> None:
        self._spent.clear()
        for row in await patiently(lambda: self._store.take_inbox(self._worker)):
            resident = self._residents.get(row.instance)
            if resident is None or row.id in resident.seen or (row.instance, row.id) in self._spent:
                continue
            resident.seen.add(row.id)
            resident.consumed.append(row.id)
            try:
                trouble = fold(resident, row, now=self._clock.now(), chance=jitter_chance())
            except Exception as error:  # noqa: BLE001 - decoding runs what users registered
                trouble = f"what came for it cannot be read here: {type(error).__name__}: {error}"
            if trouble is not None:
                self._abandon(resident, trouble)
            self._stir(resident)


def fold(resident: Resident, row: Delivery, *, now: float, chance: float) -> str | None:
    """Tell the machine what a row brings; why that is impossible here, if it is."""
    machine = resident.machine
    machine.now = max(machine.now, now)
    match row.kind:
        case DeliveryKind.CANCEL:
            if concerns(row, resident.claimed):
                machine.cancel()
        case DeliveryKind.MESSAGE:
            machine.message(row.key, loads(row.payload))
        case DeliveryKind.RESULT:
            try:
                _fold_result(resident, int(row.key), loads(row.payload), chance)
            except (CodecError, KeyError, ValueError, TypeError) as error:
                return f"a result for it cannot be read here: {error}"
    return None


def concerns(cancel: Delivery, receiver: Claimed | InstanceView) -> bool:
    """Whether a cancellation is meant for whom it came to.

    A parent that gives up its call names it: that concerns only the child which this very call started.
    """
    return cancel.key in ("", f"{receiver.parent}:{receiver.parent_call}")


def _fold_result(resident: Resident, call: int, result: Any, chance: float) -> None:
    if "declined" in result:
        pending = resident.machine.calls.get(call)
        if pending is not None:
            # It is as if it had not been made yet: whoever has the instance next makes it anew.
            pending.spilled = False
            resident.machine.touched_calls.add(call)
            resident.parking = f"{result['declined']}, then retry the instance"
        return
    if "value" in result:
        asked = result.get("asked") is True
        resident.machine.call_done(call, result["value"], decode(result["value"]), asked=asked)
    else:
        error = decode(result["error"])
        resident.machine.call_failed(call, error, result["error"], chance=chance)
