"""Scalars: values without identity that JSON lacks, each as a tagged text or a few numbers.
Never holds a graph.

Bytes are base64; an int beyond 64 bits is decimal text up to about 600 digits and hexadecimal beyond that;
a text with lone surrogates is the base64 of its UTF-8 with surrogates passed through.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import isfinite, nan
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from holdfast.codec.graph import DecodeFunction, DecodingGraph, EncodeFunction, EncodingGraph
from holdfast.codec.refusals import Refusal
from holdfast.codec.shapes import array, text, wrong
from holdfast.codec.tree import HIGHEST, LOWEST, Tree

_DECIMAL_BITS = 1990  # about 600 digits, under the lowest limit Python lets one set for int <-> str
_LARGEST_BITS = 4_000_000
_LONGEST_PATTERN = 10_000
_LONGEST_BYTES = 2**31
_INT_TEXT = re.compile(r"-?(0x[0-9a-f]{1,1000000}|[0-9]{1,620})")
# DEBUG is not among them: it would print.
_PATTERN_FLAGS = int(re.I | re.L | re.M | re.S | re.X | re.A | re.U)


def well_formed(value: str) -> bool:
    """Whether a str can be written as UTF-8, which is to say: holds no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_base64(value: bytes | bytearray) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def from_base64(value: str) -> bytes:
    return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)


def _itself(graph: EncodingGraph, value: Any) -> Tree:
    return value


def _int(graph: EncodingGraph, value: int) -> Tree:
    if LOWEST <= value <= HIGHEST:
        return value
    bits = value.bit_length()
    if bits > _LARGEST_BITS:
        raise Refusal(f"an int of {bits} bits is too large to be saved; keep it in a file", kind="int")
    return {"$": "int", "v": str(value) if bits <= _DECIMAL_BITS else hex(value)}


def _read_int(graph: DecodingGraph, tree: dict[str, Any]) -> int:
    digits = text(tree, longest=1_000_003)
    if not _INT_TEXT.fullmatch(digits):
        raise wrong(tree, "v", "the digits of an int")
    return int(digits, 16 if "x" in digits else 10)


def _float(graph: EncodingGraph, value: float) -> Tree:
    return value if isfinite(value) else {"$": "float", "v": repr(value)}


def _read_float(graph: DecodingGraph, tree: dict[str, Any]) -> float:
    if text(tree) not in ("nan", "inf", "-inf"):
        raise wrong(tree, "v", "nan, inf or -inf")
    # One for all: Python finds a NaN in a list by its being the very same object.
    return nan if tree["v"] == "nan" else float(tree["v"])


def _str(graph: EncodingGraph, value: str) -> Tree:
    if value.isascii() or well_formed(value):
        return value
    return {"$": "str", "v": to_base64(value.encode("utf-8", "surrogatepass"))}


def _read_str(graph: DecodingGraph, tree: dict[str, Any]) -> str:
    return from_base64(text(tree, longest=_LONGEST_BYTES)).decode("utf-8", "surrogatepass")


def _complex(graph: EncodingGraph, value: complex) -> Tree:
    return {"$": "complex", "v": [_float(graph, value.real), _float(graph, value.imag)]}


def _read_complex(graph: DecodingGraph, tree: dict[str, Any]) -> complex:
    real, imag = (graph.visit(part) for part in array(tree, length=2))
    if type(real) is not float or type(imag) is not float:
        raise wrong(tree, "v", "two floats")
    return complex(real, imag)


def _bytes(graph: EncodingGraph, value: bytes) -> Tree:
    return {"$": "bytes", "v": to_base64(value)}


def _read_bytes(graph: DecodingGraph, tree: dict[str, Any]) -> bytes:
    return from_base64(text(tree, longest=_LONGEST_BYTES))


def _range(graph: EncodingGraph, value: range) -> Tree:
    return {"$": "range", "v": [_int(graph, part) for part in (value.start, value.stop, value.step)]}


def _read_range(graph: DecodingGraph, tree: dict[str, Any]) -> range:
    return range(*(_whole(graph, tree, part) for part in array(tree, length=3)))


def _slice(graph: EncodingGraph, value: slice[Any, Any, Any]) -> Tree:
    graph.deeper()
    parts = [graph.visit(part) for part in (value.start, value.stop, value.step)]
    graph.depth -= 1
    return {"$": "slice", "v": parts}


def _read_slice(graph: DecodingGraph, tree: dict[str, Any]) -> slice[Any, Any, Any]:
    graph.deeper()
    start, stop, step = (graph.visit(part) for part in array(tree, length=3))
    graph.depth -= 1
    return slice(start, stop, step)


def _fraction(graph: EncodingGraph, value: Fraction) -> Tree:
    return {"$": "fraction", "v": [_int(graph, value.numerator), _int(graph, value.denominator)]}


def _read_fraction(graph: DecodingGraph, tree: dict[str, Any]) -> Fraction:
    numerator, denominator = (_whole(graph, tree, part) for part in array(tree, length=2))
    return Fraction(numerator, denominator)


def _whole(graph: DecodingGraph, tree: dict[str, Any], part: Tree) -> int:
    value = graph.visit(part)
    if type(value) is not int:
        raise wrong(tree, "v", "ints")
    return value


def _pattern(graph: EncodingGraph, value: re.Pattern[Any]) -> Tree:
    if len(value.pattern) > _LONGEST_PATTERN:
        raise Refusal(f"a pattern longer than {_LONGEST_PATTERN} cannot be saved", kind="re.Pattern")
    written = _str(graph, value.pattern) if isinstance(value.pattern, str) else _bytes(graph, value.pattern)
    return {"$": "pattern", "v": written, "flags": value.flags & _PATTERN_FLAGS}


def _read_pattern(graph: DecodingGraph, tree: dict[str, Any]) -> re.Pattern[Any]:
    source, flags = graph.visit(tree.get("v")), tree.get("flags")
    if type(source) not in (str, bytes) or len(source) > _LONGEST_PATTERN:
        raise wrong(tree, "v", f"a pattern of at most {_LONGEST_PATTERN} characters")
    if type(flags) is not int or flags & ~_PATTERN_FLAGS:
        raise wrong(tree, "flags", "the flags of a pattern")
    return re.compile(source, flags)


def _constant(tag: str) -> EncodeFunction:
    return lambda graph, value: {"$": tag}


def _as_text(tag: str) -> EncodeFunction:
    return lambda graph, value: {"$": tag, "v": _str(graph, str(value))}


def _from_text(make: Callable[[str], Any]) -> DecodeFunction:
    def read(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
        value = tree.get("v")
        value = graph.visit(value) if type(value) is dict else text(tree, longest=1_000_000)
        if type(value) is not str:
            raise wrong(tree, "v", "a text")
        return make(value)

    return read


# The native path is "Path", so that a value saved on one system opens on another.
_TEXTUAL: dict[type, tuple[str, Callable[[str], Any]]] = {
    uuid.UUID: ("uuid", uuid.UUID),
    Decimal: ("decimal", Decimal),
    PurePosixPath: ("PurePosixPath", PurePosixPath),
    PureWindowsPath: ("PureWindowsPath", PureWindowsPath),
    type(Path()): ("path", Path),
    ipaddress.IPv4Address: ("IPv4Address", ipaddress.IPv4Address),
    ipaddress.IPv6Address: ("IPv6Address", ipaddress.IPv6Address),
    ipaddress.IPv4Network: ("IPv4Network", ipaddress.IPv4Network),
    ipaddress.IPv6Network: ("IPv6Network", ipaddress.IPv6Network),
    ipaddress.IPv4Interface: ("IPv4Interface", ipaddress.IPv4Interface),
    ipaddress.IPv6Interface: ("IPv6Interface", ipaddress.IPv6Interface),
}

ENCODERS: dict[type, EncodeFunction] = {
    type(None): _itself,
    bool: _itself,
    int: _int,
    float: _float,
    str: _str,
    complex: _complex,
    bytes: _bytes,
    range: _range,
    slice: _slice,
    Fraction: _fraction,
    re.Pattern: _pattern,
    type(...): _constant("Ellipsis"),
    type(NotImplemented): _constant("NotImplemented"),
    **{cls: _as_text(tag) for cls, (tag, _) in _TEXTUAL.items()},
}

DECODERS: dict[str, DecodeFunction] = {
    "int": _read_int,
    "float": _read_float,
    "str": _read_str,
    "complex": _read_complex,
    "bytes": _read_bytes,
    "range": _read_range,
    "slice": _read_slice,
    "fraction": _read_fraction,
    "pattern": _read_pattern,
    "Ellipsis": lambda graph, tree: ...,
    "NotImplemented": lambda graph, tree: NotImplemented,
    **{tag: _from_text(make) for tag, make in _TEXTUAL.values()},
}
