"""Lifespans: what is set up once in a worker process and torn down at its end, and the state that its tasks get of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from holdfast.errors import ConfigurationError


class HasState(Protocol):
    """An App."""

    state: Any


Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""A function of the App that gives an async context manager, as those of Starlette and FastAPI."""


@asynccontextmanager
async def state_of(app: HasState, lifespan: Lifespan | None) -> AsyncGenerator[Any, None]:
    """What the lifespan gives, or else the state that the App has. Inside, it is the App's."""
    if lifespan is None:
        yield app.state
        return
    before = app.state
    async with lifespan(app) as given:
        app.state = before if given is None else given
        try:
            yield app.state
        finally:
            app.state = before


def check_lifespan(lifespan: object) -> None:
    """Raise ConfigurationError for what is no function; None is none."""
    if lifespan is not None and not callable(lifespan):
        raise ConfigurationError(
            f"lifespan= is a function of the App, decorated with @asynccontextmanager, not {lifespan!r}"
        )
