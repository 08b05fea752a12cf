"""Random and randomly damaged trees are values or DecodeErrors, never anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.codec import Decoder, decode, dumps, encode, loads
from holdfast.errors import DecodeError


@dataclass(slots=True)
class Slotted:
    x: int


@dataclass
class Loose:
    x: Any


@dataclass(frozen=True)
class Hashed:
    x: Any


class Pair(NamedTuple):
    x: int
    y: int


HERE = __name__

tags = st.sampled_from([
    "tuple", "set", "frozenset", "dict", "ref", "bytes", "int", "float", "datetime", "deque", "defaultdict",
    "list_iterator",
    "enumerate", "zip", "reversed", "dict_keys", "class", "pattern", "zone", "path", f"{HERE}:Loose",
    f"{HERE}:Pair", f"{HERE}:Hashed",
    f"{HERE}:Slotted", "builtins:ValueError", "builtins:OSError", "builtins:UnicodeDecodeError",
    "builtins:ExceptionGroup",
    "re:RegexFlag", "types:SimpleNamespace", "os:system", "gone:Error",
])  # fmt: skip
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.floats()
    | st.sampled_from(["", "a", "x", "YQ==", "1", "UTC", "int"])
    | tags
)
keys = st.sampled_from(["v", "f", "args", "lineage", "at", "x", "y", "name", "value", "flags", "native",
"cause", "exceptions", "message", "notes", "done", "start", "object"])  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(lambda tag, body: {"$": tag, **body}, tags, st.dictionaries(keys, inner, max_size=4))
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=400)
@given(trees, st.booleans())
def test_any_tree_decodes_or_is_a_decode_error(tree, lenient):
    try:
        value = Decoder(lenient_exceptions=lenient).decode(tree)
    except DecodeError:
        return
    try:
        repr(value)
    except AttributeError:
        pass  # a stored instance may lack fields


mutable_source = encode([Loose([1, (2, {3}, {4: 5})]), ValueError("x", [1]), iter([1]), Pair(1, 2), {"$": 1}, b"abc"])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_flipped_bytes_are_values_or_decode_errors(data):
    stored = bytearray(dumps(mutable_source))
    for _ in range(data.draw(st.integers(1, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(32, 126))
    try:
        decode(loads(bytes(stored)))
    except DecodeError:
        pass
