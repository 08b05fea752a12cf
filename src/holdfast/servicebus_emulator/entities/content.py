"""A message's content: read once when it comes, written for each delivery with what the broker adds to it.

What the sender wrote in properties, application properties, body and footer stays the bytes it was.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from holdfast.servicebus_emulator.amqp import sections
from holdfast.servicebus_emulator.amqp.decode import decode, skip
from holdfast.servicebus_emulator.amqp.encode import encode, encode_list, encode_map
from holdfast.servicebus_emulator.amqp.types import DecodeError, Int, Symbol, Timestamp, UInt

SCHEDULED_TIME = "x-opt-scheduled-enqueue-time"
_BROKERS_OWN = frozenset(
    {
        "x-opt-sequence-number",
        "x-opt-enqueued-time",
        "x-opt-locked-until",
        "x-opt-enqueue-sequence-number",
        "x-opt-message-state",
        "x-opt-deadletter-source",
    }
)
_MESSAGE_ID, _GROUP_ID = 0, 10

_NUMBER = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_ENQUEUED = encode(Symbol("x-opt-enqueued-time")) + b"\x83"
_LOCKED = encode(Symbol("x-opt-locked-until")) + b"\x83"
_STATE = encode(Symbol("x-opt-message-state"))
_SOURCE = encode(Symbol("x-opt-deadletter-source"))
_TOKEN = sections.described(
    sections.DELIVERY_ANNOTATIONS, b"\xc1\x24\x02" + encode(Symbol("x-opt-lock-token")) + b"\x98"
)
_STAMPS = struct.Struct(f">{len(_NUMBER)}sq{len(_ENQUEUED)}sq")
_STAMPS_LOCKED = struct.Struct(f">{len(_NUMBER)}sq{len(_ENQUEUED)}sq{len(_LOCKED)}sq")


@dataclass(frozen=True, slots=True)
class Content:
    """What the sender said. `header` is its header but for the delivery count, each field encoded."""

    header: tuple[bytes, bytes, bytes, bytes]
    ttl: float | None
    scheduled_at: float | None
    annotations: bytes
    annotation_count: int
    properties: bytes
    application_properties: bytes
    body: bytes
    footer: bytes
    rest: bytes
    """All sections after the annotations, as they are sent."""

    def message_id(self) -> bytes | None:
        """The message id as it is encoded, so that the number 1 and the text "1" stay two."""
        fields = sections.fields(self.properties)
        return None if not fields or fields[_MESSAGE_ID] is None else encode(fields[_MESSAGE_ID])

    def session_id(self) -> str | None:
        """The session the message belongs to."""
        fields = sections.fields(self.properties)
        return str(fields[_GROUP_ID]) if len(fields) > _GROUP_ID and fields[_GROUP_ID] is not None else None

    def with_properties(self, added: dict[str, str]) -> Content:
        """The same with application properties added, in place of those of the same names."""
        kept: list[bytes] = []
        raw, count = sections.pairs(self.application_properties)
        at = 0
        for _ in range(count // 2):
            key, begin = decode(raw, at)
            end = skip(raw, begin)
            if not isinstance(key, str) or key not in added:
                kept.append(raw[at:end])
            at = end
        new = [encode(part) for pair in added.items() for part in pair]
        application = encode_map(b"".join(kept + new), 2 * (len(kept) + len(added)))
        rest = _rest(self.properties, application, self.body, self.footer)
        return replace(self, application_properties=application, rest=rest)


_PLAIN = (b"\x40", b"\x40", b"\x40", b"\x40")


def read_content(message: bytes) -> Content:
    """The content of an encoded message. Raises DecodeError."""
    parts = sections.split(message)
    header, ttl = _PLAIN, None
    if parts.header:
        given = (sections.fields(parts.header) + [None] * 4)[:4]
        ttl = given[2] / 1000 if isinstance(given[2], UInt) and given[2] else None
        durable, priority, living, first = [encode(field) for field in given]
        header = (durable, priority, living, first)
    annotations, count, scheduled_at = _annotations(parts.message_annotations)
    return Content(
        header,
        ttl,
        scheduled_at,
        annotations,
        count,
        parts.properties,
        parts.application_properties,
        parts.body,
        parts.footer,
        _rest(parts.properties, parts.application_properties, parts.body, parts.footer),
    )


def _rest(properties: bytes, application_properties: bytes, body: bytes, footer: bytes) -> bytes:
    made = b""
    if properties:
        made = b"\x00\x53\x73" + properties
    if application_properties:
        made += b"\x00\x53\x74" + application_properties
    made += body
    return made + b"\x00\x53\x78" + footer if footer else made


def _annotations(encoded: bytes) -> tuple[bytes, int, float | None]:
    """The sender's own annotations as they are, how many parts they have, and when the message is to appear."""
    raw, count = sections.pairs(encoded)
    if not count:
        return b"", 0, None
    if count % 2:
        raise DecodeError("annotations have a key without a value")
    kept: list[bytes] = []
    scheduled_at: float | None = None
    at = 0
    for _ in range(count // 2):
        key, begin = decode(raw, at)
        end = skip(raw, begin)
        if key == SCHEDULED_TIME:
            value = decode(raw, begin)[0]
            scheduled_at = value / 1000 if isinstance(value, Timestamp) else None
        if not isinstance(key, str) or key not in _BROKERS_OWN:
            kept.append(raw[at:end])
        at = end
    return b"".join(kept), 2 * len(kept), scheduled_at


def render(
    content: Content,
    *,
    sequence: int,
    enqueued_at: float,
    delivery_count: int,
    token: bytes | None = None,
    locked_until: float | None = None,
    state: int = 0,
    source: str | None = None,
) -> bytes:
    """The message as a receiver gets it. `token` is the lock's, as a UUID's bytes; `source` the queue it died in."""
    count = content.annotation_count + 4
    if locked_until is None:
        stamps = _STAMPS.pack(_NUMBER, sequence, _ENQUEUED, int(enqueued_at * 1000))
    else:
        count += 2
        stamps = _STAMPS_LOCKED.pack(
            _NUMBER, sequence, _ENQUEUED, int(enqueued_at * 1000), _LOCKED, int(locked_until * 1000)
        )
    if state:
        stamps += _STATE + encode(Int(state))
        count += 2
    if source is not None:
        stamps += _SOURCE + encode(source)
        count += 2
    parts = [
        b"\x00\x53\x70",
        encode_list([*content.header, encode(UInt(delivery_count))]),
        b"" if token is None else _TOKEN + token,
        b"\x00\x53\x72",
        encode_map(stamps + content.annotations, count),
        content.rest,
    ]
    return b"".join(parts)
