"""Values to bytes and back: Python values ⇄ JSON-able trees ⇄ JSON. Opens nothing, imports nothing it reads.

    tree = encode({"user": User(id=3), "at": datetime.now(UTC)})
    data = dumps(tree)
    value = decode(loads(data))

A tree is JSON. What JSON has is written as itself; anything else is an object with a tag at "$": a short
word for Python's own types, `module:qualname` for classes. Objects keep their identity within one Encoder:
met again, they are `{"$": "ref", "v": n}`, where n counts objects in the order they were first met.
"""

from holdfast.codec.apart import Company
from holdfast.codec.decoder import Decoder, decode, decode_exception
from holdfast.codec.describe import (
    chain_of,
    describe,
    describe_error,
    describe_type,
    lineage,
    plain,
    stored_traceback,
    to_json,
)
from holdfast.codec.encoder import Encoder, encode, encode_exception
from holdfast.codec.named import decode_call, encode_call, encode_result, encode_start, exception_as_saved
from holdfast.codec.registry import register_type
from holdfast.codec.tracebacks import (
    TRACEBACK,
    forget_last_raise,
    remember_raise,
    show_remote_tracebacks,
    traceback_in,
    traceback_of,
)
from holdfast.codec.tree import PRIMITIVES, Tree, dumps, is_plain, loads, raw

__all__ = [
    "PRIMITIVES",
    "TRACEBACK",
    "Company",
    "Decoder",
    "Encoder",
    "Tree",
    "chain_of",
    "decode",
    "decode_call",
    "decode_exception",
    "describe",
    "describe_error",
    "describe_type",
    "dumps",
    "encode",
    "encode_call",
    "encode_exception",
    "encode_result",
    "encode_start",
    "exception_as_saved",
    "forget_last_raise",
    "is_plain",
    "lineage",
    "loads",
    "plain",
    "raw",
    "register_type",
    "remember_raise",
    "show_remote_tracebacks",
    "stored_traceback",
    "to_json",
    "traceback_in",
    "traceback_of",
]
