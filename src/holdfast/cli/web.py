"""`holdfast web`: serve the dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import socket
from typing import Any

import click

from holdfast.app import App
from holdfast.cli.common import find_app
from holdfast.errors import ConfigurationError
from holdfast.logs import configure_logging
from holdfast.web import dashboard


@click.command()
@click.argument("target", metavar="MODULE:APP", required=False)
@click.option("--app", "named", metavar="MODULE:APP", help="The same, as other commands take it.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0: any that is free.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="Another name by which it is reached.")
@click.option("--read-only", is_flag=True, help="Show everything, and change nothing.")
@click.option("--url", help="The database, instead of HOLDFAST_DATABASE_URL.")
@click.option("--tasks-url", help="Where jobs lie, instead of HOLDFAST_TASKS_URL.")
def web(
    target: str | None,
    named: str | None,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    read_only: bool,
    url: str | None,
    tasks_url: str | None,
) -> None:
    """Serve the dashboard: workers, queues, jobs, dead letters, workflows and schedules in a browser.

    At an address that others reach it needs a token: HOLDFAST_WEB_TOKEN.
    """
    app = find_app(target or named, url, tasks_url=tasks_url)
    configure_logging(app.settings.log_format, app.settings.log_level)
    app.import_user_modules()
    served = _served(app, host, hosts, read_only=read_only)
    uvicorn = _uvicorn()
    with _listening(host, port) as listener:
        number = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        asyncio.run(_serve(app, uvicorn, served, listener, f"http://{shown}:{number}"))


def _served(app: App, host: str, hosts: tuple[str, ...], *, read_only: bool) -> Any:
    """The dashboard as it is safe at this address. Raises ConfigurationError where it is not."""
    # Only where whoever asks may be a page of somebody else's whose name leads here.
    from holdfast.web.access import LOOPBACK_NAMES, MAKE_TOKEN, is_loopback

    near = is_loopback(host)
    # Behind a proxy, others come by a name of the proxy's.
    ways = ([] if near else [f"at {host}"]) + [f"by the name {name}" for name in hosts if not is_loopback(name)]
    if ways and app.settings.web_token is None:
        raise ConfigurationError(
            f"{ways[0]} others reach the dashboard, and it has no token: set HOLDFAST_WEB_TOKEN, or stay at 127.0.0.1 and its "
            f"names; {MAKE_TOKEN}"
        )
    names = {*LOOPBACK_NAMES, host, *hosts} if near or hosts else None
    return dashboard(app, unprotected=near, read_only=read_only, hosts=names)


def _uvicorn() -> Any:
    try:
        return importlib.import_module("uvicorn")
    except ImportError as error:
        raise ConfigurationError("the dashboard is served by uvicorn: pip install 'holdfast[web]'") from error


def _listening(host: str, port: int) -> contextlib.closing[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return contextlib.closing(socket.create_server((host.strip("[]"), port), family=family))
    except OSError as error:
        raise ConfigurationError(
            f"the dashboard cannot be served at {host} port {port}: {error}; choose another --port"
        ) from error


async def _serve(app: App, uvicorn: Any, served: Any, listener: socket.socket, place: str) -> None:
    await app.open(create=False)
    try:
        click.echo(f"dashboard of {app.name} at {place}")
        config = uvicorn.Config(
            served, lifespan="on", log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            # When it has ended it sends itself the signal once more: that must not end this process before the App is closed.
            asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
        await server.serve(sockets=[listener])
    finally:
        await app.close()
