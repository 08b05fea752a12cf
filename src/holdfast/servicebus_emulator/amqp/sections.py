"""The sections of a message as the bytes they are, wherever they stand. Decodes only what is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from holdfast.servicebus_emulator.amqp.decode import decode, skip
from holdfast.servicebus_emulator.amqp.types import DecodeError, ULong

HEADER = 0x70
DELIVERY_ANNOTATIONS = 0x71
MESSAGE_ANNOTATIONS = 0x72
PROPERTIES = 0x73
APPLICATION_PROPERTIES = 0x74
DATA = 0x75
SEQUENCE = 0x76
VALUE = 0x77
FOOTER = 0x78


class Sections(NamedTuple):
    """The values of the sections, without descriptors; empty if a section is missing. `body` has its descriptors."""

    header: bytes
    message_annotations: bytes
    properties: bytes
    application_properties: bytes
    body: bytes
    footer: bytes


def split(message: bytes) -> Sections:
    """The sections of a message, in any order: there are clients that put delivery annotations last.

    Delivery annotations are for one hop only, and dropped.
    """
    found: dict[int, bytes] = {}
    body: list[bytes] = []
    at, length = 0, len(message)
    while at < length:
        code, begin = _descriptor(message, at)
        end = skip(message, begin)
        if DATA <= code <= VALUE:
            body.append(message[at:end])
        elif code in found:
            raise DecodeError(f"section {code:#x} stands twice")
        else:
            found[code] = message[begin:end]
        at = end
    get = found.get
    return Sections(
        get(HEADER, b""),
        get(MESSAGE_ANNOTATIONS, b""),
        get(PROPERTIES, b""),
        get(APPLICATION_PROPERTIES, b""),
        body[0] if len(body) == 1 else b"".join(body),
        get(FOOTER, b""),
    )


def described(code: int, value: bytes) -> bytes:
    """A section from its encoded value."""
    return bytes((0x00, 0x53, code)) + value


def data_sections(message: bytes) -> list[bytes]:
    """What the data sections of a message hold: of a batch, one message each."""
    found: list[bytes] = []
    at, length = 0, len(message)
    while at < length:
        code, begin = _descriptor(message, at)
        if code == DATA:
            value, at = decode(message, begin)
            if type(value) is not bytes:
                raise DecodeError("a data section is not binary")
            found.append(value)
        else:
            at = skip(message, begin)
    return found


def pairs(encoded: bytes) -> tuple[bytes, int]:
    """The keys and values of an encoded map as bytes, and how many they are."""
    if not encoded or encoded[0] == 0x40:
        return b"", 0
    if encoded[0] == 0xC1:
        return encoded[3:], encoded[2]
    if encoded[0] == 0xD1:
        return encoded[9:], int.from_bytes(encoded[5:9], "big")
    raise DecodeError("a section is not a map")


def fields(encoded: bytes) -> list[Any]:
    """The fields of a section that is a list, or none if it is missing."""
    value: Any = decode(encoded)[0] if encoded else []
    if not isinstance(value, list):
        raise DecodeError("a section is not a list")
    return cast("list[Any]", value)


def _descriptor(message: bytes, at: int) -> tuple[int, int]:
    # Nearly always the three bytes 00 53 7x.
    if message[at : at + 2] == b"\x00\x53" and len(message) > at + 2:
        code, begin = message[at + 2], at + 3
    elif message[at] == 0:
        value, begin = decode(message, at + 1)
        if type(value) is not ULong:
            raise DecodeError("a section's descriptor is not a number")
        code = int(value)
    else:
        raise DecodeError("a message is not made of sections")
    if not HEADER <= code <= FOOTER:
        raise DecodeError(f"a message has no section {code:#x}")
    return code, begin
