"""What the client's errors mean to us: gone for now, set up wrongly, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from azure.core.exceptions import AzureError
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    SessionLockLostError,
)

from holdfast.backends.servicebus.address import Address
from holdfast.errors import ConfigurationError, StoreError, StoreUnavailable
from holdfast.logs import get_logger

log = get_logger("holdfast.servicebus")

T = TypeVar("T")


class Link(Protocol):
    """A sender or receiver of the client."""

    def close(self) -> Awaitable[None]: ...


NOT_ALLOWED = "amqp:not-allowed"
"""The condition of what a queue is not made for."""


class MissingQueue(ConfigurationError):
    """There is no such queue in the namespace."""


@contextmanager
def explained(address: Address, entity: str) -> Generator[None]:
    """Inside, errors of the client become ours: StoreUnavailable, StoreError, ConfigurationError.

    A lost lock stays one, that of a session included, and so does a message that is not there.
    """
    try:
        yield
    except (MessageLockLostError, MessageNotFoundError, SessionLockLostError):
        raise
    except MessagingEntityNotFoundError as error:
        raise MissingQueue(_missing(address, entity)) from error
    except (ServiceBusAuthenticationError, ServiceBusAuthorizationError) as error:
        raise ConfigurationError(
            f"{address.shown} turns us away from {entity!r}: {error}; sending takes the right Send, working and dead "
            "letters the right Listen"
        ) from error
    except MessageSizeExceededError as error:
        raise StoreError(f"{address.shown} takes no message of this size for {entity!r}: {error}") from error
    except (AzureError, OSError, TimeoutError) as error:
        if condition_of(error) == NOT_ALLOWED:
            raise ConfigurationError(_not_allowed(address, entity, error)) from error
        raise StoreUnavailable(
            f"{address.shown} cannot be reached now for {entity!r} ({error}); the same call may succeed later"
        ) from error
    except ValueError as error:
        # The client says so of a link that was closed under it.
        raise StoreUnavailable(f"the link to {entity!r} of {address.shown} was closed: {error}") from error


def condition_of(error: BaseException) -> str | None:
    """What Service Bus calls this error, if it has said so."""
    condition: Any = getattr(error, "_condition", None)
    return condition.decode() if isinstance(condition, bytes) else None if condition is None else str(condition)


def _missing(address: Address, entity: str) -> str:
    if address.has_sessions(entity):
        return (
            f"{address.shown} has no queue {entity!r}, to which jobs with a key go: whoever administers the namespace creates "
            f"it, with sessions (az servicebus queue create --name {entity} --enable-session true --max-delivery-count 2000 …); "
            "what is called otherwise there is mapped by ?keyed="
        )
    return (
        f"{address.shown} has no queue {entity!r}: queues are created by whoever administers the namespace "
        f"(az servicebus queue create --name {entity} …); what is called otherwise there is mapped by ?queues="
    )


def _not_allowed(address: Address, entity: str, error: Exception) -> str:
    if address.has_sessions(entity):
        return (
            f"{address.shown}: jobs with a key need sessions, and {entity!r} has none ({error}); that cannot be switched on "
            "later: create the queue anew with --enable-session true"
        )
    return f"{address.shown} does not let us use {entity!r} ({error}); with sessions it takes jobs with a key alone (?keyed=)"


async def let_go(link: Link | None) -> None:
    """Close a link that may be broken: then there is nothing to be done about it, and the service ends it by itself."""
    if link is None:
        return
    try:
        await link.close()
    except (AzureError, OSError, TimeoutError, ValueError) as error:
        log.debug("link not closed", error=str(error))


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. Who is cancelled meanwhile leaves at once, and the work goes on.

    The client swallows a cancellation now and then: whoever was to end would go on for ever.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_seen)
    return await asyncio.shield(task)


def _seen(task: asyncio.Future[Any]) -> None:
    """Nobody may be there any more to be told."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("request failed", error=str(error))
