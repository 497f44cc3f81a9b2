"""A guard around each connection of hypercorn, for gateways that are hosted with it.

hypercorn 0.18 has none. If a client's input makes its WebSocket code raise (one byte after a
rejected upgrade request is enough), the error leaves the connection's task and then the nursery
of all connections, and the process ends with code 0. With the guard only that connection ends.

The guard replaces a private method. So it is only installed for versions of hypercorn that were
inspected and that the attack tests run with.
"""

from __future__ import annotations

import logging
import sys
from functools import wraps
from importlib.metadata import version
from typing import Any

import trio

from ..model.errors import InvalidSettings

__all__ = ["TESTED", "guard_hypercorn"]

log = logging.getLogger("gateway.transports")

TESTED = ("0.18.0",)
"""The versions of hypercorn that the guard fits."""
_SERVER = "hypercorn.trio.tcp_server"


def guard_hypercorn() -> None:
    """Installs the guard, if hypercorn is the server here. Idempotent.

    Raises:
        InvalidSettings: This version was not tested with the guard.
    """
    module: Any = sys.modules.get(_SERVER)
    if module is None or getattr(module.TCPServer.run, "is_guarded", False):
        return
    installed = version("hypercorn")
    if installed not in TESTED:
        raise InvalidSettings(
            f"hypercorn {installed} is not one of the tested versions ({', '.join(TESTED)}), and a "
            "single client may be able to end it: install one of them, or use `gateway serve`",
            field="hypercorn_guard",
        )
    module.TCPServer.run = _guarded(module.TCPServer.run)


def _guarded(run: Any) -> Any:
    @wraps(run)
    async def guarded(self: Any) -> None:
        try:
            await run(self)
        except* Exception as group:
            log.debug("error in hypercorn, caused by a client's input", exc_info=group)
            await trio.aclose_forcefully(self.stream)

    guarded.is_guarded = True  # type: ignore[attr-defined]  # a mark
    return guarded
