"""Opening: whether a server is one that can be used, before anything is kept there."""

from __future__ import annotations

import re

from holdfast.backends.redis.address import Address
from holdfast.backends.redis.line import Line
from holdfast.errors import ConfigurationError, SchemaError

OLDEST = (6, 2)
FORMAT = 1
"""How jobs are kept, as a number."""


async def prepare(line: Line, address: Address) -> None:
    """Raises ConfigurationError for a server that is too old, SchemaError for keys of a later release."""
    said: bytes = await line.ask("INFO", "server")
    found = re.search(rb"redis_version:(\d+)\.(\d+)", said)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST:
        version = found[0].decode().partition(":")[2]
        raise ConfigurationError(f"{address.shown} is Redis {version}: Holdfast needs 6.2 or later, or Valkey")
    key = f"{address.key}:format"
    await line.ask("SETNX", key, FORMAT)
    known: bytes = await line.ask("GET", key)
    if not known.isdigit() or int(known) > FORMAT:
        raise SchemaError(
            f"{address.shown}: the keys of {address.key} have format {known.decode('utf-8', 'replace')}, and this "
            f"release of Holdfast knows {FORMAT}: upgrade Holdfast here, or take another ?prefix="
        )
