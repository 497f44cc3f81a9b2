"""WebSocket through an ASGI server, for those who host the gateway with one.

The server owns the frames, so each message is encoded by it anew, and it answers
WebSocket pings unseen: only JSON pings tell whether the client is there. After the client
is gone hypercorn's `send` returns as if nothing were wrong; only `receive` tells. But if it
is just closing (the client broke the protocol), `send` raises Trio's `BusyResourceError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import trio

from .. import endings
from ..about import is_about
from ..connection import ConnectionEnds
from ..endings import Ending
from ..errors import TransportClosed
from ..limits import Limits
from ..node import Node
from ..protocol import SUBPROTOCOL, Message
from .allowance import Allowance
from .door import serve_at_door
from .http import Receive, Scope, Send

__all__ = ["serve_asgi_websocket"]

_numbers = count(1)


async def serve_asgi_websocket(scope: Scope, receive: Receive, send: Send, *, node: Node) -> None:
    """Serve one client of an ASGI server. Accepts it in every case.

    A wrong path is told by a close code: browsers show no other reason, and hypercorn
    0.18 dies of a byte that follows a rejection.
    """
    is_about(connection=f"{node.name}-{next(_numbers):x}", client=(scope["client"] or ["?"])[0])
    await receive()  # websocket.connect
    joins = SUBPROTOCOL in scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if joins else None})
    sink = _Sink(send, joins=joins, limits=node.limits)
    headers = {name.decode(): text.decode("latin-1") for name, text in scope["headers"]}
    source = _Source(receive, limits=node.limits)
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    await serve_at_door(source, sink, path=path, headers=headers, node=node)


class _Source:
    def __init__(self, receive: Receive, *, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._allowance = Allowance(limits)
        self.heard_at = trio.current_time()

    async def receive(self) -> str:
        await self._allowance.wait()
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise TransportClosed("the client is gone")
        self.heard_at = trio.current_time()
        text = event.get("text")
        if not isinstance(text, str):
            raise ConnectionEnds(endings.UNSUPPORTED)
        size = len(text.encode())
        self._allowance.spend(1, size=size)
        if size > self._limits.max_message:
            raise ConnectionEnds(endings.TOO_BIG)
        return text


class _Sink:
    def __init__(self, send: Send, *, joins: bool, limits: Limits) -> None:
        self._send = send
        self._joins = joins
        self._limits = limits
        self._welcomed = False
        self._rest: list[bytes] = []

    def send(self, messages: Sequence[Message]) -> bool:
        texts = [text for message in messages for text in message.texts]
        if self._joins and self._welcomed:
            texts = [b"\n".join(texts)]
        self._welcomed = True
        self._rest = texts
        return False

    async def flush(self) -> None:
        try:
            for text in self._rest:
                await self._send({"type": "websocket.send", "text": text.decode()})
        except trio.BusyResourceError as error:
            raise TransportClosed("the server is closing the connection") from error

    async def ping(self) -> None:
        """ASGI has none."""

    async def close(self, ending: Ending) -> None:
        with trio.move_on_after(self._limits.close_timeout):
            await self._send(
                {"type": "websocket.close", "code": ending.code, "reason": ending.reason}
            )

    def abort(self) -> None:
        """ASGI has none: returning from the app closes the connection."""
