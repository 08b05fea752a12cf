"""Times: dates, moments and zones as ISO text, with the zone beside it. Never asks what time it is.

A moment in UTC or at an unnamed fixed offset is plain ISO text; any other zone stands in `tz`, and the text
is the local time. A zone is opened by its key from the system's own database.
"""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from holdfast.codec.graph import DecodeFunction, DecodingGraph, EncodeFunction, EncodingGraph
from holdfast.codec.refusals import Refusal
from holdfast.codec.shapes import array, number, text, wrong
from holdfast.codec.tree import Tree

_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,3}")


def _moment(tag: str) -> EncodeFunction:
    def write(graph: EncodingGraph, value: Any) -> Tree:
        tz = value.tzinfo
        if tz is None or (type(tz) is timezone and _is_unnamed(tz)):
            tree: dict[str, Tree] = {"$": tag, "v": value.isoformat()}
        else:
            tree = {"$": tag, "v": value.replace(tzinfo=None).isoformat()}
            try:
                tree["tz"] = graph.visit(tz)
            except Refusal as refusal:
                raise refusal.inside(".tzinfo") from None
        if value.fold:
            tree["fold"] = 1
        return tree

    return write


def _read_moment(cls: type[datetime] | type[time]) -> DecodeFunction:
    def read(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
        value = cls.fromisoformat(text(tree, longest=64))
        if "tz" in tree:
            tz = graph.visit(tree["tz"])
            if not (type(tz) in (timezone, ZoneInfo) or type(tz) is _pydantic_zone()):
                raise wrong(tree, "tz", "a time zone")
            value = value.replace(tzinfo=tz)
        return value.replace(fold=1) if tree.get("fold") == 1 else value

    return read


def _is_unnamed(tz: timezone) -> bool:
    return len(tz.__getinitargs__()) == 1  # type: ignore[attr-defined]  # pyright: ignore


def _date(graph: EncodingGraph, value: date) -> Tree:
    return {"$": "date", "v": value.isoformat()}


def _read_date(graph: DecodingGraph, tree: dict[str, Any]) -> date:
    return date.fromisoformat(text(tree, longest=32))


def _timedelta(graph: EncodingGraph, value: timedelta) -> Tree:
    return {"$": "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _read_timedelta(graph: DecodingGraph, tree: dict[str, Any]) -> timedelta:
    parts = array(tree, length=3)
    if any(type(part) is not int for part in parts):
        raise wrong(tree, "v", "days, seconds and microseconds")
    return timedelta(*parts)


def _timezone(graph: EncodingGraph, value: timezone) -> Tree:
    tree = {"$": "timezone", "v": _timedelta(graph, value.utcoffset(None))["v"]}
    if not _is_unnamed(value):
        tree["name"] = graph.visit(value.tzname(None))
    return tree


def _read_timezone(graph: DecodingGraph, tree: dict[str, Any]) -> timezone:
    offset = _read_timedelta(graph, tree)
    if "name" not in tree:
        return timezone(offset)
    name = graph.visit(tree["name"])
    if type(name) is not str:
        raise wrong(tree, "name", "a text")
    return timezone(offset, name)


def _zone(graph: EncodingGraph, value: ZoneInfo) -> Tree:
    key: Any = value.key  # None when it was read from a file, whatever the stubs say
    if key is None or not _ZONE_KEY.fullmatch(key):
        raise Refusal("a ZoneInfo without a key cannot be saved; use a zone of the system by its name", kind="ZoneInfo")
    return {"$": "zone", "v": key}


def _read_zone(graph: DecodingGraph, tree: dict[str, Any]) -> ZoneInfo:
    key = text(tree)
    if not _ZONE_KEY.fullmatch(key):
        raise wrong(tree, "v", "the key of a time zone")
    return ZoneInfo(key)


def _pydantic_zone() -> type | None:
    core = sys.modules.get("pydantic_core")
    return getattr(core, "TzInfo", None)


def encode_pydantic_zone(graph: EncodingGraph, value: Any) -> Tree:
    """The fixed offset that pydantic gives to the moments it parses."""
    return {"$": "pydantic-zone", "v": int(value.utcoffset(None).total_seconds())}


def _read_pydantic_zone(graph: DecodingGraph, tree: dict[str, Any]) -> Any:
    seconds, cls = number(tree), _pydantic_zone()
    return timezone(timedelta(seconds=seconds)) if cls is None else cls(seconds)


ENCODERS: dict[type, EncodeFunction] = {
    datetime: _moment("datetime"),
    time: _moment("time"),
    date: _date,
    timedelta: _timedelta,
    timezone: _timezone,
    ZoneInfo: _zone,
}

DECODERS: dict[str, DecodeFunction] = {
    "datetime": _read_moment(datetime),
    "time": _read_moment(time),
    "date": _read_date,
    "timedelta": _read_timedelta,
    "timezone": _read_timezone,
    "zone": _read_zone,
    "pydantic-zone": _read_pydantic_zone,
}
