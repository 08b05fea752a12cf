"""Requests to `$cbs` and to a queue's `$management`: a message in, a message out. Sends nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from uuid import UUID

from holdfast.servicebus_emulator.amqp import encode as forms
from holdfast.servicebus_emulator.amqp import sections
from holdfast.servicebus_emulator.amqp.decode import decode, decode_whole
from holdfast.servicebus_emulator.amqp.encode import encode, encode_list
from holdfast.servicebus_emulator.amqp.types import AmqpError, Array, Described, Int, Symbol, Timestamp
from holdfast.servicebus_emulator.broker import Broker, Node
from holdfast.servicebus_emulator.entities.content import read_content
from holdfast.servicebus_emulator.entities.message_session import Entry, MessageSession
from holdfast.servicebus_emulator.entities.message_session import Holder as SessionHolder
from holdfast.servicebus_emulator.entities.queue import Queue
from holdfast.servicebus_emulator.entities.settlements import (
    Abandon,
    Complete,
    DeadLetter,
    Defer,
    SessionLockLost,
    Settlement,
)
from holdfast.servicebus_emulator.faults import Swallow

Body: TypeAlias = dict[Any, Any]
Holder: TypeAlias = Callable[[Queue, str, str | None], SessionHolder | None]
"""Who, on the connection of a request, holds this session of this queue: by the session's id and its link's name."""

VENDOR = "com.microsoft:"
NO_FILTER = 253402300800000
"""The moment in milliseconds by which clients ask for all sessions."""
PEEK_LIMIT = 1000
_STATUS = {
    "com.microsoft:message-lock-lost": 410,
    "com.microsoft:session-lock-lost": 410,
    "com.microsoft:message-not-found": 404,
    "amqp:not-found": 404,
    "com.microsoft:session-cannot-be-locked": 409,
}


def put_token(message: bytes) -> tuple[bytes, str | None]:
    """The reply to put-token: any token will do."""
    request = Request(message)
    known = {"status-code": Int(202), "status-description": "Accepted"}
    return _reply(request.id, known, None), request.reply_to


def answer(message: bytes, node: Node, broker: Broker, holder: Holder) -> tuple[bytes | None, str | None]:
    """The reply to a request to a queue, or None if a fault swallows it, and the address it is for."""
    request = Request(message)
    faults = broker.faults
    settles = request.operation == "update-disposition"
    if settles and faults.swallows(Swallow.SETTLEMENTS):
        return None, None
    try:
        body = _Call(request, node, broker, holder).run()
    except AmqpError as error:
        status = _STATUS.get(error.condition, 400)
        known = {
            "statusCode": Int(status),
            "statusDescription": error.description,
            "errorCondition": Symbol(error.condition),
        }
        return _reply(request.id, known, {}), request.reply_to
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        known = {
            "statusCode": Int(400),
            "statusDescription": f"The request cannot be read: {error!r}",
            "errorCondition": Symbol("com.microsoft:argument-error"),
        }
        return _reply(request.id, known, {}), request.reply_to
    if settles and faults.swallows(Swallow.OUTCOMES):
        return None, None
    known = {"statusCode": Int(200 if body is not None else 204), "statusDescription": "OK"}
    return _reply(request.id, known, body or {}), request.reply_to


class Request:
    """A request as it was sent. `id` is its message id, whatever that is."""

    def __init__(self, message: bytes) -> None:
        parts = sections.split(message)
        properties = sections.fields(parts.properties) + [None] * 5
        self.id: Any = properties[0]
        self.reply_to: str | None = properties[4]
        known: Any = decode_whole(parts.application_properties) if parts.application_properties else {}
        self.properties: Body = known if isinstance(known, dict) else {}
        self.operation = str(self.properties.get("operation", "")).removeprefix(VENDOR)
        self.link_name: str | None = self.properties.get("associated-link-name")
        body: Any = decode(parts.body)[0] if parts.body else None
        value: Any = body.value if isinstance(body, Described) else None
        self.body: Body = value if isinstance(value, dict) else {}


class _Call:
    """One request being answered. A body of None means that there is nothing."""

    def __init__(self, request: Request, node: Node, broker: Broker, holder: Holder) -> None:
        self.request = request
        self.body = request.body
        self.node = node
        self.queue = node.queue
        self.broker = broker
        self.now = broker.now()
        self._holder = holder

    def run(self) -> Body | None:
        operation = _OPERATIONS.get(self.request.operation)
        if operation is None:
            raise AmqpError("amqp:not-implemented", f"The operation {self.request.operation!r} is not known here.")
        try:
            return operation(self)
        finally:
            self.broker.touch(self.node)

    # --- messages

    def schedule(self) -> Body:
        contents = [read_content(each["message"]) for each in self.body["messages"]]
        return {"sequence-numbers": _longs(self.queue.enqueue(*contents, now=self.now))}

    def cancel(self) -> Body:
        self.queue.cancel_scheduled(_items(self.body["sequence-numbers"]))
        return {}

    def renew(self) -> Body:
        ends = [self.queue.renew(token.bytes, self.now) for token in _items(self.body["lock-tokens"])]
        return {"expirations": Array(forms.TIMESTAMPS, tuple(int(end * 1000) for end in ends))}

    def peek(self) -> Body | None:
        count = min(int(self.body["message-count"]), PEEK_LIMIT)
        found = self.queue.peek(int(self.body["from-sequence-number"]), count, self.body.get("session-id"))
        return {"messages": [{"message": _unlocked(entry)} for entry in found]} if found else None

    def receive(self) -> Body:
        session = self._session() if self.queue.options.sessions else None
        locks = int(self.body.get("receiver-settle-mode", 1)) == 1
        numbers = _items(self.body["sequence-numbers"])
        found = self.queue.take_deferred(numbers, self.now, self.broker.token if locks else None, session)
        messages: list[Body] = []
        for entry in found:
            lock = {"lock-token": UUID(bytes=entry.token)} if entry.token is not None else {}
            messages.append({**lock, "message": entry.rendered()})
        return {"messages": messages}

    def settle(self) -> Body:
        settlement = self._settlement()
        for token in _items(self.body["lock-tokens"]):
            self.queue.settle(token.bytes, settlement, self.now)
        return {}

    def _settlement(self) -> Settlement:
        match self.body["disposition-status"]:
            case "completed":
                return Complete()
            case "abandoned":
                return Abandon()
            case "defered":
                return Defer()
            case "suspended":
                return DeadLetter(self.body.get("deadletter-reason"), self.body.get("deadletter-description"))
            case other:
                raise AmqpError("com.microsoft:argument-error", f"The disposition {other!r} is not known.")

    # --- sessions

    def _session(self) -> MessageSession:
        id = str(self.body["session-id"])
        holder = self._holder(self.queue, id, self.request.link_name)
        if holder is None:
            raise SessionLockLost(id)
        return self.queue.held_session(id, holder, self.now)

    def renew_session(self) -> Body:
        return {"expiration": Timestamp(self.queue.renew_session(self._session(), self.now) * 1000)}

    def get_state(self) -> Body:
        return {"session-state": self._session().state}

    def set_state(self) -> Body:
        session = self._session()
        session.state = self.body.get("session-state")
        session.state_set_at = self.now
        return {}

    def list_sessions(self) -> Body | None:
        moment: int = self.body["last-updated-time"]
        found = self.queue.session_ids(None if moment >= NO_FILTER else moment / 1000)
        skip, top = int(self.body["skip"]), int(self.body["top"])
        page = found[skip : skip + top]
        return {"skip": Int(skip), "sessions-ids": Array(forms.STRINGS, tuple(page))} if page else None


_OPERATIONS: dict[str, Callable[[_Call], Body | None]] = {
    "schedule-message": _Call.schedule,
    "cancel-scheduled-message": _Call.cancel,
    "renew-lock": _Call.renew,
    "peek-message": _Call.peek,
    "receive-by-sequence-number": _Call.receive,
    "update-disposition": _Call.settle,
    "renew-session-lock": _Call.renew_session,
    "get-session-state": _Call.get_state,
    "set-session-state": _Call.set_state,
    "get-message-sessions": _Call.list_sessions,
}


def _unlocked(entry: Entry) -> bytes:
    """What somebody sees who only looks: not the lock's token."""
    token, entry.token = entry.token, None
    try:
        return entry.rendered()
    finally:
        entry.token = token


def _items(value: Any) -> list[Any]:
    return list(value.items) if isinstance(value, Array) else list(value)


def _longs(numbers: list[int]) -> Array:
    return Array(forms.LONGS, tuple(numbers))


def _reply(id: Any, known: Body, body: Body | None) -> bytes:
    properties = encode_list([b"\x40"] * 5 + [encode(id)])
    return (
        sections.described(sections.PROPERTIES, properties)
        + sections.described(sections.APPLICATION_PROPERTIES, encode(known))
        + sections.described(sections.VALUE, encode(body))
    )
