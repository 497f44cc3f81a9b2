"""Serves HTTP/1.1 requests with h11 on a `ClientStream`, one after the other.

An ASGI application answers. The most frequent request, an update, is first offered to `direct`,
which answers it without the application's routing and middleware.

HTTP/2 is not supported: the limits here would not count its streams, and a proxy that forwards it
in clear text would not apply its rules to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from ..model.limits import Limits
from .asgi_types import ASGIApp
from .client_slot import ClientSlot
from .exchange import Exchange, read_request
from .request_head import BadRequest, is_upgrade
from .stream import ClientStream

__all__ = ["Direct", "HTTPServer"]

log = logging.getLogger("gateway.transports")

KEEP_ALIVE = 60
"""Seconds that a connection may be idle between requests: the page polls every few seconds."""

Direct = Callable[[Exchange], Awaitable[bool]]
"""Answers a request and returns True, or does nothing and returns False."""


class HTTPServer:
    """Serves an ASGI application on streams that other code accepts."""

    def __init__(self, app: ASGIApp, *, limits: Limits, direct: Direct | None = None) -> None:
        self._app = app
        self._direct = direct
        self._limits = limits
        self._connections: dict[ClientStream, trio.CancelScope | None] = {}
        """The connections. If one waits for the next request: the scope that ends the wait."""
        self._all_closed = trio.Event()
        self._draining = False

    def __repr__(self) -> str:
        return f"<HTTPServer of {len(self._connections)} connections>"

    async def serve(self, slot: ClientSlot, head: bytes) -> bytes | None:
        """Serves the requests on one connection; `head` is the head of the first one.

        Returns None when the stream is closed. If a request asks for a WebSocket, returns its
        head; the caller then serves the stream.

        Raises:
            BadRequest: The input is not a request, or must not be answered.
            trio.BrokenResourceError: The client has disconnected.
        """
        stream = slot.stream
        self._connections[stream] = None
        try:
            following: bytes | None = head
            while following is not None:
                if is_upgrade(following):
                    return following
                if not await self._answer(slot, following) or self._draining:
                    break
                following = await self._next_head(slot)
            await stream.aclose()
            return None
        finally:
            del self._connections[stream]
            if self._draining and not self._connections:
                self._all_closed.set()

    async def drain(self) -> None:
        """Closes idle connections now, and the others after their current request. Returns when all
        are closed."""
        self._draining = True
        if self._connections:
            for scope in self._connections.values():
                if scope is not None:
                    scope.cancel()
            await self._all_closed.wait()

    def abort(self) -> None:
        """Drops all open connections."""
        for stream in self._connections:
            stream.abort()

    async def _answer(self, slot: ClientSlot, head: bytes) -> bool:
        """Answers a request. Returns whether another request may follow on its connection."""
        exchange = await read_request(slot.stream, head, limits=self._limits, client=slot.address)
        exchange.close_after_response = self._draining
        try:
            if self._direct is None or not await self._direct(exchange):
                await self._app(exchange.scope(), exchange.receive, exchange.send)
        except BadRequest:
            raise
        except Exception:
            if not exchange.client_disconnected:
                log.exception("unexpected error in a request")
        finally:
            slot.request_answered(len(exchange.body) + exchange.sent)
        if exchange.client_disconnected:
            raise trio.BrokenResourceError("the client has disconnected")
        if not exchange.answered:
            if exchange.started:
                raise trio.BrokenResourceError("the response is incomplete")
            with suppress(OSError):
                await exchange.send({"type": "http.response.start", "status": 500})
                await exchange.send({"type": "http.response.body"})
            return False
        return exchange.reusable

    async def _next_head(self, slot: ClientSlot) -> bytes | None:
        """Returns the head of the next request; None if there is none, or the server drains."""
        begun = slot.stream.take_unread()
        if not begun:
            with trio.move_on_after(KEEP_ALIVE) as scope:
                self._connections[slot.stream] = scope
                begun = await slot.stream.receive_some()
            self._connections[slot.stream] = None
        return await slot.next_head(begun=begun) if begun else None
