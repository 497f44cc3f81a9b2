"""A trio-websocket connection, for a Trio program with a WebSocket server of its own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import count

from structlog.contextvars import bind_contextvars
from trio_websocket import ConnectionClosed, WebSocketConnection

from ..model.errors import TransportClosed
from ..node.node import Node
from ..protocol.close_codes import CloseCode
from ..protocol.messages import SUBPROTOCOL
from .admission import admit
from .library_websocket import LibrarySink, LibrarySource

__all__ = ["serve_trio_websocket"]

_numbers = count(1)


async def serve_trio_websocket(
    ws: WebSocketConnection, node: Node, *, headers: Iterable[tuple[bytes, bytes]], host: str
) -> None:
    """Serves progress to a client whose WebSocket connection the calling program has accepted.

    It behaves like a connection to `/ws` of the gateway's own port, at any path of the program:
    the client's origin and token are checked, and the connection is closed when the node drains.
    To be called in Trio, in the task that serves the connection. Returns when the connection has
    ended; the caller need not close it.

    Args:
        ws: The connection, after its handshake. Accept it with the subprotocol `progress.v1`
            if the client offers that. Its `max_message_size` limits the size of a read.
        node: A running node, such as `gateway.node` of `serve_gateway`.
        headers: The headers of its request (`WebSocketRequest.headers`), with the client's
            origin and token. The connection does not keep them.
        host: HOST:PORT by which browsers know the calling program. Pages from there may
            connect, besides those of the origins that the node allows. (trio-websocket drops
            the request's `Host`.)

    Cancellation: the caller must then close or drop the connection, as trio-websocket's
    servers do.
    """
    address = _address(ws)
    bind_contextvars(connection=f"{node.name}-t{next(_numbers):x}", client=address)
    texts = {name.decode().lower(): text.decode("latin-1") for name, text in headers}
    admission = await admit(texts | {"host": host}, node=node)

    async def receive() -> object:
        try:
            return await ws.get_message()
        except ConnectionClosed as error:
            raise TransportClosed(str(error.reason)) from None

    async def send(text: str) -> None:
        try:
            await ws.send_message(text)
        except ConnectionClosed as error:
            raise TransportClosed(str(error.reason)) from None

    async def close(close_code: CloseCode) -> None:
        with suppress(ConnectionClosed):
            await ws.aclose(close_code.code, close_code.reason)

    source = LibrarySource(receive, limits=node.limits)
    joins_messages = ws.subprotocol == SUBPROTOCOL
    sink = LibrarySink(send, close, joins_messages=joins_messages, limits=node.limits)
    await admission.serve(source, sink, node=node, address=address)


def _address(ws: WebSocketConnection) -> str:
    remote = ws.remote
    return str(getattr(remote, "address", remote))
