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
        self._serving: dict[WorkerContext, ClientStream] = {}
        self._none_left = trio.Event()
        self._draining = False
        self._config = Config()
        self._config.accesslog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = KEEP_ALIVE
        self._config.h11_max_incomplete_size = limits.max_head
        self._config.websocket_max_message_size = limits.max_message

    async def serve(self, stream: ClientStream) -> None:
        """Serve the requests of one client until it or we close. Closes the stream."""
        context = WorkerContext(None)
        if self._draining:
            await context.terminated.set()
        self._serving[context] = stream
        try:
            await _Connection(
                self._app,
                self._config,
                context,
                ConnectionState(LifespanState()),
                stream,  # type: ignore[arg-type]  # it asks for no more than ours has
            )
        finally:
            try:
                await stream.aclose()
            finally:
                del self._serving[context]
                if self._draining and not self._serving:
                    self._none_left.set()

    async def drain(self) -> None:
        """Close idle connections, and the others after the request they are in.

        Returns when all are closed.
        """
        self._draining = True
        if self._serving:
            for context in list(self._serving):
                await context.terminated.set()
            await self._none_left.wait()

    def abort(self) -> None:
        """Drop who is left. To be cancelled is not enough: hypercorn shields its sends."""
        for stream in self._serving.values():
            stream.abort()


class _Connection(TCPServer):
    """hypercorn's, which alone would outlive its client: when the client is gone its idle
    timer runs on, and with it the task and the descriptor, for the rest of `KEEP_ALIVE`."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.context.terminated.set()  # of this connection: each has its own
