"""fennel's application: blocking unless it is said to be async, and named by the URL of a Redis server.

app = App(name="myapp", redis_url="redis://127.0.0.1")
"""

from __future__ import annotations

from typing import Any, Literal, overload

from holdfast import app, sync

__all__ = ["App"]


@overload
def App(
    name: str, *, interface: Literal["sync"] = "sync", redis_url: str | None = None, **options: Any
) -> sync.App: ...
@overload
def App(name: str, *, interface: Literal["async"], redis_url: str | None = None, **options: Any) -> app.App: ...
def App(name: str, *, interface: Any = "sync", redis_url: str | None = None, **options: Any) -> Any:
    """An App for tasks; takes what `holdfast.App` takes, too."""
    if redis_url is not None:
        options["url"] = redis_url
    return app.App(name, interface=interface, **options)
