"""All queues, and the hand-over from queues to receivers. Knows no frame; the time comes from a clock that can be moved."""

from __future__ import annotations

import asyncio
import os
import re
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from holdfast.servicebus_emulator.entities.message_session import Entry, Holder, MessageSession
from holdfast.servicebus_emulator.entities.options import QueueOptions
from holdfast.servicebus_emulator.entities.queue import Queue
from holdfast.servicebus_emulator.entities.settlements import NotFound
from holdfast.servicebus_emulator.faults import Faults

DEAD_LETTERS = "/$deadletterqueue"
MANAGEMENT = "/$management"
TOKENS = "$cbs"


class Receiver(Holder, Protocol):
    """Somebody who receives from a queue, or from a session of it."""

    message_session: MessageSession | None

    @property
    def locks(self) -> bool:
        """Whether messages are locked for it, or removed as they are sent."""
        ...

    def has_room(self) -> bool:
        """Whether it wants a message now."""
        ...

    def deliver(self, entry: Entry) -> None:
        """Take a message."""
        ...

    def caught_up(self) -> None:
        """There is nothing more for now."""
        ...

    def session_found(self, session: MessageSession) -> None:
        """A session it asked for is its own now."""
        ...


class Address(NamedTuple):
    """What a link is attached to."""

    queue: str
    dead: bool = False
    management: bool = False


def parse_address(text: str) -> Address:
    """The address of a terminus: a path, with or without a host. Names are alike in any case."""
    path = re.sub(r"^[a-z]+://[^/]*/", "", text, flags=re.IGNORECASE).strip("/")
    lower = path.lower()
    management = lower.endswith(MANAGEMENT)
    if management:
        path, lower = path[: -len(MANAGEMENT)], lower[: -len(MANAGEMENT)]
    dead = lower.endswith(DEAD_LETTERS)
    return Address(path[: -len(DEAD_LETTERS)] if dead else path, dead, management)


@dataclass(eq=False)
class Node:
    """A queue and who receives from it. `hoping` wait for a session, any that has messages."""

    queue: Queue
    receivers: deque[Receiver]
    hoping: deque[Receiver]
    touched: bool = False


class Broker:
    """All that is kept, for as long as the process lives."""

    def __init__(self, queues: dict[str, QueueOptions], *, auto_create: bool = True) -> None:
        self.faults = Faults()
        self.offset = 0.0
        self._auto_create = auto_create
        self._nodes: dict[str, tuple[Node, Node]] = {}
        self._touched: list[Node] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._secret = os.urandom(8)
        self._tokens = 0
        for name, options in queues.items():
            self.declare(name, options)

    # --- time and chance

    def now(self) -> float:
        """The moment in Unix seconds."""
        return time.time() + self.offset

    def move(self, seconds: float) -> None:
        """Let time pass at once."""
        self.offset += seconds
        self._pass_time()

    def token(self) -> bytes:
        """A new lock token: the bytes of a UUID nobody had before."""
        self._tokens += 1
        return struct.pack(">8sQ", self._secret, self._tokens)

    # --- queues

    def declare(self, name: str, options: QueueOptions, *, undecided: bool = False) -> None:
        """Make a queue, anew and empty if there was one; `undecided`: it has sessions if its first use has one."""
        queue = Queue(name, options, undecided=undecided)
        self._nodes[name.lower()] = (Node(queue, deque(), deque()), Node(queue.dead, deque(), deque()))

    def node(self, address: Address) -> Node:
        """The queue at this address; a new one if that is allowed. Raises NotFound."""
        name = address.queue
        if name.lower() not in self._nodes:
            # Topics are not known here: what names a subscription would be a queue by mistake.
            if (
                not self._auto_create
                or not name
                or "/$" in name
                or name.startswith("$")
                or "/subscriptions/" in name.lower()
            ):
                raise NotFound(name)
            self.declare(name, QueueOptions(), undecided=True)
        return self._nodes[name.lower()][address.dead]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many messages each queue has, by where they are."""
        return {main.queue.name: main.queue.counts() for main, _ in self._nodes.values()}

    def session_counts(self) -> dict[str, dict[str, int]]:
        """How many sessions of each queue that has any are held and free."""
        queues = [main.queue for main, _ in self._nodes.values()]
        return {queue.name: queue.session_counts() for queue in queues if queue.options.sessions}

    # --- handing over

    def touch(self, node: Node) -> None:
        """Something changed there: hand over what can be, once all that came in together is taken in."""
        if not node.touched:
            if not self._touched:
                asyncio.get_running_loop().call_soon(self._hand_over)
            node.touched = True
            self._touched.append(node)

    def _hand_over(self) -> None:
        now = self.now()
        touched, self._touched = self._touched, []
        for node in touched:
            node.touched = False
            self._find_sessions(node, now)
            self._deliver(node, now)
            self._watch(node.queue)
            dead = self._nodes[node.queue.name.lower()][1]
            if dead is not node and dead.receivers:
                self._deliver(dead, now)
                self._watch(dead.queue)

    def _find_sessions(self, node: Node, now: float) -> None:
        while node.hoping:
            session = node.queue.accept_session(None, node.hoping[0], now)
            if session is None:
                return
            node.hoping.popleft().session_found(session)

    def _deliver(self, node: Node, now: float) -> None:
        """One message to each in turn, until there is no message or no room."""
        queue, receivers = node.queue, node.receivers
        # How many in a row got nothing: with all of them, it is over.
        idle = 0
        while idle < len(receivers):
            receiver = receivers[0]
            receivers.rotate(-1)
            if not receiver.has_room():
                idle += 1
                continue
            entry = queue.take(now, self.token() if receiver.locks else None, receiver.message_session)
            if entry is None:
                idle += 1
                receiver.caught_up()
            else:
                idle = 0
                receiver.deliver(entry)

    # --- what is due

    def _watch(self, queue: Queue) -> None:
        due = queue.next_due()
        if due is not None and due < self._alarm_at:
            self._set_alarm(due)

    def _set_alarm(self, due: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = due
        # Never at once again: whatever is due stays due for some milliseconds more.
        wait = max(due - self.now(), 0.002)
        self._alarm = asyncio.get_running_loop().call_later(wait, self._pass_time)

    def _pass_time(self) -> None:
        now = self.now()
        self._alarm_at = float("inf")
        for main, dead in self._nodes.values():
            self.pass_time(main, now)
            self.pass_time(dead, now)

    def pass_time(self, node: Node, now: float) -> None:
        """Do all that is due in one queue."""
        due = node.queue.next_due()
        if due is not None and due <= now:
            for receiver in node.queue.pass_time(now):
                receiver.session_lost()
            self.touch(node)
        self._watch(node.queue)
