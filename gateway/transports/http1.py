"""Everything that is not a WebSocket: HTTP/1.1 by h11 over our stream, request after request.

An ASGI application answers. The most frequent request, an update, is first offered to `direct`,
which answers it without the application's routing and middleware.

HTTP/2 is not supported: the limits here would not count its streams, and as clear text it would
pass through a proxy as bytes to which the proxy applies no rules.
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
"""Seconds a connection may be idle between requests: the page polls every few."""

Direct = Callable[[Exchange], Awaitable[bool]]
"""Answers a request, or returns False before it has done anything about it."""


class HTTPServer:
    """Serves an ASGI application on streams that other code accepts."""

    def __init__(self, app: ASGIApp, *, limits: Limits, direct: Direct | None = None) -> None:
        self._app = app
        self._direct = direct
        self._limits = limits
        self._idle: dict[ClientStream, trio.CancelScope | None] = {}
        """The connections; those between two requests with what ends their waiting."""
        self._none_left = trio.Event()
        self._draining = False

    def __repr__(self) -> str:
        return f"<HTTPServer of {len(self._idle)} connections>"

    async def serve(self, slot: ClientSlot, head: bytes) -> bytes | None:
        """Serve the requests on one connection, of which `head` is the first one's.

        Returns None when the stream is closed; or the head of a request that asks for a
        WebSocket, with the stream to be served otherwise from there on.

        Raises:
            BadRequest: The input is not a request, or must not be answered.
            trio.BrokenResourceError: The client has disconnected.
        """
        stream = slot.stream
        self._idle[stream] = None
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
            del self._idle[stream]
            if self._draining and not self._idle:
                self._none_left.set()

    async def drain(self) -> None:
        """Close idle connections now, the others after their current request. Returns when all are
        closed.
        """
        self._draining = True
        if self._idle:
            for scope in self._idle.values():
                if scope is not None:
                    scope.cancel()
            await self._none_left.wait()

    def abort(self) -> None:
        """Drop the connections that are left."""
        for stream in self._idle:
            stream.abort()

    async def _answer(self, slot: ClientSlot, head: bytes) -> bool:
        """Answer a request; whether another may follow on its connection."""
        exchange = await read_request(slot.stream, head, limits=self._limits, client=slot.address)
        exchange.closing = self._draining
        try:
            if self._direct is None or not await self._direct(exchange):
                await self._app(exchange.scope(), exchange.receive, exchange.send)
        except BadRequest:
            raise
        except Exception:
            if not exchange.client_left:
                log.exception("unexpected error in a request")
        finally:
            slot.request_answered(len(exchange.body) + exchange.sent)
        if exchange.client_left:
            raise trio.BrokenResourceError("the client left")
        if not exchange.answered:
            if exchange.started:
                raise trio.BrokenResourceError("half a response")
            with suppress(OSError):
                await exchange.send({"type": "http.response.start", "status": 500})
                await exchange.send({"type": "http.response.body"})
            return False
        return exchange.reusable

    async def _next_head(self, slot: ClientSlot) -> bytes | None:
        """The head of the next request; None if the client has none, or the server drains."""
        begun = slot.stream.take_unread()
        if not begun:
            with trio.move_on_after(KEEP_ALIVE) as scope:
                self._idle[slot.stream] = scope
                begun = await slot.stream.receive_some()
            self._idle[slot.stream] = None
        return await slot.next_head(begun=begun) if begun else None
