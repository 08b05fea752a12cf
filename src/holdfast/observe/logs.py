"""Logging set up: for people on a terminal, or one JSON object a line. Touches only Holdfast's own loggers."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog


def configure_logging(format: Literal["auto", "human", "json"] = "auto", level: str = "info") -> None:
    """Send Holdfast's logs to standard error, in this format and from this level on."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
