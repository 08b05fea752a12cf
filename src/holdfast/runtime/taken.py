"""Taken calls: those of other workers' instances that this one runs, reports, and drops once nobody wants them.

Knows nothing of the instances they belong to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from holdfast.clock import Clock
from holdfast.codec import dumps, encode_exception, loads
from holdfast.errors import CodecError, StoreUnavailable
from holdfast.ids import WorkerId
from holdfast.logs import get_logger
from holdfast.model.instance import Delivery, DeliveryKind, SpilledCall
from holdfast.ports import Settled, Store
from holdfast.runtime.executor import Attempt, CannotRun, Executor, Gave, Raised
from holdfast.task import ACTIONS

log = get_logger("holdfast.worker")


class Taken:
    """The calls one worker has taken. `settle` is given what became of each, `look` is called when one makes room."""

    def __init__(
        self,
        worker: WorkerId,
        *,
        store: Store,
        executor: Executor,
        clock: Clock,
        settle: Callable[[Settled], None],
        look: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._store = store
        self._executor = executor
        self._clock = clock
        self._settle = settle
        self._look = look
        self._attempts: dict[str, Attempt] = {}
        self._asking: asyncio.Future[None] | None = None

    def run(self, call: SpilledCall) -> None:
        """Run an attempt of a call that belongs to an instance elsewhere."""
        if call.id in self._attempts:
            return
        if call.name not in ACTIONS and not self._executor.stubbed(call.name):
            missing = f"no action {call.name!r} is defined on the worker that took its call; import its module there"
            self._report(call, {"declined": missing})
            return
        try:
            payload = loads(call.payload)
            args, timeout = payload["args"], payload["timeout"]
        except (CodecError, KeyError, TypeError) as error:
            damage = CodecError(f"the call of {call.name} cannot be read: {type(error).__name__}: {error}")
            self._report(call, {"error": encode_exception(damage)})
            return
        attempt = Attempt(call.name, args, None, timeout, lambda outcome: self._ended(call, outcome))
        self._attempts[call.id] = attempt
        self._executor.submit(attempt)

    def ask(self) -> None:
        """Drop those that nobody wants any more. Sends nothing where there are none."""
        if self._attempts and (self._asking is None or self._asking.done()):
            self._asking = asyncio.ensure_future(self._drop_unwanted())

    def drop_all(self) -> None:
        """Run none of them any more."""
        if self._asking is not None:
            self._asking.cancel()
        for attempt in self._attempts.values():
            self._executor.drop(attempt)
        self._attempts.clear()

    async def _drop_unwanted(self) -> None:
        asked = dict(self._attempts)
        try:
            wanted = set(await self._store.held_calls(self._worker, sorted(asked)))
        except StoreUnavailable as error:
            # The next heartbeat asks again.
            log.warning("taken calls not asked for", error=str(error))
            return
        for id, attempt in asked.items():
            if id not in wanted and self._attempts.get(id) is attempt:
                del self._attempts[id]
                self._executor.drop(attempt)
                self._look()

    def _ended(self, call: SpilledCall, outcome: Gave | Raised) -> None:
        self._attempts.pop(call.id, None)
        match outcome:
            case Gave(tree=tree):
                self._report(call, {"value": tree})
            case Raised(CannotRun() as error):
                self._report(call, {"declined": str(error)})
            case Raised(tree=tree):
                self._report(call, {"error": tree})

    def _report(self, call: SpilledCall, result: dict[str, Any]) -> None:
        delivery = Delivery(
            id=call.id,
            instance=call.instance,
            kind=DeliveryKind.RESULT,
            key=call.call,
            payload=dumps(result),
            at=self._clock.now(),
        )
        self._settle(Settled(call=call, delivery=delivery))
        self._look()
