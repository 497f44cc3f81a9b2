"""Everything that is not a WebSocket: hypercorn's HTTP/1.1 and HTTP/2 over our stream."""

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
from .head import BadHead, is_upgrade, read_head
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
        self._limits = limits
        self._config.accesslog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = KEEP_ALIVE
        self._config.h11_max_incomplete_size = limits.max_head
        self._config.websocket_max_message_size = limits.max_message

    async def serve(self, stream: ClientStream, head: bytes) -> bytes | None:
        """Serve the requests of one client, of which `head` is the first one's.

        Returns None when it or we have closed the stream; or the head of a request that
        asks for a WebSocket, with the stream to be served otherwise from there on.
        Raises `BadHead` if what follows a request is none.
        """
        context = WorkerContext(None)
        if self._draining:
            await context.terminated.set()
        self._serving[context] = stream
        connection = _Connection(self._app, self._config, context, stream, head, self._limits)
        try:
            await connection
        finally:
            try:
                if connection.left is None:
                    await stream.aclose()
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


class _Connection(TCPServer):
    """hypercorn's, with a loop of our own that reads.

    It reads each request's head before hypercorn does: a proxy may send the upgrade to a
    WebSocket on a connection that has carried other requests, and it is ours to serve.
    And it ends the connection with its client: hypercorn's idle timer would run on, and
    with it the task and the descriptor, for the rest of `KEEP_ALIVE`.
    """

    def __init__(
        self,
        app: ASGIWrapper,
        config: Config,
        context: WorkerContext,
        stream: ClientStream,
        head: bytes,
        limits: Limits,
    ) -> None:
        state = ConnectionState(LifespanState())
        # It asks for no more of a stream than ours has.
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]
        self.left: bytes | BadHead | None = None
        """Why the connection is not hypercorn's any more: a head that asks for a WebSocket,
        or what is none."""
        self._head = head
        self._client = stream
        self._limits = limits
        self._our_turn = trio.Event()

    async def protocol_send(self, event: Event) -> None:
        # An app may be cancelled in the middle of this, while it sends its last byte: those
        # that watch for a disconnect hear of the response's end as of one.
        with trio.CancelScope(shield=isinstance(event, Updated)):
            await super().protocol_send(event)
        if isinstance(event, Updated) and not event.idle:
            self._our_turn = trio.Event()
        elif isinstance(event, Closed | Updated):
            self._our_turn.set()

    async def _read_data(self) -> None:
        await self.protocol.handle(RawData(self._head))
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self._client.receive_some():
                if self._is_answering:
                    await self._our_turn.wait()
                if self._is_idle:
                    self._client.unread(data)
                    data = await self._next_head()
                    if self.left is not None:
                        await self.idle_task.stop()
                        return
                await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())
        await self.context.terminated.set()  # of this connection: each has its own

    async def _next_head(self) -> bytes:
        try:
            head = await read_head(self._client, self._limits)
        except BadHead as error:
            self.left = error
            return b""
        if is_upgrade(head):
            self.left = head
        return head

    async def _close(self) -> None:
        if self.left is None:
            await super()._close()

    @property
    def _is_answering(self) -> bool:
        """Whether a whole request is here: what comes now belongs to the next."""
        connection = self.protocol.protocol.connection
        return isinstance(connection, h11.Connection) and connection.their_state is h11.DONE

    @property
    def _is_idle(self) -> bool:
        """Whether what comes now begins a request."""
        connection = self.protocol.protocol.connection
        return (
            isinstance(connection, h11.Connection)
            and connection.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
            and not connection.trailing_data[0]
        )
