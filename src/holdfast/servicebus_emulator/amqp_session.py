"""One AMQP session: handles, delivery ids, windows, dispositions. Not to be confused with a session of messages."""

from __future__ import annotations

import struct
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.servicebus_emulator.amqp import frames
from holdfast.servicebus_emulator.amqp.performatives import (
    RECEIVER,
    SENDER,
    Accepted,
    Attach,
    Begin,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Rejected,
    Source,
    Target,
    Transfer,
    encode_performative,
)
from holdfast.servicebus_emulator.amqp.types import AmqpError, Described, Symbol, ULong
from holdfast.servicebus_emulator.broker import MANAGEMENT, TOKENS, Address, parse_address
from holdfast.servicebus_emulator.entities.message_session import MessageSession
from holdfast.servicebus_emulator.entities.settlements import NotAllowed
from holdfast.servicebus_emulator.faults import Swallow
from holdfast.servicebus_emulator.links import Consumer, Incoming, Outgoing, Producer, Replies, Requests

if TYPE_CHECKING:
    from holdfast.servicebus_emulator.connection import Connection

WINDOW = 0x7FFFFFFF
"""What the client may send without waiting: all, as all of it is taken in at once."""
HIGHEST_HANDLE = 255
SESSION_FILTER = "com.microsoft:session-filter"
ACCEPT_TIMEOUT = 65.0
"""Seconds that a receiver waits for any session with messages, if it does not say how long itself."""
TICKS_BEFORE_1970 = 621355968000000000
_ID = struct.Struct(">BI")


class AmqpSession:
    """The broker's end of a session. `channel` is the client's number for it, and the broker's as well."""

    def __init__(self, connection: Connection, channel: int, begin: Begin) -> None:
        self.connection = connection
        self.broker = connection.broker
        self.channel = channel
        self.links: dict[int, Incoming | Outgoing] = {}
        self._deliveries: dict[int, tuple[Consumer, bytes]] = {}
        self._next_incoming = begin.next_outgoing_id
        self._next_outgoing = 0
        self._next_delivery = 0
        self._room = begin.incoming_window
        self._starved = False
        # Frames of a message that was begun, and for which the client's window has no room yet.
        self._begun: deque[tuple[Outgoing, bytes]] = deque()
        # Handles that were detached from here: what the client still sends on them is dropped.
        self._detached: set[int] = set()
        self.send(Begin(channel, 0, WINDOW, WINDOW, HIGHEST_HANDLE))

    # --- sending

    def send(self, performative: Any) -> None:
        """Say something on this session's channel."""
        self.connection.send(frames.frame(encode_performative(performative), channel=self.channel))

    def answer(self, performative: Any) -> None:
        """Say something that a test may want to come late."""
        self.connection.answer(frames.frame(encode_performative(performative), channel=self.channel))

    def flow(self, handle: int, count: int, credit: int, *, drain: bool = False) -> Flow:
        """How things stand on a link."""
        return Flow(self._next_incoming, WINDOW, self._next_outgoing, WINDOW, handle, count, credit, None, drain)

    def has_room(self) -> bool:
        """Whether another message may be sent."""
        if self._room <= 0 or self._begun or self.connection.paused:
            self._starved = True
            return False
        return True

    def transfer(
        self,
        link: Outgoing,
        tag: bytes,
        message: bytes,
        *,
        settled: bool,
        consumer: Consumer | None = None,
        token: bytes = b"",
    ) -> None:
        """Send a message, in as many frames as it needs."""
        number = self._next_delivery
        self._next_delivery = (number + 1) % 2**32
        if consumer is not None:
            self._deliveries[number] = (consumer, token)
        # By hand, as this is what a broker does all day: handle, delivery-id, delivery-tag, message-format 0, settled.
        fields = b"%b%b\xa0%c%b\x43%b" % (
            link.encoded_handle,
            _ID.pack(0x70, number),
            len(tag),
            tag,
            b"\x41" if settled else b"\x42",
        )
        most = self.connection.peer_frame_size - frames.HEADER_SIZE - 64
        if len(message) <= most:
            self._transfer_frame(link, fields, 5, message)
            return
        self._transfer_frame(link, fields + b"\x41", 6, message[:most])
        # Only the first frame of a delivery names it: there are clients that take a second naming for a new one.
        fields = link.encoded_handle + b"\x40\x40\x40\x40"
        for at in range(most, len(message), most):
            more = b"\x41" if at + most < len(message) else b"\x42"
            self._transfer_frame(link, fields + more, 6, message[at : at + most])

    def _transfer_frame(self, link: Outgoing, fields: bytes, count: int, payload: bytes) -> None:
        head = b"\x00\x53\x14\xc0%c%c" % (len(fields) + 1, count)
        frame = frames.frame(head + fields + payload, channel=self.channel)
        if self._room > 0:
            self._send_transfer(frame)
        else:
            self._begun.append((link, frame))

    def _send_transfer(self, frame: bytes) -> None:
        self._next_outgoing = (self._next_outgoing + 1) % 2**32
        self._room -= 1
        self.connection.send(frame)

    def reply(self, address: str, reply_to: str | None, message: bytes) -> None:
        """Send a reply on the link for replies from `address`; the one whose target is `reply_to` if there are more."""
        fitting = [link for link in self.links.values() if isinstance(link, Replies) and link.address == address]
        named = [link for link in fitting if link.target == reply_to]
        for link in (named or fitting)[-1:]:
            self.connection.later(partial(link.reply, message))

    def detach(self, link: Incoming | Outgoing, error: Error) -> None:
        """End a link from here."""
        if self.links.get(link.handle) is link:
            self._drop(link)
        self._detached.add(link.handle)
        self.send(Detach(link.handle, True, error))

    def resume(self) -> None:
        """There may be room again."""
        while self._begun and self._room > 0:
            self._send_transfer(self._begun.popleft()[1])
        if self._starved and self._room > 0 and not self.connection.paused:
            self._starved = False
            for link in list(self.links.values()):
                if isinstance(link, Outgoing):
                    link.resume()

    def closed(self, *, clean: bool) -> None:
        """The session is gone, and its links with it."""
        links, self.links = list(self.links.values()), {}
        self._deliveries.clear()
        for link in links:
            link.closed(clean=clean)

    # --- receiving

    def received(self, performative: Any, payload: bytes) -> None:
        """Something the client said in this session."""
        match performative:
            case Transfer():
                self._transferred(performative, payload)
            case Disposition():
                self._disposed(performative)
            case Flow():
                self._flowed(performative)
            case Attach():
                self._attached(performative)
            case Detach():
                self._client_detached(performative)
            case _:
                raise AmqpError("amqp:not-allowed", f"{type(performative).__name__} does not belong into a session")

    def _transferred(self, transfer: Transfer, payload: bytes) -> None:
        self._next_incoming = (self._next_incoming + 1) % 2**32
        link = self.links.get(transfer.handle)
        if link is None:
            self._unknown(transfer.handle)
            return
        try:
            link.transferred(transfer, payload)
        except AmqpError as error:
            self.detach(link, Error(error.condition, error.description))

    def _flowed(self, flow: Flow) -> None:
        begun = 0 if flow.next_incoming_id is None else flow.next_incoming_id
        self._room = (begun + flow.incoming_window - self._next_outgoing + 2**31) % 2**32 - 2**31
        self.resume()
        if flow.handle is None:
            if flow.echo:
                self.send(Flow(self._next_incoming, WINDOW, self._next_outgoing, WINDOW))
            return
        link = self.links.get(flow.handle)
        if link is None:
            self._unknown(flow.handle)
        else:
            link.flowed(flow)

    def _unknown(self, handle: int) -> None:
        if handle not in self._detached:
            raise AmqpError("amqp:session:unattached-handle", f"there is no link with handle {handle}")

    def _disposed(self, disposition: Disposition) -> None:
        if disposition.role == SENDER or disposition.state is None:
            return
        first, last = disposition.first, disposition.first if disposition.last is None else disposition.last
        if last - first > len(self._deliveries):
            # The range is the client's word; only what was delivered counts.
            numbers = [number for number in self._deliveries if first <= number <= last]
        else:
            numbers = list(range(first, last + 1))
        for number in numbers:
            self._settle(number, disposition)

    def _settle(self, number: int, disposition: Disposition) -> None:
        held = self._deliveries.get(number)
        faults = self.broker.faults
        if held is None or (faults.swallowing and faults.swallows(Swallow.SETTLEMENTS)):
            return
        consumer, token = held
        # What was decided is echoed; a rejection without the error, which would say that it failed.
        state = Rejected() if isinstance(disposition.state, Rejected) else disposition.state
        try:
            consumer.settled(token, disposition.state)
        except AmqpError as error:
            state = Rejected(Error(error.condition, error.description))
        del self._deliveries[number]
        if disposition.settled or (faults.swallowing and faults.swallows(Swallow.OUTCOMES)):
            return
        if isinstance(state, Accepted):
            body = b"\x00\x53\x15\xc0\x11\x05\x42%b%b\x41\x00\x53\x24\x45" % (
                _ID.pack(0x70, number),
                _ID.pack(0x70, number),
            )
            self.connection.answer(frames.frame(body, channel=self.channel))
        else:
            self.answer(Disposition(SENDER, number, number, True, state))

    def _client_detached(self, detach: Detach) -> None:
        link = self.links.get(detach.handle)
        if link is None:
            self._unknown(detach.handle)
            self._detached.discard(detach.handle)
            return
        self._drop(link)
        link.closed(clean=True)
        self.send(Detach(detach.handle, True))

    def _drop(self, link: Incoming | Outgoing) -> None:
        self.links.pop(link.handle, None)
        if self._begun and self._begun[0][0] is link:
            self._begun.clear()
        if isinstance(link, Consumer):
            gone = [number for number, (consumer, _) in self._deliveries.items() if consumer is link]
            for number in gone:
                del self._deliveries[number]

    # --- attaching

    def _attached(self, attach: Attach) -> None:
        if attach.handle in self.links:
            raise AmqpError("amqp:session:handle-in-use", f"the handle {attach.handle} is in use")
        if attach.handle > HIGHEST_HANDLE:
            raise AmqpError("amqp:connection:framing-error", f"the handle {attach.handle} is beyond {HIGHEST_HANDLE}")
        self._detached.discard(attach.handle)
        try:
            self._make_link(attach)
        except AmqpError as error:
            self._refuse(attach, Error(error.condition, error.description))

    def _make_link(self, attach: Attach) -> None:
        terminus = attach.source if attach.role == RECEIVER else attach.target
        kind = Source if attach.role == RECEIVER else Target
        if not isinstance(terminus, kind) or terminus.dynamic or not isinstance(terminus.address, str):
            raise AmqpError("amqp:not-implemented", "only links to and from queues are known here")
        path = terminus.address
        address = parse_address(path)
        if address.management or path == TOKENS:
            # All ways to write an address of this kind are one: a reply goes by it.
            plain = (address.queue + str(address.dead)).lower() + (MANAGEMENT if address.management else "")
            node = self.broker.node(address) if address.management else None
            if attach.role == RECEIVER:
                target = attach.target.address if isinstance(attach.target, Target) else None
                self._confirm(attach, Replies(self, attach, plain, target))
            else:
                self._confirm(attach, Requests(self, attach, plain, node))
        elif attach.role == SENDER:
            node = self.broker.node(address)
            if address.dead:
                raise NotAllowed("Nobody can send to a dead-letter queue.")
            self._confirm(attach, Producer(self, attach, node))
        else:
            self._make_consumer(attach, address)

    def _make_consumer(self, attach: Attach, address: Address) -> None:
        filters: dict[Any, Any] = attach.source.filter or {}
        wants_session = SESSION_FILTER in filters
        node = self.broker.node(address)
        node.queue.decide(sessions=wants_session)
        if wants_session and not node.queue.options.sessions:
            raise NotAllowed(
                "A sessionful message receiver cannot be created on an entity that does not require sessions."
            )
        if node.queue.options.sessions and not wants_session:
            raise NotAllowed(
                "It is not possible for an entity that requires sessions to create a non-sessionful message receiver."
            )
        consumer = Consumer(self, attach, node)
        if not wants_session:
            self._confirm(attach, consumer)
            return
        wanted: Any = filters[SESSION_FILTER]
        id = wanted.value if isinstance(wanted, Described) else wanted
        now = self.broker.now()
        self.broker.pass_time(node, now)
        session = node.queue.accept_session(None if id is None else str(id), consumer, now)
        if session is not None:
            consumer.session_found(session)
            return
        # The client waits for the attach to be answered; that is how Service Bus lets it wait for a session.
        self.links[attach.handle] = consumer
        node.hoping.append(consumer)
        timeout: Any = (attach.properties or {}).get("com.microsoft:timeout")
        wait = timeout / 1000 if isinstance(timeout, int) else ACCEPT_TIMEOUT
        self.connection.loop.call_later(wait, self._give_up, consumer)

    def _give_up(self, consumer: Consumer) -> None:
        if consumer in consumer.node.hoping:
            consumer.node.hoping.remove(consumer)
            self.links.pop(consumer.handle, None)
            said = "The operation did not complete within the allotted time: no session has messages."
            self._refuse(consumer.attach, Error("com.microsoft:timeout", said))

    def attach_session(self, consumer: Consumer, session: MessageSession) -> None:
        """Tell a receiver which session is its own."""
        attach = consumer.attach
        source: Source = attach.source._replace(filter={Symbol(SESSION_FILTER): session.id})
        ticks = int(session.locked_until * 10_000_000) + TICKS_BEFORE_1970
        known = {Symbol("com.microsoft:locked-until-utc"): ticks}
        self._confirm(attach._replace(source=source), consumer, known)

    def _confirm(self, attach: Attach, link: Incoming | Outgoing, properties: dict[Symbol, Any] | None = None) -> None:
        size = self.connection.limits.message_size
        if isinstance(link, Producer):
            properties = {Symbol("com.microsoft:max-message-batch-size"): ULong(size)}
        self.links[attach.handle] = link
        self.send(
            Attach(
                attach.name,
                attach.handle,
                not attach.role,
                attach.snd_settle_mode,
                attach.rcv_settle_mode,
                attach.source,
                attach.target,
                initial_delivery_count=0 if attach.role == RECEIVER else None,
                max_message_size=size,
                properties=properties,
            )
        )
        link.begin()

    def _refuse(self, attach: Attach, error: Error) -> None:
        """Attach without the end that cannot be had, and detach at once: AMQP has no other way to say no."""
        refused = Attach(
            attach.name,
            attach.handle,
            not attach.role,
            attach.snd_settle_mode,
            attach.rcv_settle_mode,
            None if attach.role == RECEIVER else attach.source,
            None if attach.role == SENDER else attach.target,
            initial_delivery_count=0 if attach.role == RECEIVER else None,
        )
        self.send(refused)
        self._detached.add(attach.handle)
        self.send(Detach(attach.handle, True, error))

    def end(self, error: Error | None = None) -> None:
        """End the session from here."""
        self.send(End(error))
