"""What the log looks like: to a person at a terminal, lines; to whatever collects it, JSON.

The modules log by the standard library's `logging`, so that whoever embeds the gateway
keeps theirs. Here a line becomes a record of named values (structlog): what was said, what
the task is about (`gateway.about`), and `extra`. Control characters are escaped, for what
a client sent must not become a line of its own, or move a terminal's cursor.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from ..about import facts

__all__ = ["Flood", "log_to_stderr"]

PER_SECOND: Final = 20
"""Lines of one kind a second. A thousand clients that are cut off at once are one fact, not
a thousand; what is left out is counted."""
KINDS: Final = 1_000
"""Kinds of lines that are told apart; there are as many as log calls."""

Event = MutableMapping[str, Any]

_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\t")
} | {ord("\n"): "\\n", ord("\r"): "\\r", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def log_to_stderr(level: str, *, form: str | None = None) -> None:
    """Send all logs of this process to stderr. `form` is one of `logging`'s, for commands
    whose own output is the point; without it, lines or JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Flood())
    handler.setFormatter(
        _structured(sys.stderr.isatty()) if form is None else logging.Formatter(form)
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _structured(terminal: bool) -> logging.Formatter:
    first: list[Callable[..., Any]] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        _add_facts,
        structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
        _escape,
    ]
    last: list[Callable[..., Any]] = [ProcessorFormatter.remove_processors_meta]
    if terminal:
        last.append(structlog.dev.ConsoleRenderer())
    else:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return ProcessorFormatter(foreign_pre_chain=first, processors=last)


def _add_facts(logger: Any, method: str, event: Event) -> Event:
    for name, value in facts().items():
        event.setdefault(name, value)
    return event


def _escape(logger: Any, method: str, event: Event) -> Event:
    """Make the texts of an event single lines, whatever is in them."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = value.translate(_ESCAPES)
    return event


class Flood(logging.Filter):
    """Lets `PER_SECOND` lines of a kind pass each second; the next says how many did not.

    Lines are of one kind if the same call has made them, whatever the values in them.
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
        self._left_out = 0

    def passes(self, record: logging.LogRecord, now: float) -> bool:
        if now - self._since >= 1:
            self._since, self._passed = now, 0
        if self._passed >= PER_SECOND:
            self._left_out += 1
            return False
        self._passed += 1
        if self._left_out:
            record.left_out = self._left_out
            self._left_out = 0
        return True
