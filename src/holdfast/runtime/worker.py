"""A worker: one process's share of the work. Puts owner, executor and heartbeat together, and takes them down in order."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from holdfast.clock import Clock
from holdfast.errors import LeaseLost, StoreUnavailable
from holdfast.ids import InstanceId, WorkerId, uuid7
from holdfast.logs import get_logger
from holdfast.model.instance import Ending
from holdfast.ports import JOB_CHANNEL, WORK_CHANNEL, Beat, Enlistment, Store, inbox_channel
from holdfast.registry import Registry
from holdfast.retry import task_retry
from holdfast.runtime.consuming import Consumer
from holdfast.runtime.executor import Executor
from holdfast.runtime.heartbeat import Heartbeat
from holdfast.runtime.owner import Owner
from holdfast.runtime.patience import patiently
from holdfast.settings import Settings

log = get_logger("holdfast.worker")

LONGEST_PAUSE = 60.0
"""Seconds until a service that fails again and again is begun anew."""


class Worker:
    """Claims instances and runs them until it is told to stop."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        clock: Clock,
        settings: Settings,
        ended: Callable[[InstanceId, Ending], bool] = lambda _id, _ending: False,
        stub: Callable[[str], Callable[..., Any] | None] | None = None,
        parked: Callable[[InstanceId], None] = lambda _id: None,
        forgetful: bool = False,
        services: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
    ) -> None:
        self.store = store
        self.broker = store.broker()
        self.registry = registry
        self.clock = clock
        self.settings = settings
        self.owner: Owner | None = None
        self.consumer: Consumer | None = None
        self.ready = asyncio.Event()
        """Set while the worker is enlisted and takes work."""
        self._ended = ended
        self._parked = parked
        self._stub = stub
        self._forgetful = forgetful
        self._services = services
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._finished_before = 0

    @property
    def finished_actions(self) -> int:
        """How many actions it has run."""
        return self._finished_before + (self.owner.executor.finished if self.owner else 0)

    @property
    def quiet(self) -> bool:
        """Whether nothing happens here until time passes or something comes from outside."""
        return self.owner is not None and self.consumer is not None and self.owner.quiet and self.consumer.quiet

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end: running actions may go on for `drain_seconds`, unless `at_once`."""
        self._stopping.set()
        if at_once:
            self._at_once.set()

    async def run(self) -> None:
        """Work until `stop` is called. A lost lease is left behind: it goes on under a new one."""
        while not self._stopping.is_set():
            try:
                await self._tenure()
            except LeaseLost as error:
                log.warning("worker starts over", reason=str(error))

    async def _tenure(self) -> None:
        """One lease, from enlisting to handing over."""
        id = WorkerId(uuid7())
        executor = Executor(concurrency=self.settings.concurrent_per_worker, stub=self._stub)
        owner = self.owner = Owner(
            id,
            store=self.store,
            registry=self.registry,
            executor=executor,
            clock=self.clock,
            settings=self.settings,
            ended=self._ended,
            parked=self._parked,
            forgetful=self._forgetful,
        )
        consumer = self.consumer = Consumer(
            id,
            store=self.store,
            broker=self.broker,
            executor=executor,
            clock=self.clock,
            queues=owner.claiming.queues,
            poll=self.settings.poll_interval_ms / 1000,
            policy=task_retry(self.settings.default_retries),
        )
        owner.stirred = consumer.look
        if not await self._enlist(id, owner):
            return
        lost = asyncio.Event()

        def heard(beat: Beat) -> None:
            owner.heard(beat)
            consumer.heard(beat)

        heart = Heartbeat(
            id,
            store=self.store,
            clock=self.clock,
            lease=self.settings.lease_seconds,
            beat=heard,
            lost=lost.set,
        )
        unlisten = [
            await self.store.listen(WORK_CHANNEL, owner.look),
            await self.store.listen(inbox_channel(id), owner.mail.look),
            await self.store.listen(JOB_CHANNEL, consumer.look),
            await self.store.listen(inbox_channel(id), consumer.ask),
        ]
        heart.start()
        log.info("worker started", worker=id, queues=self.settings.queues, concurrency=executor.concurrency)
        self.ready.set()
        retire = True
        parts = [*owner.parts(), *consumer.parts(), *map(_keep_up, self._services)]
        tasks = [asyncio.ensure_future(part) for part in parts]
        work = asyncio.gather(*tasks)
        try:
            await self._until_over(work, lost)
            if not lost.is_set():
                await self._drain(owner, consumer)
        except LeaseLost:
            retire = False
            raise
        finally:
            self.ready.clear()
            if lost.is_set():
                retire = False
            await asyncio.shield(
                asyncio.ensure_future(self._hand_over(owner, consumer, [work, *tasks], heart, unlisten, retire=retire))
            )
        if lost.is_set():
            raise LeaseLost(f"worker {id} lost its lease; others own its instances now")

    async def _enlist(self, id: WorkerId, owner: Owner) -> bool:
        """Take up a lease; False if it was told to stop before the store could be reached."""

        def enlist() -> Awaitable[None]:
            return self.store.enlist(
                Enlistment(
                    id=id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    queues=owner.claiming.queues,
                    lease=self.settings.lease_seconds,
                    now=self.clock.now(),
                )
            )

        try:
            await patiently(enlist, first=0.1, longest=5.0, stopping=self._stopping)
        except StoreUnavailable:
            return False
        return True

    async def _until_over(self, work: asyncio.Future[Any], lost: asyncio.Event) -> None:
        """Return when it should stop or has lost its lease; raise what its parts raise."""
        waits = [asyncio.ensure_future(self._stopping.wait()), asyncio.ensure_future(lost.wait())]
        try:
            done, _ = await asyncio.wait([work, *waits], return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                work.result()
        finally:
            for wait in waits:
                wait.cancel()

    async def _drain(self, owner: Owner, consumer: Consumer) -> None:
        """Start nothing new, let what runs come to its end, and write it down."""
        consumer.drain()
        owner.drain()
        if self._at_once.is_set() or self.settings.drain_seconds == 0:
            return
        log.info("worker drains", running=owner.executor.load)
        again = asyncio.ensure_future(self._at_once.wait())
        settled = asyncio.gather(owner.settled_down(), consumer.settled_down())
        try:
            await asyncio.wait(
                [again, settled], timeout=self.settings.drain_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            again.cancel()
            settled.cancel()

    async def _hand_over(
        self,
        owner: Owner,
        consumer: Consumer,
        work: Sequence[asyncio.Future[Any]],
        heart: Heartbeat,
        unlisten: list[Any],
        *,
        retire: bool,
    ) -> None:
        """Give everything back. What was committed is safe; what was not is repeated by whoever takes over."""
        for part in work:
            part.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        owner.abandon_all()
        consumer.abandon_all()
        self._finished_before += owner.executor.finished
        await owner.executor.close()
        self.owner = self.consumer = None
        await heart.stop()
        try:
            for stop in unlisten:
                await stop()
            if retire:
                await self.store.retire(owner.worker, now=self.clock.now())
                log.info("worker stopped", worker=owner.worker)
        except StoreUnavailable as error:
            log.warning("could not hand over", error=str(error), hint="its work goes on when the lease ends")


async def _keep_up(service: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a service for as long as the worker lives; its failure is logged, and never the worker's end."""
    pause = 1.0
    while True:
        begin = time.monotonic()
        try:
            await service()
        except Exception as error:
            log.error("service failed", error=f"{type(error).__name__}: {error}", again_in=pause, exc_info=error)
        if time.monotonic() - begin > LONGEST_PAUSE:
            pause = 1.0
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
