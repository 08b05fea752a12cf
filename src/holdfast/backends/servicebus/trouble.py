"""What the client's errors mean to us: gone for now, set up wrongly, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from azure.core.exceptions import AzureError
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
)

from holdfast.backends.servicebus.address import Address
from holdfast.errors import ConfigurationError, StoreError, StoreUnavailable
from holdfast.logs import get_logger

log = get_logger("holdfast.servicebus")

T = TypeVar("T")


class Link(Protocol):
    """A sender or receiver of the client."""

    def close(self) -> Awaitable[None]: ...


@contextmanager
def explained(address: Address, entity: str) -> Generator[None]:
    """Inside, errors of the client become ours: StoreUnavailable, StoreError, ConfigurationError. A lost lock stays one."""
    try:
        yield
    except MessageLockLostError:
        raise
    except MessagingEntityNotFoundError as error:
        raise ConfigurationError(
            f"{address.shown} has no queue {entity!r}: queues are created by whoever administers the namespace "
            f"(az servicebus queue create --name {entity} …); what is called otherwise there is mapped by ?queues="
        ) from error
    except (ServiceBusAuthenticationError, ServiceBusAuthorizationError) as error:
        raise ConfigurationError(
            f"{address.shown} turns us away from {entity!r}: {error}; sending takes the right Send, working and dead "
            "letters the right Listen"
        ) from error
    except MessageSizeExceededError as error:
        raise StoreError(f"{address.shown} takes no message of this size for {entity!r}: {error}") from error
    except (AzureError, OSError, TimeoutError) as error:
        raise StoreUnavailable(
            f"{address.shown} cannot be reached now for {entity!r} ({error}); the same call may succeed later"
        ) from error
    except ValueError as error:
        # The client says so of a link that was closed under it.
        raise StoreUnavailable(f"the link to {entity!r} of {address.shown} was closed: {error}") from error


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
