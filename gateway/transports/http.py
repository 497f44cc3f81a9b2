"""Everything that is not a WebSocket: hypercorn's HTTP/1.1 and HTTP/2 over our stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from ..limits import Limits
from .stream import ClientStream

__all__ = ["ASGIApp", "HTTPServer", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

KEEP_ALIVE = 60
"""Seconds a connection may be idle between requests: the page polls every few."""


class HTTPServer:
    """Serves an ASGI app on streams that somebody else accepts."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self._app = ASGIWrapper(app)  # type: ignore[arg-type]  # hypercorn's own ASGI types
        self._context = WorkerContext(None)
        self._config = Config()
        self._config.accesslog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = KEEP_ALIVE
        self._config.h11_max_incomplete_size = limits.max_head
        self._config.websocket_max_message_size = limits.max_message

    async def serve(self, stream: ClientStream) -> None:
        """Serve the requests of one client until it or we close. Closes the stream."""
        try:
            await TCPServer(
                self._app,
                self._config,
                self._context,
                ConnectionState(LifespanState()),
                stream,  # type: ignore[arg-type]  # it asks for no more than ours has
            )
        finally:
            with trio.CancelScope(shield=True):  # bounded by limits.close_timeout
                await stream.aclose()

    async def drain(self) -> None:
        """Close idle connections, and the others after the request they are in."""
        await self._context.terminated.set()
