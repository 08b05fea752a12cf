"""One client's connection: bytes, frames, greetings, sessions by channel, and the end of it all.

Whatever a client sends, the worst that comes of it is that its own connection is closed, with an error that says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

from holdfast.logs import get_logger
from holdfast.servicebus_emulator.amqp import frames
from holdfast.servicebus_emulator.amqp.encode import SYMBOLS
from holdfast.servicebus_emulator.amqp.performatives import (
    Begin,
    Close,
    End,
    Error,
    Open,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    decode_performative,
    encode_performative,
)
from holdfast.servicebus_emulator.amqp.types import AmqpError, Array
from holdfast.servicebus_emulator.amqp_session import AmqpSession
from holdfast.servicebus_emulator.broker import Broker
from holdfast.servicebus_emulator.entities.queue import Queue
from holdfast.servicebus_emulator.links import Consumer

log = get_logger("holdfast.servicebus_emulator")

MECHANISMS = ("MSSBCBS", "ANONYMOUS", "EXTERNAL")
HIGHEST_CHANNEL = 255
LAST_WORDS = 1.0
"""Seconds that a client has to read why it is closed."""
HIGH_WATER = 1_000_000
"""Bytes that may wait for a slow client before nothing more is handed to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, and seconds of silence after which a client counts as gone."""

    frame_size: int = 65536
    message_size: int = 1_048_576
    idle_timeout: float = 240.0


class Stage(Enum):
    """How far a connection has come."""

    GREETING = 1
    SASL = 2
    OPENING = 3
    OPEN = 4
    CLOSED = 5


class Connection(asyncio.Protocol):
    """The broker's end of a connection."""

    def __init__(self, broker: Broker, limits: Limits, connections: set[Connection]) -> None:
        self.broker = broker
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.paused = False
        self.peer_frame_size = frames.SMALLEST_MAXIMUM
        self._connections = connections
        self._reader = frames.FrameReader(limits.frame_size)
        self._sessions: dict[int, AmqpSession] = {}
        self._ended: set[int] = set()
        self._stage = Stage.GREETING
        self._out: list[bytes] = []
        self._unsent = 0
        self._is_silent = False
        self._choked = False
        self._heard = self._spoke = self.loop.time()
        self._peer_timeout: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.broker.now() < self.broker.faults.refusing_until:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._connections.add(self)
        self._watch = self.loop.call_later(self.limits.idle_timeout / 2, self._look)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._heard = self.loop.time()
        try:
            for frame in self._reader.feed(data):
                if self._is_over:
                    return
                if isinstance(frame, frames.ProtocolHeader):
                    self._greeted(frame.data)
                else:
                    self._framed(frame)
        except AmqpError as error:
            log.info("connection refused", condition=error.condition, reason=error.description)
            self.close(Error(error.condition, error.description))

    @property
    def _is_over(self) -> bool:
        return self._stage is Stage.CLOSED

    def pause_writing(self) -> None:
        self._choked = self.paused = True

    def resume_writing(self) -> None:
        self._choked = False
        self._go_on()

    def _go_on(self) -> None:
        self.paused = False
        for session in list(self._sessions.values()):
            session.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(clean=False)

    # --- sending

    def send(self, frame: bytes) -> None:
        """Send a frame, together with all others of this turn of the loop. After the last words, nothing."""
        if self._is_silent:
            return
        if not self._out:
            self.loop.call_soon(self._flush)
        self._out.append(frame)
        self._unsent += len(frame)
        if self._unsent > HIGH_WATER:
            self.paused = True

    def answer(self, frame: bytes) -> None:
        """Send a frame that a test may want to come late."""
        self.later(lambda: self.send(frame))

    def later(self, act: Callable[[], None]) -> None:
        """Act now, or after the delay that a test wants."""
        delay = self.broker.faults.delay
        if delay:
            self.loop.call_later(delay, act)
        else:
            act()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self._transport.is_closing():
            self._spoke = self.loop.time()
            self._transport.write(b"".join(out))
        unsent, self._unsent = self._unsent, 0
        if unsent > HIGH_WATER and not self._choked:
            self._go_on()

    # --- the beginning

    def _greeted(self, header: bytes) -> None:
        if self._stage is Stage.GREETING and header == frames.SASL_HEADER:
            self._stage = Stage.SASL
            known = SaslMechanisms(Array(SYMBOLS, MECHANISMS))
            self.send(header)
            self.send(frames.frame(encode_performative(known), kind=frames.SASL))
        elif self._stage is Stage.GREETING and header == frames.AMQP_HEADER:
            self._stage = Stage.OPENING
            self.send(header)
        else:
            # The specification's answer: what would be understood here, and nothing more.
            self.send(frames.AMQP_HEADER)
            self._hang_up()

    def _framed(self, frame: frames.Frame) -> None:
        if frame.kind == frames.SASL and self._stage is Stage.SASL:
            self._authenticated(frame)
            return
        if frame.kind != frames.AMQP or self._stage in (Stage.GREETING, Stage.SASL):
            raise AmqpError("amqp:connection:framing-error", f"a frame of type {frame.kind} has no place here")
        if not frame.body:
            return
        performative, end = decode_performative(frame.body)
        if self._stage is Stage.OPENING:
            self._opened(performative)
            return
        self._received(frame.channel, performative, frame.body[end:])

    def _authenticated(self, frame: frames.Frame) -> None:
        init, _ = decode_performative(frame.body)
        accepted = isinstance(init, SaslInit) and init.mechanism in MECHANISMS
        self.send(frames.frame(encode_performative(SaslOutcome(0 if accepted else 1)), kind=frames.SASL))
        if accepted:
            self._stage = Stage.GREETING
        else:
            self._hang_up()

    def _opened(self, opened: Any) -> None:
        if not isinstance(opened, Open):
            raise AmqpError("amqp:not-allowed", "a connection begins with open")
        self._stage = Stage.OPEN
        self.send(self._open())
        if opened.max_frame_size < frames.SMALLEST_MAXIMUM:
            raise AmqpError("amqp:invalid-field", f"max-frame-size is below {frames.SMALLEST_MAXIMUM}")
        self.peer_frame_size = min(opened.max_frame_size, self.limits.frame_size)
        if opened.idle_time_out:
            self._peer_timeout = opened.idle_time_out / 1000
            self._look()

    def _open(self) -> bytes:
        limits = self.limits
        said = Open(f"holdfast-{uuid4()}", None, limits.frame_size, HIGHEST_CHANNEL, int(limits.idle_timeout * 1000))
        return frames.frame(encode_performative(said))

    # --- sessions

    def _received(self, channel: int, performative: Any, payload: bytes) -> None:
        match performative:
            case Begin():
                self._begun(channel, performative)
            case End():
                session = self._sessions.pop(channel, None)
                if session is not None:
                    session.closed(clean=True)
                    session.end()
                    self._ended.add(channel)
            case Close():
                self._closed()
            case _:
                session = self._sessions.get(channel)
                if session is None and channel in self._ended:
                    # There are clients that end a session first, and detach its links then.
                    return
                if session is None:
                    raise AmqpError("amqp:not-allowed", f"there is no session on channel {channel}")
                try:
                    session.received(performative, payload)
                except AmqpError as error:
                    if not error.condition.startswith("amqp:session:"):
                        raise
                    del self._sessions[channel]
                    self._ended.add(channel)
                    session.closed(clean=True)
                    session.end(Error(error.condition, error.description))

    def _begun(self, channel: int, begin: Begin) -> None:
        if channel in self._sessions or channel > HIGHEST_CHANNEL or begin.remote_channel is not None:
            raise AmqpError("amqp:connection:framing-error", f"no session can begin on channel {channel}")
        self._ended.discard(channel)
        self._sessions[channel] = AmqpSession(self, channel, begin)

    def holder(self, queue: Queue, id: str, link_name: str | None) -> Consumer | None:
        """Who on this connection holds a session of messages. A link of another name is asked only if none is named."""
        for session in self._sessions.values():
            for link in session.links.values():
                if not isinstance(link, Consumer) or link.message_session is None:
                    continue
                if link_name in (None, link.name) and queue.sessions.get(id) is link.message_session:
                    return link
        return None

    # --- silence

    def _look(self) -> None:
        """Say that one is alive, and see whether the client is."""
        if self._watch is not None:
            self._watch.cancel()
        if self._stage is Stage.CLOSED:
            return
        now = self.loop.time()
        if now - self._heard > self.limits.idle_timeout:
            self.close(Error("amqp:resource-limit-exceeded", f"nothing was heard for {self.limits.idle_timeout} s"))
            return
        wait = self.limits.idle_timeout / 2
        if self._peer_timeout is not None:
            # Twice as often as needed: the loop may be late.
            wait = min(wait, self._peer_timeout / 4)
            if now - self._spoke >= wait * 0.9 and self._stage is Stage.OPEN:
                self.send(frames.EMPTY)
        self._watch = self.loop.call_later(max(wait, 0.01), self._look)

    # --- the end

    def close(self, error: Error) -> None:
        """End the connection from here, and say why."""
        if self._stage is Stage.CLOSED:
            return
        if self._stage in (Stage.GREETING, Stage.SASL, Stage.OPENING):
            # Nothing was opened yet that could be closed; a client that reads on learns the reason all the same.
            if self._stage is not Stage.OPENING:
                self.send(frames.AMQP_HEADER)
            self.send(self._open())
        self.send(frames.frame(encode_performative(Close(error))))
        self._end(clean=False)
        self._hang_up()

    def abort(self) -> None:
        """End the connection without a word."""
        self._end(clean=False)
        if self._transport is not None:
            self._transport.abort()

    def _closed(self) -> None:
        self.send(frames.frame(encode_performative(Close())))
        self._end(clean=True)
        self._hang_up()

    def _hang_up(self) -> None:
        self._stage = Stage.CLOSED
        self._flush()
        self._is_silent = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            # Closed at once, with bytes of the client unread, the system would take back what was just said.
            transport.write_eof()
            self.loop.call_later(LAST_WORDS, transport.abort)

    def _end(self, *, clean: bool) -> None:
        self._stage = Stage.CLOSED
        self._connections.discard(self)
        if self._watch is not None:
            self._watch.cancel()
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            session.closed(clean=clean)
