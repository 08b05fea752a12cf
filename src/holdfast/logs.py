"""Logs: a constant phrase and fields, through the standard `logging`. An application's own set-up stays in charge.

Loggers are named `holdfast.…`; unconfigured, only warnings and errors show, as is usual for a library.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog


def get_logger(name: str) -> Any:
    """A logger whose verbs take a phrase and fields: `log.info("job settled", job=id)`."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _hand_over],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def configure_logging(format: Literal["auto", "human", "json"] = "auto", level: str = "info") -> None:
    """Show Holdfast's logs on standard error, from `level` on: for people, or one JSON object a line."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    render: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                _take_over,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                *([structlog.processors.format_exc_info] if as_json else []),
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logger = logging.getLogger("holdfast")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())


def _hand_over(_logger: Any, _method: str, event: structlog.typing.EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """To standard logging: the phrase with its fields as text, and the fields beside it for whoever formats them."""
    exc_info = event.pop("exc_info", None)
    phrase = str(event.pop("event"))
    # A traceback that is text already goes below the line, as one that is not.
    trace = event.pop("exception", "")
    text = " ".join([phrase, *(f"{name}={value!r}" for name, value in event.items())])
    if trace:
        text = f"{text}\n{trace}"
        event["exception"] = trace
    extra = {"holdfast_phrase": phrase, "holdfast_fields": event}
    return (text,), {"extra": extra, "exc_info": exc_info}


def _take_over(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """From standard logging back to a phrase and fields."""
    record: logging.LogRecord = event["_record"]
    fields = getattr(record, "holdfast_fields", None)
    if fields is not None:
        event["event"] = getattr(record, "holdfast_phrase", event["event"])
        event.update(fields)
    return event
