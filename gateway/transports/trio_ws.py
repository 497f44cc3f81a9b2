"""WebSocket over our own stream: trio-websocket shakes hands, pings and closes; data
frames are ours.

Data is encoded once and shared between connections, so it does not go through the
library but straight into the stream, in which writes are whole. Its limits are ours too:
its time-outs are 60 s, its handshake waits for ever if the request is refused, and an
error in its reader (a ping that arrives while we close) is raised, not handled.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .. import endings
from ..connection import ConnectionEnds
from ..endings import Ending
from ..errors import TransportClosed
from ..limits import Limits
from ..node import Node
from ..protocol import SUBPROTOCOL, Message
from .stream import ClientStream

__all__ = ["serve_websocket"]

log = logging.getLogger("gateway.transports")

PATH = "/ws"
_PING = b"\x89\x00"  # RFC 6455 §5.5.2, unmasked, empty
_CLOSE_OPCODE = 0x88


async def serve_websocket(stream: ClientStream, node: Node) -> None:
    """Serve one client whose upgrade request waits in `stream`. Closes the stream."""
    limits = node.limits
    try:
        async with trio.open_nursery() as nursery:
            frames = _FrameStream(stream)
            ws = await _shake_hands(nursery, frames, limits)
            if ws is not None:
                source, sink = _Source(ws, stream), _Sink(ws, frames, limits)
                if (ws.path or "").partition("?")[0] == PATH:
                    await node.serve(source, sink)
                else:
                    await sink.close(endings.NOT_FOUND)
            nursery.cancel_scope.cancel()
    except* (LocalProtocolError, RemoteProtocolError, ConnectionClosed) as group:
        log.debug("a client broke the WebSocket protocol: %r", group.exceptions)
    finally:
        with trio.CancelScope(shield=True):  # bounded by limits.close_timeout
            await stream.aclose()


class _FrameStream(trio.abc.HalfCloseableStream):
    """The stream as trio-websocket sees it: after a close frame no data can follow."""

    def __init__(self, stream: ClientStream) -> None:
        self._stream = stream
        self._said_goodbye = False

    async def send_frames(self, data: bytes) -> None:
        """Send data frames. Raises `TransportClosed` if the client is, or is to be, gone."""
        if self._said_goodbye:
            raise TransportClosed("a close frame was sent")
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportClosed(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if data[:1] and data[0] == _CLOSE_OPCODE:
            self._said_goodbye = True
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def wait_closed(self) -> None:
        await self._stream.closed.wait()

    def abort(self) -> None:
        self._stream.abort()


async def _shake_hands(
    nursery: trio.Nursery, frames: _FrameStream, limits: Limits
) -> WebSocketConnection | None:
    """Accept the upgrade; None if the client was refused, slow, or went away."""
    with trio.move_on_after(limits.head_timeout):
        async with trio.open_nursery() as shaking:
            # The library answers a bad request and closes the stream, but never says so.
            shaking.start_soon(_cancel_when_closed, frames, shaking.cancel_scope)
            request = await wrap_server_stream(
                nursery, frames, message_queue_size=1, max_message_size=limits.max_message
            )
            offered = SUBPROTOCOL in request.proposed_subprotocols
            ws = await request.accept(subprotocol=SUBPROTOCOL if offered else None)
            shaking.cancel_scope.cancel()
            return ws
    return None


async def _cancel_when_closed(frames: _FrameStream, scope: trio.CancelScope) -> None:
    await frames.wait_closed()
    scope.cancel()


class _Source:
    """Messages of one client."""

    def __init__(self, ws: WebSocketConnection, stream: ClientStream) -> None:
        self._ws = ws
        self._stream = stream

    @property
    def heard_at(self) -> float:
        return self._stream.heard_at

    async def receive(self) -> str:
        try:
            message = await self._ws.get_message()
        except ConnectionClosed as error:
            if error.reason is not None and error.reason.code == endings.TOO_BIG.code:
                raise ConnectionEnds(endings.TOO_BIG) from None
            raise TransportClosed(str(error.reason)) from None
        if isinstance(message, bytes):
            raise ConnectionEnds(endings.UNSUPPORTED)
        return message


class _Sink:
    """Frames to one client."""

    def __init__(self, ws: WebSocketConnection, frames: _FrameStream, limits: Limits) -> None:
        self._ws = ws
        self._frames = frames
        self._limits = limits
        self._joins = ws.subprotocol == SUBPROTOCOL
        self._welcomed = False

    async def send(self, messages: Sequence[Message]) -> None:
        if len(messages) == 1 and self._welcomed:
            message = messages[0]
            data = message.frame if self._joins else message.frames
        elif self._joins and self._welcomed:
            data = Message([text for message in messages for text in message.texts]).frame
        else:
            data = b"".join([message.frames for message in messages])
            self._welcomed = True
        await self._frames.send_frames(data)

    async def ping(self) -> None:
        await self._frames.send_frames(_PING)

    async def close(self, ending: Ending) -> None:
        with trio.move_on_after(self._limits.close_timeout):
            await self._ws.aclose(ending.code, ending.reason)

    def abort(self) -> None:
        self._frames.abort()
