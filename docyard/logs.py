"""Log lines: structlog set up once, at the edge, for docyard's own events and for libraries' messages.

Lines go to standard error, whatever it is at the moment of writing (a progress bar puts itself before it).
Every event is in ``docs/events.md``. A library's message is the event ``library.logged``.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import structlog

from docyard_schema.connection_string import mask_password

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "console", "json"]

_SECRET_WORDS = ("password", "secret", "api_key", "token_value", "authorization")


def configure(level: str = "info", form: LogFormat = "auto", *, few_job_events: int | None = None) -> None:
    """Set up logging for this process; a second call replaces the first.

    ``form`` of ``auto`` is console lines on a terminal, JSON lines elsewhere. ``few_job_events`` lets only so
    many ``job.*`` events through, for when a progress bar counts them.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
    ]
    if few_job_events is not None:
        shared.append(_AtMost(few_job_events))
    ending: list[Processor] = [structlog.processors.format_exc_info, mask_secrets, _event_first]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=_in_colour())
        if console
        else structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    )
    structlog.configure(
        processors=[*shared, *ending, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=False,
    )
    _configure_libraries(max(number, logging.WARNING), [*shared, _as_library_event, *ending], renderer)


def mask_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A processor: passwords in texts are masked, and values whose names say that they are secret."""
    for name, value in event.items():
        if any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = "***"
        elif isinstance(value, str):
            event[name] = mask_password(value)
    return event


def _event_first(_logger: Any, _method: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}


class _AtMost:
    """Drops events of jobs after the first few."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        if str(event.get("event", "")).startswith("job."):
            if self._left <= 0:
                raise structlog.DropEvent
            self._left -= 1
        return event


class _StandardError(io.TextIOBase):
    """A file that is always the present ``sys.stderr``."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _configure_libraries(level: int, before: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(_StandardError())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)


def _as_library_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> EventDict:
    message = event.pop("event")
    event.update(event="library.logged", library=event["_record"].name, message=message)
    return event


def _in_colour() -> bool:
    import os

    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
