"""Listings page by page: the place where one ends is what the next one is asked for. Reads text; asks nobody."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from starlette.exceptions import HTTPException

PAGE = 50
"""Rows of a page."""


class Placed(Protocol):
    """A row of a listing, newest first."""

    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> float: ...


R = TypeVar("R", bound=Placed)


def read_place(text: str | None) -> tuple[float, str] | None:
    """Where a listing goes on; None: from the newest on. Raises HTTPException for what no page has written."""
    if not text:
        return None
    at, mark, id = text.partition("~")
    try:
        moment = float(at)
    except ValueError:
        moment = math.nan
    if not mark or not math.isfinite(moment):
        raise HTTPException(400, "This address names no place in a listing; begin at its first page.")
    return moment, id


def cut(rows: Sequence[R]) -> tuple[Sequence[R], str | None]:
    """The rows of one page, of one more that were asked for, and where the next page begins if there is one."""
    if len(rows) <= PAGE:
        return rows, None
    last = rows[PAGE - 1]
    return rows[:PAGE], f"{last.created_at!r}~{last.id}"
