"""Deaths: why a dead letter died, as the reason and the description that Service Bus keeps with it, and back."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from azure.servicebus import ServiceBusReceivedMessage

from holdfast.codec import dumps, encode_exception, loads
from holdfast.errors import CodecError, HoldfastError
from holdfast.model.job import Failed, Reason

DESCRIPTION_LIMIT = 4_000
"""Characters of a description, at most: Service Bus takes 4,096."""
OURS = {reason.value for reason in Reason}
THEIRS = {"MaxDeliveryCountExceeded": Reason.LOST.value, "TTLExpiredException": Reason.EXPIRED.value}
"""The reasons of Service Bus itself, and what they mean here."""


class Death(NamedTuple):
    """What is known of the end of a dead letter."""

    reason: str
    ended_at: float | None
    error: bytes
    attempt: int | None = None
    """The last attempt, where it is not the one that the message tells."""


def described(failed: Failed, *, attempt: int | None = None) -> str:
    """The description of a death: its moment, the attempt if the message tells another one, and the error."""
    moment = f"{failed.ended_at!r} " if attempt is None else f"{failed.ended_at!r}/{attempt} "
    return moment + shortened(failed.error, DESCRIPTION_LIMIT - len(moment)).decode("utf-8", "replace")


def death_of(message: ServiceBusReceivedMessage) -> Death:
    """How this dead letter died, whoever buried it."""
    reason, words = message.dead_letter_reason or "", message.dead_letter_error_description or ""
    when, _, error = words.partition(" ")
    moment, _, attempt = when.partition("/")
    if reason in OURS:
        try:
            return Death(reason, float(moment), error.encode(), int(attempt) if attempt else None)
        except ValueError:
            # Somebody else has used one of our reasons.
            return Death(reason, None, _in_words(words))
    return Death(THEIRS.get(reason, reason or "?"), None, _in_words(f"{reason}: {words}"))


def shortened(error: bytes, limit: int) -> bytes:
    """The error in so many bytes: without the beginning of its traceback if need be, or by its kind alone."""
    if len(error) <= limit:
        return error
    try:
        tree: Any = loads(error)
    except CodecError:
        return _in_words("an error that cannot be read")[:limit]
    if not isinstance(tree, dict):
        return _in_words("an error of a kind that cannot be told")[:limit]
    fields = cast("dict[str, Any]", tree)
    trace = str(fields.get("traceback") or "")
    bare = dumps({**fields, "traceback": ""})
    # A character may take six bytes in JSON.
    for room in (limit - len(bare), (limit - len(bare)) // 6):
        if room > 0 and len(short := dumps({**fields, "traceback": f"…{trace[-room + 8 :]}"})) <= limit:
            return short
    if len(bare) <= limit:
        return bare
    return _in_words(f"{fields.get('$', 'an error')}: too large to be kept with its message")[:limit]


def _in_words(text: str) -> bytes:
    return dumps(encode_exception(HoldfastError(text[:2000])))
