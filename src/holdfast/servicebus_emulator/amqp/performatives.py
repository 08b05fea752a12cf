"""What peers say to each other in frames, and the composite values in it. Knows their fields; gives them no meaning."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, cast

from holdfast.servicebus_emulator.amqp.decode import decode
from holdfast.servicebus_emulator.amqp.encode import encode, encode_list
from holdfast.servicebus_emulator.amqp.types import (
    DecodeError,
    Described,
    Symbol,
    UByte,
    UInt,
    ULong,
    UShort,
)

Map: TypeAlias = dict[Any, Any]
SENDER = False
RECEIVER = True
SETTLED = 1
"""The snd-settle-mode of a link whose messages need no settlement."""


class Open(NamedTuple):
    container_id: str
    hostname: str | None = None
    max_frame_size: int = 0xFFFFFFFF
    channel_max: int = 0xFFFF
    idle_time_out: int | None = None
    outgoing_locales: Any = None
    incoming_locales: Any = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: Map | None = None


class Begin(NamedTuple):
    remote_channel: int | None
    next_outgoing_id: int
    incoming_window: int
    outgoing_window: int
    handle_max: int = 0xFFFFFFFF
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: Map | None = None


class Source(NamedTuple):
    address: Any = None
    durable: int = 0
    expiry_policy: str = "session-end"
    timeout: int = 0
    dynamic: bool = False
    dynamic_node_properties: Map | None = None
    distribution_mode: str | None = None
    filter: Map | None = None
    default_outcome: Any = None
    outcomes: Any = None
    capabilities: Any = None


class Target(NamedTuple):
    address: Any = None
    durable: int = 0
    expiry_policy: str = "session-end"
    timeout: int = 0
    dynamic: bool = False
    dynamic_node_properties: Map | None = None
    capabilities: Any = None


class Attach(NamedTuple):
    name: str
    handle: int
    role: bool
    snd_settle_mode: int = 2
    rcv_settle_mode: int = 0
    source: Any = None
    target: Any = None
    unsettled: Map | None = None
    incomplete_unsettled: bool = False
    initial_delivery_count: int | None = None
    max_message_size: int | None = None
    offered_capabilities: Any = None
    desired_capabilities: Any = None
    properties: Map | None = None


class Flow(NamedTuple):
    next_incoming_id: int | None
    incoming_window: int
    next_outgoing_id: int
    outgoing_window: int
    handle: int | None = None
    delivery_count: int | None = None
    link_credit: int | None = None
    available: int | None = None
    drain: bool = False
    echo: bool = False
    properties: Map | None = None


class Transfer(NamedTuple):
    handle: int
    delivery_id: int | None = None
    delivery_tag: bytes | None = None
    message_format: int | None = None
    settled: bool | None = None
    more: bool = False
    rcv_settle_mode: int | None = None
    state: Any = None
    resume: bool = False
    aborted: bool = False
    batchable: bool = False


class Disposition(NamedTuple):
    role: bool
    first: int
    last: int | None = None
    settled: bool = False
    state: Any = None
    batchable: bool = False


class Error(NamedTuple):
    condition: str
    description: str | None = None
    info: Map | None = None


class Detach(NamedTuple):
    handle: int
    closed: bool = False
    error: Error | None = None


class End(NamedTuple):
    error: Error | None = None


class Close(NamedTuple):
    error: Error | None = None


class Received(NamedTuple):
    section_number: int
    section_offset: int


class Accepted(NamedTuple):
    pass


class Rejected(NamedTuple):
    error: Error | None = None


class Released(NamedTuple):
    pass


class Modified(NamedTuple):
    delivery_failed: bool = False
    undeliverable_here: bool = False
    message_annotations: Map | None = None


class SaslMechanisms(NamedTuple):
    mechanisms: Any


class SaslInit(NamedTuple):
    mechanism: str
    initial_response: bytes | None = None
    hostname: str | None = None


class SaslOutcome(NamedTuple):
    code: int
    additional_data: bytes | None = None


_ANY = object
_COMPOSITE = tuple
# The code of each, and the type of each field, in the order of the specification.
_FORMS: dict[type[Any], tuple[int, tuple[type, ...]]] = {
    Open: (0x10, (str, str, UInt, UShort, UInt, _ANY, _ANY, _ANY, _ANY, dict)),
    Begin: (0x11, (UShort, UInt, UInt, UInt, UInt, _ANY, _ANY, dict)),
    Attach: (
        0x12,
        (str, UInt, bool, UByte, UByte, _COMPOSITE, _COMPOSITE, dict, bool, UInt, ULong, _ANY, _ANY, dict),
    ),
    Flow: (0x13, (UInt, UInt, UInt, UInt, UInt, UInt, UInt, UInt, bool, bool, dict)),
    Transfer: (0x14, (UInt, UInt, bytes, UInt, bool, bool, UByte, _COMPOSITE, bool, bool, bool)),
    Disposition: (0x15, (bool, UInt, UInt, bool, _COMPOSITE, bool)),
    Detach: (0x16, (UInt, bool, _COMPOSITE)),
    End: (0x17, (_COMPOSITE,)),
    Close: (0x18, (_COMPOSITE,)),
    Error: (0x1D, (Symbol, str, dict)),
    Received: (0x23, (UInt, ULong)),
    Accepted: (0x24, ()),
    Rejected: (0x25, (_COMPOSITE,)),
    Released: (0x26, ()),
    Modified: (0x27, (bool, bool, dict)),
    Source: (0x28, (_ANY, UInt, Symbol, UInt, bool, dict, Symbol, dict, _ANY, _ANY, _ANY)),
    Target: (0x29, (_ANY, UInt, Symbol, UInt, bool, dict, _ANY)),
    SaslMechanisms: (0x40, (_ANY,)),
    SaslInit: (0x41, (Symbol, bytes, str)),
    SaslOutcome: (0x44, (UByte, bytes)),
}
_BY_CODE: dict[Any, tuple[type[Any], tuple[type, ...], tuple[Any, ...], int]] = {}
for _made, (_code, _types) in _FORMS.items():
    _defaults: dict[str, Any] = _made._field_defaults
    _needed = sum(name not in _defaults for name in _made._fields)
    _row = (_made, _types, tuple(_defaults.get(name) for name in _made._fields), _needed)
    _BY_CODE[_code] = _row
    _name = _made.__name__.lower()
    _BY_CODE[f"amqp:{_name.replace('sasl', 'sasl-')}:list"] = _row


def decode_performative(body: bytes) -> tuple[Any, int]:
    """What a frame says, and where its payload begins."""
    value, end = decode(body)
    made = lifted(value)
    if made is value:
        raise DecodeError("a frame says nothing that is known")
    return made, end


def lifted(value: Any) -> Any:
    """A described list as the composite it is; anything else as it is."""
    if type(value) is not Described or type(value.value) is not list:
        return value
    given: list[Any] = cast("Any", value).value
    try:
        form = _BY_CODE.get(value.descriptor)
    except TypeError as error:
        raise DecodeError("a descriptor is neither a number nor a symbol") from error
    if form is None:
        return value
    made, types, defaults, needed = form
    if len(given) > len(types):
        raise DecodeError(f"{made.__name__} has {len(given)} fields of {len(types)}")
    fields = list(defaults)
    for at, field in enumerate(given):
        if field is None:
            # Null stands for the default.
            continue
        kind = types[at]
        if kind is _COMPOSITE:
            field = lifted(field)
        elif not isinstance(field, kind):
            raise DecodeError(f"{made._fields[at]} of {made.__name__} is a {type(field).__name__}")
        fields[at] = field
    for at in range(needed):
        # Of those without a default, only the first of Begin and Flow may be null.
        if fields[at] is None and not (at == 0 and (made is Begin or made is Flow)):
            raise DecodeError(f"{made.__name__} lacks {made._fields[at]}")
    return made._make(fields)


def encode_performative(value: Any) -> bytes:
    """The bytes of a performative or composite value. Fields that have their defaults at the end are left out."""
    code, types = _FORMS[type(value)]
    encoded = [_field(field, kind) for field, kind in zip(value, types, strict=True)]
    # Termini and errors are read by position without looking how long they are, by one client at least.
    while encoded and encoded[-1] == b"\x40" and code not in (0x1D, 0x28, 0x29):
        encoded.pop()
    return bytes((0x00, 0x53, code)) + encode_list(encoded)


def _field(value: Any, kind: type) -> bytes:
    if value is None:
        return b"\x40"
    if type(value) in _FORMS:
        return encode_performative(value)
    if kind is _ANY or kind is _COMPOSITE or type(value) is kind:
        return encode(value)
    return encode(kind(value))
