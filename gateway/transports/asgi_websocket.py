"""Serves a client over the WebSocket of an ASGI server, for gateways that are hosted with one.

After the client has disconnected, hypercorn's `send` does nothing; only `receive` reports it. While
the connection is closing because the client broke the protocol, `send` raises Trio's
`BusyResourceError`.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import count

import trio
from structlog.contextvars import bind_contextvars

from ..model.errors import TransportClosed
from ..node.node import Node
from ..protocol.close_codes import CloseCode
from ..protocol.messages import SUBPROTOCOL
from .admission import admit
from .asgi_types import Receive, Scope, Send
from .library_websocket import LibrarySink, LibrarySource

__all__ = ["refuse_asgi_websocket", "serve_asgi_websocket"]

log = logging.getLogger("gateway.transports")

_numbers = count(1)


async def serve_asgi_websocket(scope: Scope, receive: Receive, send: Send, *, node: Node) -> None:
    """Serves one client of an ASGI server. Accepts its connection in every case.

    A wrong path is answered with a close code, because browsers show no other reason, and
    because hypercorn 0.18 fails on a byte that follows a rejection.
    """
    address = str((scope["client"] or ["?"])[0])
    bind_contextvars(connection=f"{node.name}-{next(_numbers):x}", client=address)
    await receive()  # websocket.connect
    joins_messages = SUBPROTOCOL in scope["subprotocols"]
    try:
        await send(
            {"type": "websocket.accept", "subprotocol": SUBPROTOCOL if joins_messages else None}
        )
    except Exception as error:  # noqa: BLE001 - of the server's libraries, for what its client sent
        log.debug("the ASGI server did not accept a connection: %r", error)
        return

    async def receive_message() -> object:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            raise TransportClosed("the client has disconnected")
        return event.get("text")

    async def send_text(text: str) -> None:
        try:
            await send({"type": "websocket.send", "text": text})
        except trio.BusyResourceError as error:
            raise TransportClosed("the server is closing the connection") from error

    source = LibrarySource(receive_message, limits=node.limits)
    sink = LibrarySink(
        send_text, partial(_close, send), joins_messages=joins_messages, limits=node.limits
    )
    headers = {name.decode(): text.decode("latin-1") for name, text in scope["headers"]}
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    admission = await admit(headers, path=path, node=node)
    await admission.serve(source, sink, node=node, address=address)


async def refuse_asgi_websocket(receive: Receive, send: Send, close_code: CloseCode) -> None:
    """Accepts a connection, and closes it with the reason. Does not need Trio."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    await _close(send, close_code)


async def _close(send: Send, close_code: CloseCode) -> None:
    await send({"type": "websocket.close", "code": close_code.code, "reason": close_code.reason})
