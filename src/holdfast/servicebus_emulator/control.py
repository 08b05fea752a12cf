"""What tests can tell a running emulator: a line of JSON each, and a line of JSON in answer. Reads and writes no file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from holdfast.errors import ConfigurationError
from holdfast.servicebus_emulator.broker import Broker
from holdfast.servicebus_emulator.entities.options import queue_options
from holdfast.servicebus_emulator.faults import Swallow

Order: TypeAlias = dict[str, Any]


class Control:
    """Does what a line says. `bounce` closes all connections."""

    def __init__(self, broker: Broker, bounce: Callable[[], int]) -> None:
        self._broker = broker
        self._bounce = bounce
        self._verbs: dict[str, Callable[[Order], Order]] = {
            "queue": self._queue,
            "counts": self._counts,
            "sessions": self._sessions,
            "move": self._move,
            "bounce": self._bounced,
            "swallow": self._swallow,
            "delay": self._delay,
        }

    def act(self, line: str) -> str:
        """Do what `line` says; the answer, with `ok` and, if that is false, `error`."""
        try:
            order = json.loads(line)
            verb = self._verbs.get(order.get("do"))
            if verb is None:
                raise ConfigurationError(f"do one of {', '.join(self._verbs)}")
            return json.dumps({"ok": True, **verb(order)})
        except (ValueError, TypeError, KeyError, AttributeError, ConfigurationError) as error:
            return json.dumps({"ok": False, "error": f"{type(error).__name__}: {error}"})

    def _queue(self, order: Order) -> Order:
        name = str(order["name"])
        self._broker.declare(name, queue_options(name, order.get("options", {})))
        return {}

    def _counts(self, order: Order) -> Order:
        return {"queues": self._broker.counts()}

    def _sessions(self, order: Order) -> Order:
        return {"queues": self._broker.session_counts()}

    def _move(self, order: Order) -> Order:
        seconds = float(order["seconds"])
        if seconds < 0:
            raise ValueError("time moves forward only")
        self._broker.move(seconds)
        return {"offset": self._broker.offset}

    def _bounced(self, order: Order) -> Order:
        self._broker.faults.refusing_until = self._broker.now() + float(order.get("refuse", 0.0))
        return {"closed": self._bounce()}

    def _swallow(self, order: Order) -> Order:
        count = order.get("count")
        self._broker.faults.swallow(Swallow(order["what"]), None if count is None else int(count))
        return {}

    def _delay(self, order: Order) -> Order:
        self._broker.faults.delay = max(0.0, float(order["seconds"]))
        return {}
