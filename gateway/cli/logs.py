"""The log of a command: lines in a terminal, JSON otherwise.

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

__all__ = ["RateLimitFilter", "log_to_stderr"]

MAX_LINES_PER_SECOND: Final = 20
"""The maximum number of lines per second from one log call. If a thousand clients lose their
connections at once, a few lines are as useful as a thousand. Omitted lines are counted."""
MAX_CALL_SITES: Final = 1_000
"""The maximum number of log calls whose lines are counted."""

Event = MutableMapping[str, Any]


def log_to_stderr(level: str, *, line_format: str | None = None) -> None:
    """Sends all logs of this process to stderr.

    Args:
        level: The lowest level that is logged.
        line_format: A format of `logging`, for commands that print other output. Without it the log
            has structured lines in a terminal, JSON otherwise.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RateLimitFilter())
    handler.setFormatter(
        _structured_formatter(sys.stderr.isatty())
        if line_format is None
        else _LineFormatter(line_format)
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _LineFormatter(logging.Formatter):
    """Formats records as lines of text, without control characters in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")  # a traceback has several
        return "\n".join(for_terminal(line, sys.stderr) for line in lines)


def _structured_formatter(for_terminal: bool) -> logging.Formatter:
    import structlog  # in the extra `server`; commands without it log plain lines
    from structlog.stdlib import ExtraAdder, ProcessorFormatter

    first: list[Callable[..., Any]] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=not for_terminal),
        _escape,
    ]
    last: list[Callable[..., Any]] = [ProcessorFormatter.remove_processors_meta]
    if for_terminal:
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


class RateLimitFilter(logging.Filter):
    """Passes at most `MAX_LINES_PER_SECOND` lines per second from each log call. The next line
    after that has the number of omitted ones (`omitted`).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._by_call_site: dict[tuple[str, int], _CallSite] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.pathname, record.lineno)
        call_site = self._by_call_site.get(key)
        if call_site is None:
            if len(self._by_call_site) >= MAX_CALL_SITES:
                self._by_call_site.clear()
            call_site = self._by_call_site[key] = _CallSite()
        return call_site.passes(record, self._clock())


class _CallSite:
    def __init__(self) -> None:
        self._second_began_at = float("-inf")
        self._passed_count = 0
        self._omitted_count = 0

    def passes(self, record: logging.LogRecord, now: float) -> bool:
        if now - self._second_began_at >= 1:
            self._second_began_at, self._passed_count = now, 0
        if self._passed_count >= MAX_LINES_PER_SECOND:
            self._omitted_count += 1
            return False
        self._passed_count += 1
        if self._omitted_count:
            record.omitted = self._omitted_count
            self._omitted_count = 0
        return True
