"""`holdfast servicebus-emulator`: a local stand-in for Azure Service Bus."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import click

from holdfast.errors import ConfigurationError
from holdfast.logs import configure_logging
from holdfast.servicebus_emulator.broker import Broker
from holdfast.servicebus_emulator.connection import Limits
from holdfast.servicebus_emulator.entities.options import QueueOptions, parse_queue, read_config
from holdfast.servicebus_emulator.faults import Faults, Swallow
from holdfast.servicebus_emulator.server import Server, connection_string


@click.command("servicebus-emulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=5672, show_default=True, help="The port to listen on; 0 picks a free one.")
@click.option("--queue", "queues", multiple=True, metavar="NAME[:OPTION=VALUE,…]", help="A queue; may be given often.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Queues in a JSON file.")
@click.option(
    "--auto-create/--no-auto-create", default=True, show_default=True, help="Make queues when they are first used."
)
@click.option("--swallow", multiple=True, metavar="WHAT[:N]", help="Swallow settlements, outcomes or receipts.")
@click.option("--delay", type=click.FloatRange(min=0), default=0.0, help="Seconds by which answers are late.")
@click.option("--clock-offset", type=click.FloatRange(min=0), default=0.0, help="Seconds by which its clock is fast.")
@click.option(
    "--max-message-size", type=click.IntRange(min=1024), default=1_048_576, show_default=True, help="In bytes."
)
@click.option("--control", is_flag=True, help="Obey lines of JSON on standard input, and end with it.")
@click.option("--ready-fd", type=int, help="Write the connection string to this file descriptor as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a sentence.")
def servicebus_emulator(
    host: str,
    port: int,
    queues: tuple[str, ...],
    config: Path | None,
    auto_create: bool,
    swallow: tuple[str, ...],
    delay: float,
    clock_offset: float,
    max_message_size: int,
    control: bool,
    ready_fd: int | None,
    as_json: bool,
) -> None:
    """Stand in for Azure Service Bus on this machine. Messages are kept in memory only."""
    configure_logging()
    declared: dict[str, QueueOptions] = {} if config is None else read_config(config)
    declared.update(parse_queue(text) for text in queues)

    async def serve() -> None:
        broker = Broker(declared, auto_create=auto_create)
        broker.offset = clock_offset
        broker.faults.delay = delay
        for text in swallow:
            _swallow(broker.faults, text)
        server = Server(broker, limits=Limits(message_size=max_message_size))
        taken = await server.listen(host, port)
        string = connection_string(host, taken)
        _say(
            json.dumps({"connection_string": string, "host": host, "port": taken})
            if as_json
            else f"Service Bus emulator (in memory only) ready: {string}"
        )
        if ready_fd is not None:
            with os.fdopen(ready_fd, "w") as ready:
                ready.write(f"{string}\n")
        await server.run(say=_say if control else None)

    asyncio.run(serve())


def _swallow(faults: Faults, text: str) -> None:
    what, colon, count = text.partition(":")
    try:
        faults.swallow(Swallow(what), int(count) if colon else None)
    except ValueError as error:
        raise ConfigurationError(f"--swallow {text}: write one of {', '.join(Swallow)}, and perhaps :N") from error


def _say(line: str) -> None:
    # Whoever started this may wait for the line at the other end of a pipe.
    print(line, flush=True)
