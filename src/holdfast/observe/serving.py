"""The HTTP port of a worker: `/livez`, `/readyz` and `/metrics`, from threads of its own. Judges and counts nothing.

A blocked event loop can answer nothing; these threads answer that it is blocked.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from holdfast.errors import ConfigurationError
from holdfast.logs import get_logger
from holdfast.observe.health import Health
from holdfast.observe.metrics import Exposition
from holdfast.runtime.counting import Numbers

log = get_logger("holdfast.metrics")

SLOW = 10.0
"""Seconds that a caller has to say what it wants."""


class Port:
    """Answers at an address, from its making until it is closed. Raises ConfigurationError where it cannot listen there."""

    def __init__(self, host: str, port: int, *, health: Callable[[], Health], numbers: Callable[[], Numbers]) -> None:
        self._server = _listening(host, port, _answering(health, Exposition(numbers)))
        self.number: int = self._server.server_address[1]
        """The port, also where any that is free was asked for."""
        log.info("metrics served", host=host, port=self.number)
        threading.Thread(target=self._server.serve_forever, name="holdfast-metrics", daemon=True).start()

    def close(self) -> None:
        """Answer no more. Blocks for half a second at most."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    # A caller that never ends must keep no worker from ending.
    daemon_threads = True
    block_on_close = False


class _Server6(_Server):
    address_family = socket.AF_INET6


def _listening(host: str, port: int, answering: type[BaseHTTPRequestHandler]) -> _Server:
    try:
        return (_Server6 if ":" in host else _Server)((host, port), answering)
    except OSError as error:
        hint = "HOLDFAST_METRICS_PORT or HOLDFAST_METRICS_HOST"
        raise ConfigurationError(f"metrics cannot be served at {host} port {port}: {error}; change {hint}") from error


def _answering(health: Callable[[], Health], exposition: Exposition) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        timeout = SLOW
        server_version = "holdfast"
        sys_version = ""

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/livez":
                    self._say_whether(health().dead)
                case "/readyz":
                    self._say_whether(health().unready)
                case "/metrics":
                    body, kind = exposition.answer(self.headers.get("Accept") or "")
                    self._say(HTTPStatus.OK, body, kind)
                case _:
                    words = b"there is /livez, /readyz and /metrics\n"
                    self._say(HTTPStatus.NOT_FOUND, words, "text/plain; charset=utf-8")

        do_HEAD = do_GET

        def _say_whether(self, reasons: Sequence[str]) -> None:
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            said = {"ok": not reasons, "reasons": list(reasons)}
            self._say(status, orjson.dumps(said) + b"\n", "application/json")

        def _say(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug("asked", request=format % args)

    return Answering
