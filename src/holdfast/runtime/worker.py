"""A worker: one process's share of the work. Puts owner, consumer and heartbeat together, and takes them down in order."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from importlib.metadata import version
from typing import Any

from holdfast.clock import Clock
from holdfast.errors import LeaseLost, StoreUnavailable
from holdfast.ids import InstanceId, WorkerId, uuid7
from holdfast.logs import get_logger
from holdfast.model.instance import Ending
from holdfast.ports import JOB_CHANNEL, WORK_CHANNEL, Backend, Beat, Broker, Enlistment, Store, WakeUp, inbox_channel
from holdfast.registry import Registry
from holdfast.retry import task_retry
from holdfast.runtime.consuming import Consumer
from holdfast.runtime.counting import Counts
from holdfast.runtime.executor import Executor
from holdfast.runtime.heartbeat import Heartbeat
from holdfast.runtime.hooks import Hooks
from holdfast.runtime.owner import Owner
from holdfast.runtime.patience import patiently
from holdfast.settings import Settings

log = get_logger("holdfast.worker")

LONGEST_PAUSE = 60.0
"""Seconds until a service that fails again and again is begun anew."""


class Worker:
    """Claims instances and jobs, and runs them until it is told to stop. Without a store there are only jobs."""

    def __init__(
        self,
        *,
        store: Store | None,
        broker: Broker,
        registry: Registry,
        clock: Clock,
        settings: Settings,
        ended: Callable[[InstanceId, Ending], bool] = lambda _id, _ending: False,
        stub: Callable[[str], Callable[..., Any] | None] | None = None,
        parked: Callable[[InstanceId], None] = lambda _id: None,
        forgetful: bool = False,
        services: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        hooks: Hooks | None = None,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    ) -> None:
        self.store = store
        self.broker = broker
        self.registry = registry
        self.clock = clock
        self.settings = settings
        self.owner: Owner | None = None
        self.consumer: Consumer | None = None
        self.ready = asyncio.Event()
        """Set while the worker is enlisted and takes work."""
        self.counts = Counts() if settings.metrics_port is not None else None
        """What it did, over all its leases; None where nobody asks."""
        self.executor: Executor | None = None
        self.heart: Heartbeat | None = None
        self._ended = ended
        self._parked = parked
        self._stub = stub
        self._forgetful = forgetful
        self._services = services
        self._hooks = hooks or Hooks()
        self._lifespan = lifespan
        """Gives the state of this process."""
        self._state: object = None
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._finished_before = 0

    @property
    def finished_actions(self) -> int:
        """How many actions it has run."""
        return self._finished_before + (self.executor.finished if self.executor else 0)

    @property
    def quiet(self) -> bool:
        """Whether nothing happens here until time passes or something comes from outside."""
        at_rest = self.owner.quiet if self.owner is not None else self.store is None
        return at_rest and self.consumer is not None and self.consumer.quiet

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping.is_set()

    def stop(self, *, at_once: bool = False) -> None:
        """Ask it to end: running actions may go on for `drain_seconds`, unless `at_once`."""
        self._stopping.set()
        if at_once:
            self._at_once.set()

    async def run(self) -> None:
        """Work until `stop` is called. A lost lease is left behind: it goes on under a new one."""
        async with self._lifespan() as self._state:
            await self._hooks.started()
            try:
                await self._work()
            finally:
                await self._hooks.stopped()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._tenure()
            except LeaseLost as error:
                log.warning("worker starts over", reason=str(error))
                if self.counts is not None:
                    self.counts.leases_lost.add(())

    async def _tenure(self) -> None:
        """One term of office, under a lease with each backend, from enlisting to handing over."""
        id = WorkerId(uuid7())
        executor = self.executor = Executor(
            concurrency=self.settings.concurrent_per_worker, stub=self._stub, state=self._state, counts=self.counts
        )
        owner = self.owner = self._make_owner(id, executor)
        consumer = self.consumer = Consumer(
            id,
            broker=self.broker,
            executor=executor,
            clock=self.clock,
            queues=self.settings.queue_names,
            poll=self.settings.poll_interval_ms / 1000,
            policy=task_retry(self.settings.default_retries),
            hooks=self._hooks,
            counts=self.counts,
            weights=self.settings.queue_weights,
            prefetch=self.settings.prefetch,
            unknown_patience=self.settings.unknown_task_seconds,
        )
        parts: list[Owner | Consumer] = [consumer] if owner is None else [owner, consumer]
        if owner is not None and self.broker.home is self.store:
            owner.stirred = consumer.stirred
        if not await self._enlist(id):
            return
        lost = asyncio.Event()
        heart = self.heart = Heartbeat(
            id,
            leases=[(backend, self._hearing(backend, owner, consumer)) for backend in self.backends],
            clock=self.clock,
            lease=self.settings.lease_seconds,
            lost=lost.set,
        )
        unlisten = await self._listen(id, owner, consumer)
        heart.start()
        log.info("worker started", worker=id, queues=self.settings.queues, concurrency=executor.concurrency)
        self.ready.set()
        retire = True
        running = [*[run for part in parts for run in part.parts()], *map(_keep_up, self._services)]
        tasks = [asyncio.ensure_future(each) for each in running]
        work = asyncio.gather(*tasks)
        try:
            await self._until_over(work, lost)
            if not lost.is_set():
                await self._drain(parts, executor)
        except LeaseLost:
            retire = False
            raise
        finally:
            self.ready.clear()
            if lost.is_set():
                retire = False
            await asyncio.shield(
                asyncio.ensure_future(
                    self._hand_over(id, parts, executor, [work, *tasks], heart, unlisten, retire=retire)
                )
            )
        if lost.is_set():
            raise LeaseLost(f"worker {id} lost its lease; others own what it held now")

    @property
    def backends(self) -> Sequence[Backend]:
        """With whom it has a lease: its store, and where its jobs lie, if that is elsewhere."""
        home = self.broker.home
        return [home] if self.store is None or self.store is home else [self.store, home]

    def _make_owner(self, id: WorkerId, executor: Executor) -> Owner | None:
        if self.store is None:
            return None
        return Owner(
            id,
            store=self.store,
            registry=self.registry,
            executor=executor,
            clock=self.clock,
            settings=self.settings,
            ended=self._ended,
            parked=self._parked,
            forgetful=self._forgetful,
            counts=self.counts,
        )

    async def _enlist(self, id: WorkerId) -> bool:
        """Take up its leases; False if it was told to stop before all backends could be reached."""

        def enlist(backend: Backend) -> Awaitable[None]:
            return backend.enlist(
                Enlistment(
                    id=id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    queues=self.settings.queue_names,
                    lease=self.settings.lease_seconds,
                    now=self.clock.now(),
                    version=version("holdfast"),
                )
            )

        try:
            for backend in self.backends:
                await patiently(
                    lambda backend=backend: enlist(backend), first=0.1, longest=5.0, stopping=self._stopping
                )
        except StoreUnavailable:
            return False
        return True

    def _hearing(self, backend: Backend, owner: Owner | None, consumer: Consumer) -> Callable[[Beat], None]:
        """Who hears of a heartbeat that this backend has answered."""

        def heard(beat: Beat) -> None:
            if owner is not None and backend is self.store:
                owner.heard(beat)
            if backend is self.broker.home:
                consumer.heard(beat)

        return heard

    async def _listen(
        self, id: WorkerId, owner: Owner | None, consumer: Consumer
    ) -> list[Callable[[], Awaitable[None]]]:
        """Have its parts told of what is there for them; returns the ways to stop."""
        told: list[tuple[Backend, str, WakeUp]] = []
        if owner is not None and self.store is not None:
            told += [(self.store, WORK_CHANNEL, owner.look), (self.store, inbox_channel(id), owner.mail.look)]
        home = self.broker.home
        told += [(home, JOB_CHANNEL, consumer.look), (home, inbox_channel(id), consumer.ask)]
        return [
            await patiently(lambda backend=backend, channel=channel, wake=wake: backend.listen(channel, wake))
            for backend, channel, wake in told
        ]

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

    async def _drain(self, parts: Sequence[Owner | Consumer], executor: Executor) -> None:
        """Start nothing new, let what runs come to its end, and write it down."""
        for part in reversed(parts):
            part.drain()
        if self._at_once.is_set() or self.settings.drain_seconds == 0:
            return
        log.info("worker drains", running=executor.load)
        again = asyncio.ensure_future(self._at_once.wait())
        settled = asyncio.gather(*[part.settled_down() for part in parts])
        try:
            await asyncio.wait(
                [again, settled], timeout=self.settings.drain_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            again.cancel()
            settled.cancel()

    async def _hand_over(
        self,
        id: WorkerId,
        parts: Sequence[Owner | Consumer],
        executor: Executor,
        work: Sequence[asyncio.Future[Any]],
        heart: Heartbeat,
        unlisten: Sequence[Callable[[], Awaitable[None]]],
        *,
        retire: bool,
    ) -> None:
        """Give everything back. What was committed is safe; what was not is repeated by whoever takes over."""
        for running in work:
            running.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for part in parts:
            part.abandon_all()
        self._finished_before += executor.finished
        await executor.close()
        self.owner = self.consumer = self.executor = self.heart = None
        await heart.stop()
        try:
            for stop in unlisten:
                await stop()
        except StoreUnavailable as error:
            log.warning("could not stop listening", error=str(error))
        # A lease that was lost with one backend may still stand with another.
        for backend in self.backends if retire or len(self.backends) > 1 else ():
            try:
                await backend.retire(id, now=self.clock.now())
            except StoreUnavailable as error:
                log.warning("could not hand over", error=str(error), hint="its work goes on when the lease ends")
        if retire:
            log.info("worker stopped", worker=id)


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
