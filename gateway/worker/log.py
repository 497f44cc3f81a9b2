"""What workers say to the log, as `gateway.worker`. Nothing comes back of it, whatever its
handlers raise: it would end a sender's thread, or take the place of the user's own exception.
"""

from __future__ import annotations

import logging
import traceback

__all__ = ["warn"]

_log = logging.getLogger("gateway.worker")


def warn(text: str, *arguments: object, cause: Exception | None = None) -> None:
    """Log a warning; if it has a `cause`, which is a defect, an error with its traceback."""
    level = logging.WARNING if cause is None else logging.ERROR
    try:
        _log.log(level, text, *arguments, exc_info=cause, stacklevel=2)
    except Exception:  # noqa: BLE001 - a handler's; shown as `logging` itself shows them
        if logging.raiseExceptions:
            traceback.print_exc()
