"""The ends of links: messages in, messages out, requests in, replies out. Frames go through the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.servicebus_emulator.amqp import sections
from holdfast.servicebus_emulator.amqp.encode import encode
from holdfast.servicebus_emulator.amqp.performatives import (
    SETTLED,
    Accepted,
    Attach,
    Disposition,
    Error,
    Flow,
    Modified,
    Rejected,
    Released,
    Transfer,
)
from holdfast.servicebus_emulator.amqp.types import AmqpError, UInt
from holdfast.servicebus_emulator.broker import Node
from holdfast.servicebus_emulator.entities.content import read_content
from holdfast.servicebus_emulator.entities.message_session import Entry, MessageSession
from holdfast.servicebus_emulator.entities.settlements import (
    Abandon,
    Complete,
    DeadLetter,
    Defer,
    Release,
    Settlement,
)
from holdfast.servicebus_emulator.faults import Swallow
from holdfast.servicebus_emulator.management import answer, put_token

if TYPE_CHECKING:
    from holdfast.servicebus_emulator.amqp_session import AmqpSession

BATCH_FORMAT = 0x80013700
CREDIT = 1000
"""How many messages a sender may have under way."""


class Incoming:
    """A link on which the client sends. Puts frames together and keeps the client in credit."""

    def __init__(self, session: AmqpSession, attach: Attach) -> None:
        self.session = session
        self.name = attach.name
        self.handle = attach.handle
        self._count = attach.initial_delivery_count or 0
        self._credit = 0
        self._first: Transfer | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def begin(self) -> None:
        """Let the client send."""
        self._credit = CREDIT
        self.session.send(self.session.flow(self.handle, self._count, CREDIT))

    def flowed(self, flow: Flow) -> None:
        """The client tells how things stand; only an answer is ever needed."""
        if flow.echo:
            self.session.send(self.session.flow(self.handle, self._count, self._credit))

    def transferred(self, transfer: Transfer, payload: bytes) -> None:
        """One frame of a message."""
        if self._first is None:
            if transfer.delivery_id is None:
                raise AmqpError("amqp:not-allowed", "the first transfer of a delivery has no delivery-id")
            self._first = transfer
        self._size += len(payload)
        if payload and self._size <= self.session.connection.limits.message_size:
            self._parts.append(payload)
        if transfer.more and not transfer.aborted:
            return
        first, parts, size = self._first, self._parts, self._size
        self._first, self._parts, self._size = None, [], 0
        self._count = (self._count + 1) % 2**32
        self._credit -= 1
        if self._credit < CREDIT // 2:
            self.begin()
        if not transfer.aborted:
            self._completed(first, bool(first.settled or transfer.settled), b"".join(parts), size)

    def closed(self, *, clean: bool) -> None:
        """The link is gone."""

    def _completed(self, first: Transfer, settled: bool, message: bytes, size: int) -> None:
        """A whole message is there: take it, and say so."""
        try:
            if size > len(message):
                raise AmqpError("amqp:link:message-size-exceeded", f"a message of {size} bytes is too large")
            self._take(first, message)
            state: Any = Accepted()
        except AmqpError as error:
            state = Rejected(Error(error.condition, error.description))
        if not settled:
            self._acknowledge(first.delivery_id or 0, state)

    def _acknowledge(self, delivery_id: int, state: Any) -> None:
        self.session.answer(Disposition(True, delivery_id, delivery_id, True, state))

    def _take(self, first: Transfer, message: bytes) -> None:
        raise NotImplementedError


class Producer(Incoming):
    """A link on which the client sends to a queue."""

    def __init__(self, session: AmqpSession, attach: Attach, node: Node) -> None:
        super().__init__(session, attach)
        self._node = node

    def _take(self, first: Transfer, message: bytes) -> None:
        broker = self.session.broker
        messages = sections.data_sections(message) if first.message_format == BATCH_FORMAT else [message]
        self._node.queue.enqueue(*[read_content(each) for each in messages], now=broker.now())
        broker.touch(self._node)

    def _acknowledge(self, delivery_id: int, state: Any) -> None:
        if not self.session.broker.faults.swallows(Swallow.RECEIPTS):
            super()._acknowledge(delivery_id, state)


class Requests(Incoming):
    """A link on which the client sends requests: to `$cbs`, or to a queue's `$management` if there is a node."""

    def __init__(self, session: AmqpSession, attach: Attach, address: str, node: Node | None) -> None:
        super().__init__(session, attach)
        self._address = address
        self._node = node

    def _take(self, first: Transfer, message: bytes) -> None:
        if self._node is None:
            reply, reply_to = put_token(message)
        else:
            reply, reply_to = answer(message, self._node, self.session.broker, self.session.connection.holder)
        if reply is not None:
            self.session.reply(self._address, reply_to, reply)


class Outgoing:
    """A link on which the client receives. Sends no more than it was given credit for."""

    def __init__(self, session: AmqpSession, attach: Attach) -> None:
        self.session = session
        self.name = attach.name
        self.handle = attach.handle
        self.encoded_handle = encode(UInt(attach.handle))
        self._count = 0
        self._credit = 0
        self._draining = False

    def has_room(self) -> bool:
        return self._credit > 0 and self.session.has_room()

    def begin(self) -> None:
        """The link is attached; the client speaks first."""

    def flowed(self, flow: Flow) -> None:
        """The client gives credit, or takes it back."""
        if flow.link_credit is not None:
            begun = self._count if flow.delivery_count is None else flow.delivery_count
            self._credit = max(0, (begun + flow.link_credit - self._count + 2**31) % 2**32 - 2**31)
        self._draining = flow.drain
        if self._credit == 0:
            self.caught_up()
        self.resume()
        if flow.echo:
            self.session.send(self.session.flow(self.handle, self._count, self._credit))

    def resume(self) -> None:
        """There may be room again."""

    def caught_up(self) -> None:
        """There is nothing to send: a draining client gets its credit back."""
        if self._draining:
            self._draining = False
            self._count = (self._count + self._credit) % 2**32
            self._credit = 0
            self.session.send(self.session.flow(self.handle, self._count, 0, drain=True))

    def transferred(self, transfer: Transfer, payload: bytes) -> None:
        raise AmqpError("amqp:not-allowed", f"the link {self.name} is for receiving")

    def closed(self, *, clean: bool) -> None:
        """The link is gone."""

    def _sent(self) -> None:
        self._count = (self._count + 1) % 2**32
        self._credit -= 1


class Replies(Outgoing):
    """A link on which the client receives replies to its requests. Without credit they wait, for ever if need be."""

    def __init__(self, session: AmqpSession, attach: Attach, address: str, target: str | None) -> None:
        super().__init__(session, attach)
        self.address = address
        self.target = target
        self._waiting: list[bytes] = []
        self._numbers = 0

    def reply(self, message: bytes) -> None:
        self._waiting.append(message)
        self.resume()

    def resume(self) -> None:
        while self._waiting and self.has_room():
            self._numbers += 1
            tag = self._numbers.to_bytes(8, "big")
            self.session.transfer(self, tag, self._waiting.pop(0), settled=True)
            self._sent()
        if not self._waiting:
            self.caught_up()


class Consumer(Outgoing):
    """A link on which the client receives from a queue, or from one session of it."""

    def __init__(self, session: AmqpSession, attach: Attach, node: Node) -> None:
        super().__init__(session, attach)
        self.attach = attach
        self.node = node
        self.locks = attach.snd_settle_mode != SETTLED
        self.message_session: MessageSession | None = None

    def begin(self) -> None:
        self.node.receivers.append(self)
        self.session.broker.touch(self.node)

    def resume(self) -> None:
        self.session.broker.touch(self.node)

    def deliver(self, entry: Entry) -> None:
        token = entry.token
        if token is None:
            # Nobody can settle it, but a delivery needs a tag.
            self.session.transfer(self, self.session.broker.token(), entry.rendered(), settled=True)
        else:
            # The tag is the token as .NET lays out a UUID: the first three parts with the low byte first.
            tag = token[3::-1] + token[5:3:-1] + token[7:5:-1] + token[8:]
            self.session.transfer(self, tag, entry.rendered(), settled=False, consumer=self, token=token)
        self._sent()

    def settled(self, token: bytes, state: Any) -> None:
        """The client has decided about a message. Raises AmqpError if it no longer can."""
        broker = self.session.broker
        self.node.queue.settle(token, settlement_of(state), broker.now())
        if not isinstance(state, Accepted):
            broker.touch(self.node)

    def session_found(self, session: MessageSession) -> None:
        self.message_session = session
        self.session.attach_session(self, session)

    def session_lost(self) -> None:
        lost = self.message_session
        self.message_session = None
        self._leave()
        said = f"The session lock has expired on the session '{'' if lost is None else lost.id}'."
        self.session.detach(self, Error("com.microsoft:session-lock-lost", said))

    def closed(self, *, clean: bool) -> None:
        """Locked messages stay locked until their time is up, and a session as well unless it was given back."""
        self._leave()
        if clean and self.message_session is not None:
            broker = self.session.broker
            self.node.queue.release_session(self.message_session, self, broker.now())
            broker.touch(self.node)

    def _leave(self) -> None:
        for line in (self.node.receivers, self.node.hoping):
            if self in line:
                line.remove(self)


def settlement_of(state: Any) -> Settlement:
    """What a delivery state means to Service Bus. Raises AmqpError for one that decides nothing."""
    match state:
        case Accepted():
            return Complete()
        case Released():
            return Release()
        case Modified(undeliverable_here=True):
            return Defer()
        case Modified(delivery_failed=False):
            return Release()
        case Modified():
            return Abandon()
        case Rejected(error=Error(info=dict() as info)):
            reason, description = info.get("DeadLetterReason"), info.get("DeadLetterErrorDescription")
            return DeadLetter(
                None if reason is None else str(reason), None if description is None else str(description)
            )
        case Rejected():
            return DeadLetter()
        case _:
            raise AmqpError("amqp:not-implemented", f"a {type(state).__name__} settles nothing here")
