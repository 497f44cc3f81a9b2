"""Logs warnings of workers with the logger `gateway.worker`.

It catches exceptions of log handlers, because they would end a sender's thread, or replace the
exception of the user's code.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress

__all__ = ["warn"]

_log = logging.getLogger("gateway.worker")


def warn(
    text: str,
    *arguments: object,
    cause: Exception | None = None,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Logs a warning, or, if there is a `cause` (a defect), an error with its traceback.

    `extra` has attributes of the log record, as in `logging`.
    """
    level = logging.WARNING if cause is None else logging.ERROR
    if sys.is_finalizing():
        with suppress(Exception):  # at interpreter shutdown modules may be missing
            if not _is_handler_stuck():
                _log.log(level, text, *arguments)
        return
    try:
        _log.log(level, text, *arguments, exc_info=cause, extra=extra, stacklevel=2)
    except Exception:  # noqa: BLE001 - a handler's; shown as `logging` itself shows them
        if logging.raiseExceptions:
            traceback.print_exc()


def _is_handler_stuck() -> bool:
    """Returns whether a thread that the interpreter has stopped holds the lock of a handler."""
    for handler in _handlers():
        if handler.lock is not None:
            if not handler.lock.acquire(timeout=0.1):
                return True
            handler.lock.release()
    return False


def _handlers() -> Iterator[logging.Handler]:
    logger: logging.Logger | None = _log
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
