"""Parameters by name: the `.sql` files say `:name`, PostgreSQL is told `$1`. Sends nothing itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from holdfast.backends.shared import SHARD, load_statements

TEXTS = load_statements(__package__ or "holdfast.backends.postgres")

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement's text, and the names of its parameters in their order."""

    text: str
    names: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        return [SHARD if name == "shard" else values[name] for name in self.names]


@cache
def compiled(text: str) -> Statement:
    """`text` with each `:name` numbered; one name is one parameter wherever it stands."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        place = f"${names.setdefault(match[1], len(names) + 1)}"
        # A parameter that only a list of columns mentions has no type of its own.
        return f"{place}::int" if match[1] == "shard" else place

    body = _NAME.sub(number, text)
    return Statement(body, tuple(names))


def chosen(
    head: str, parts: Iterable[tuple[str, Mapping[str, Any]]], *, end: str = ""
) -> tuple[Statement, dict[str, Any]]:
    """A listing's statement, of the named one, the conditions and the end, with the conditions' parameters."""
    texts = [TEXTS[head]]
    values: dict[str, Any] = {}
    for name, parameters in parts:
        texts.append(TEXTS[name])
        values |= parameters
    if end:
        texts.append(TEXTS[end])
    return compiled("\n".join(texts)), values


@cache
def statement(name: str) -> Statement:
    """The statement of that name in the `.sql` files."""
    return compiled(TEXTS[name])
