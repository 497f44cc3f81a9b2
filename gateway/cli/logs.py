"""The log of a command: lines at a terminal, JSON elsewhere.

The modules log through the standard library's `logging`, so that a program that embeds the
gateway keeps its own logging. Here a record becomes named values (structlog): the message, the
log context of the task (`structlog.contextvars`), and `extra`. Control characters are always
escaped, because text from a client must neither begin a new line nor control a terminal.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from .terminal import escape, for_terminal

__all__ = ["Flood", "log_to_stderr"]

PER_SECOND: Final = 20
"""Lines of one kind a second. If a thousand clients lose their connections at once, a few lines say
as much as a thousand; omitted lines are counted."""
KINDS: Final = 1_000
"""Kinds of lines that are counted; there are as many as log calls."""

Event = MutableMapping[str, Any]


def log_to_stderr(level: str, *, form: str | None = None) -> None:
    """Sends all logs of this process to stderr.

    Args:
        level: The lowest level that is logged.
        form: A format of `logging`, for commands whose purpose is their own output. Without it,
            structured lines at a terminal, JSON elsewhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Flood())
    handler.setFormatter(_structured(sys.stderr.isatty()) if form is None else _Lines(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Lines(logging.Formatter):
    """Formats records as lines for people. A terminal gets no control characters."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")  # a traceback has several
        return "\n".join(for_terminal(line, sys.stderr) for line in lines)


def _structured(terminal: bool) -> logging.Formatter:
    import structlog  # of the server's packages: a worker's commands log plain lines
    from structlog.stdlib import ExtraAdder, ProcessorFormatter

    first: list[Callable[..., Any]] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
        _escape,
    ]
    last: list[Callable[..., Any]] = [ProcessorFormatter.remove_processors_meta]
    if terminal:
        last.append(structlog.dev.ConsoleRenderer())
    else:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return ProcessorFormatter(foreign_pre_chain=first, processors=last)


def _escape(logger: Any, method: str, event: Event) -> Event:
    """Escapes control characters in all texts of an event."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escape(value)
    return event


class Flood(logging.Filter):
    """Passes `PER_SECOND` lines of a kind each second; the next one says how many were omitted.

    Lines are of one kind if they come from the same log call, with any values.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._of: dict[tuple[str, int], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.pathname, record.lineno)
        kind = self._of.get(key)
        if kind is None:
            if len(self._of) >= KINDS:
                self._of.clear()
            kind = self._of[key] = _Kind()
        return kind.passes(record, self._clock())


class _Kind:
    def __init__(self) -> None:
        self._since = float("-inf")
        self._passed = 0
        self._omitted = 0

    def passes(self, record: logging.LogRecord, now: float) -> bool:
        if now - self._since >= 1:
            self._since, self._passed = now, 0
        if self._passed >= PER_SECOND:
            self._omitted += 1
            return False
        self._passed += 1
        if self._omitted:
            record.omitted = self._omitted
            self._omitted = 0
        return True
