"""Everything that is not a WebSocket: hypercorn's HTTP/1.1 over our stream.

HTTP/2 is for proxies to speak with browsers: its streams are requests that no bound of ours
would count, and in clear text it passes through a proxy as bytes that no rule of it sees.
So hypercorn is given one request at a time, its head read by us, and without what it offers
to speak instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from ..limits import Limits
from .guest import Guest
from .head import BadHead, is_upgrade
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

    async def serve(self, guest: Guest, head: bytes) -> bytes | None:
        """Serve the requests on one connection, of which `head` is the first one's.

        Returns None when it or we have closed the stream; or the head of a request that
        asks for a WebSocket, with the stream to be served otherwise from there on.
        Raises `BadHead` if what follows a request is none, or may not be answered.
        """
        context = WorkerContext(None)
        if self._draining:
            await context.terminated.set()
        self._serving[context] = guest.stream
        connection = _Connection(self._app, self._config, context, guest, head)
        try:
            await connection
        finally:
            try:
                if connection.left is None:
                    await guest.stream.aclose()
            finally:
                # The two hold each other, so only the collector would find them. (It has none
                # if its client was gone at once.)
                vars(connection).pop("protocol", None)
                del self._serving[context]
                if self._draining and not self._serving:
                    self._none_left.set()
        if isinstance(connection.left, BadHead):
            raise connection.left
        return connection.left

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


class _Request(h11.Connection):
    """What hypercorn sees of a connection: one request, which offers no other protocol.

    What follows the request stays in `trailing_data`. A server may ignore what is offered
    (RFC 9110 §7.8); hypercorn would take it.
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if event is h11.PAUSED:  # hypercorn would wait, and then read on by itself
            return h11.NEED_DATA
        if isinstance(event, h11.Request):
            headers = [(name, text) for name, text in event.headers if name != b"upgrade"]
            if len(headers) < len(event.headers):
                return h11.Request(
                    method=event.method,
                    target=event.target,
                    headers=headers,
                    http_version=event.http_version,
                )
        return event


class _Connection(TCPServer):
    """hypercorn's, with a loop of our own that reads.

    It reads each request's head before hypercorn does: a proxy may send the upgrade to a
    WebSocket on a connection that has carried other requests, and it is ours to serve.
    It ends the connection with its client: hypercorn's idle timer would run on, and
    with it the task and the descriptor, for the rest of `KEEP_ALIVE`.
    """

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        guest: Guest,
        head: bytes,
    ) -> None:
        state = ConnectionState(LifespanState())
        # It asks for no more of a stream than ours has.
        super().__init__(app, config, context, state, guest.stream)  # type: ignore[arg-type]
        self.left: bytes | BadHead | None = None
        """Why the connection is not hypercorn's any more: a head that asks for a WebSocket,
        or what is none."""
        self._head = head
        self._guest = guest
        self._client = guest.stream
        self._our_turn = trio.Event()

    async def protocol_send(self, event: Event) -> None:
        # An app may be cancelled in the middle of this, while it sends its last byte: those
        # that watch for a disconnect hear of the response's end as of one.
        with trio.CancelScope(shield=isinstance(event, Updated)):
            await super().protocol_send(event)
        if isinstance(event, Updated) and not event.idle:
            self._our_turn = trio.Event()
        elif isinstance(event, Closed | Updated):
            self._guest.is_answered()
            self._our_turn.set()

    async def _read_data(self) -> None:
        head = self._head
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while head:
                await self._hand_over(head)
                head = await self._next_head()
        if self.left is not None:
            await self.idle_task.stop()
            return
        await self.protocol.handle(Closed())
        await self.context.terminated.set()  # of this connection: each has its own

    async def _hand_over(self, head: bytes) -> None:
        """Give hypercorn a whole request; it is answered in a task of its own.

        Raises `trio.BrokenResourceError` if the client goes before it is whole.
        """
        self._request = _Request(
            h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
        )
        self.protocol.protocol.connection = self._request
        await self.protocol.handle(RawData(head))
        while self._request.their_state is h11.SEND_BODY:
            data = await self._client.receive_some()
            if not data:
                raise trio.BrokenResourceError("the client left in mid-request")
            await self.protocol.handle(RawData(data))

    async def _next_head(self) -> bytes:
        """The next request's, when the last is answered; b"" if hypercorn is to get none."""
        following = self._request.trailing_data[0] or await self._client.receive_some()
        if not following:
            return b""
        await self._our_turn.wait()
        if self._request.our_state is not h11.IDLE:
            return b""  # that was the last
        self._client.unread(following)
        try:
            head = await self._guest.next_head()
        except BadHead as error:
            self.left = error
            return b""
        if is_upgrade(head):
            self.left = head
            return b""
        return head

    async def _close(self) -> None:
        if self.left is None:
            await super()._close()
