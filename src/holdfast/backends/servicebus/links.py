"""Links: the client of one event loop, with a sender and a desk for each entity. Receives and decides nothing itself."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import certifi
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver

from holdfast.backends.servicebus.address import Address
from holdfast.backends.servicebus.desk import Desk
from holdfast.backends.servicebus.letters import Letter, as_message
from holdfast.backends.servicebus.outbox import Outbox
from holdfast.errors import ConfigurationError, StoreUnavailable

STEPS = 20
"""Steps of opening a link that are taken without a rest."""
MISSING = 60.0
"""Seconds after which is looked again for a queue of jobs with a key that was not there, or had no sessions."""
READ_WAIT = 0.05
"""Seconds for which the client reads a socket before others may write to it; so long does what is sent wait, at most."""


class Links:
    """Made when they are first needed, each over a connection of its own: the client reads or writes, never both."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client: ServiceBusClient | None = None
        self._credential: Any = None
        self._outboxes: dict[str, Outbox] = {}
        self._desks: dict[tuple[str, bool], Desk] = {}
        self.absent_until: dict[str, float] = {}
        """Until when entities are taken not to be there, by the monotonic clock; 0 for those that are."""
        self._closed = False

    def outbox(self, entity: str) -> Outbox:
        """The way in for messages."""
        if entity not in self._outboxes:
            client = self._open()
            self._outboxes[entity] = Outbox(self.address, entity, lambda: client.get_queue_sender(entity))
        return self._outboxes[entity]

    def desk(self, entity: str, *, dead: bool = False, sessions: bool = False) -> Desk:
        """Where requests about its messages are made. With `sessions` it can peek alone: messages are settled with theirs."""
        if (entity, dead) not in self._desks:
            browses = sessions and not dead
            connect = (lambda: self._browser(entity)) if browses else (lambda: self.receiver(entity, dead=dead))
            self._desks[entity, dead] = Desk(self.address, entity, connect)
        return self._desks[entity, dead]

    def receiver(self, entity: str, *, dead: bool = False) -> ServiceBusReceiver:
        """A new receiver, not yet open, which holds no more than was asked for."""
        part = ServiceBusSubQueue.DEAD_LETTER if dead else None
        return self._open().get_queue_receiver(entity, sub_queue=part, prefetch_count=0)

    def session_receiver(self, entity: str, *, id: str | None = None, wait: float) -> ServiceBusReceiver:
        """A new receiver, not yet open, of one session: this one, or the next that has messages, within `wait` seconds."""
        wanted = NEXT_AVAILABLE_SESSION if id is None else id
        receiver = self._open().get_queue_receiver(entity, session_id=wanted, max_wait_time=wait, prefetch_count=0)
        _open_at_once(receiver)
        return receiver

    def _browser(self, entity: str) -> Any:
        # No receiver can be had for all sessions, but requests can be made without one.
        client: Any = self._open()
        return client._create_session_browser(entity)

    async def send(self, letters: Sequence[Letter]) -> None:
        """Have these accepted, each where the jobs of its queue go."""
        letters_by_entity: defaultdict[str, list[Letter]] = defaultdict(list)
        for letter in letters:
            keyed = letter.session is not None
            letters_by_entity[(self.address.keyed if keyed else self.address.entity)(letter.queue)].append(letter)
        ways = [(self.outbox(entity), some) for entity, some in letters_by_entity.items()]
        await asyncio.gather(*[outbox.send([as_message(letter) for letter in some]) for outbox, some in ways])

    async def close(self) -> None:
        """Close all of it."""
        self._closed = True
        links = [*self._outboxes.values(), *self._desks.values()]
        await asyncio.gather(*[link.close() for link in links])
        self._outboxes, self._desks = {}, {}
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._credential is not None:
            await self._credential.close()
            self._credential = None

    def _open(self) -> ServiceBusClient:
        if self._closed:
            raise StoreUnavailable(f"{self.address.shown} is closed here: open it again first")
        if self._client is None:
            self._client = self._connected()
        return self._client

    def _connected(self) -> ServiceBusClient:
        # The client tries once more by itself: a link that was idle for ten minutes is closed by the service.
        # What lasts longer than that is waited for by those who ask.
        options: dict[str, Any] = {
            "retry_total": 1,
            "retry_backoff_factor": 0.1,
            "try_timeout": self.address.timeout,
            "socket_timeout": READ_WAIT,
            "ssl_context": _context(tls=not self.address.emulator),
        }
        string = self.address.connection_string
        if string is not None:
            return ServiceBusClient.from_connection_string(string, **options)
        try:
            from azure.identity.aio import DefaultAzureCredential
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"{self.address.shown} gives no key, and azure-identity is not installed here: "
                "pip install 'holdfast[servicebus]', or write servicebus://policy:key@namespace"
            ) from error
        self._credential = DefaultAzureCredential()
        return ServiceBusClient(self.address.host, self._credential, **options)


def _context(*, tls: bool) -> ssl.SSLContext:
    """What the client would make anew for each connection, and that takes it longer than all the rest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls:
        context.load_verify_locations(certifi.where())
    return context


def _open_at_once(receiver: Any) -> None:
    """Have the client open this link as fast as the service answers: between two steps it sleeps for 50 ms, nine times."""
    create = receiver._create_handler

    def created(auth: Any) -> None:
        create(auth)
        ready, steps = receiver._handler.client_ready_async, iter(range(STEPS))

        async def ready_soon() -> bool:
            # Each waits for a frame. After so many it is a session that is waited for, and that may sleep.
            for _ in steps:
                if await ready():
                    return True
            return await ready()

        receiver._handler.client_ready_async = ready_soon

    receiver._create_handler = created
