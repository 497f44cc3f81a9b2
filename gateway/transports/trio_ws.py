"""WebSocket over our own stream: trio-websocket shakes hands, answers pings and reads; data
frames are ours, and so is the goodbye.

Data is encoded once and shared between connections, so it does not go through the
library but straight into the stream, in which writes are whole. Its limits are ours too:
its time-outs are 60 s, its handshake waits for ever if the request is refused, and an
error in its reader (a ping that arrives while we close) is raised, not handled.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from struct import pack

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
from .allowance import Allowance, FrameCounter
from .door import serve_at_door
from .head import headers_in
from .stream import ClientStream

__all__ = ["serve_websocket"]

log = logging.getLogger("gateway.transports")

READ_SIZE = 1024
"""Bytes at a time: small enough that the frames in it, at most 512, do not hold up others."""
_PING = b"\x89\x00"  # RFC 6455 §5.5.2, unmasked, empty
_CLOSE_OPCODE = 0x88
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # RFC 6455 §4.1: 16 bytes in base64
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_GIVEN_UP = {ending.code: ending for ending in (endings.MALFORMED, endings.NOT_UTF8)}
"""What the library gives up on without a word to the client."""


async def serve_websocket(
    stream: ClientStream,
    head: bytes,
    node: Node,
    *,
    turnstile: trio.Semaphore,
    refused: Ending | None = None,
) -> None:
    """Serve one client whose upgrade request is `head`, or tell it why it is `refused`.
    Closes the stream.

    It passes the `turnstile` while it shakes hands: that takes many steps, and if a crowd
    took them side by side, those who are in would wait for all of it.
    """
    limits = node.limits
    frames = _FrameStream(stream, head, limits)
    ws: WebSocketConnection | None = None
    try:
        async with trio.open_nursery() as nursery:
            async with turnstile:
                ws = await _shake_hands(nursery, frames, limits)
            if ws is not None:
                source, sink = _Source(ws, stream, frames, limits), _Sink(ws, frames, limits)
                path = (ws.path or "").partition("?")[0]
                headers = headers_in(head)
                await serve_at_door(
                    source, sink, path=path, headers=headers, node=node, refused=refused
                )
            nursery.cancel_scope.cancel()
    except* (LocalProtocolError, RemoteProtocolError, ConnectionClosed) as group:
        log.debug("a client broke the WebSocket protocol: %r", group.exceptions)
    except* UnicodeError:
        if frames.accepted.is_set():
            raise
        # wsproto takes some headers for ASCII.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(_BAD_REQUEST)
    finally:
        await stream.aclose()
        if ws is not None:
            _let_go(ws)


def _let_go(ws: WebSocketConnection) -> None:
    """Part the library's parser from its generator: they hold each other, and only the collector
    would find them (measured: a crowd that had left kept half its memory).

    Not by closing the generator: from CPython 3.12 on one that has not begun yet then keeps
    what it holds for ever, unseen even by the collector (python/cpython#142766).
    """
    connection = ws._wsproto.connection
    if connection is not None:
        del connection._proto._parse_more


class _FrameStream(trio.abc.HalfCloseableStream):
    """The stream as trio-websocket sees it.

    It is read as fast as the client's `Allowance` has it. The library would lose what
    arrives together with the upgrade request, so it gets the request alone, and no more
    until it has accepted. After a close frame nothing can follow: data is an error, control
    frames are dropped. And the library cannot close the stream, only leave it: it would do
    so before the client was told why.
    """

    def __init__(self, stream: ClientStream, head: bytes, limits: Limits) -> None:
        self._stream = stream
        self._allowance = Allowance(limits)
        self._frames = FrameCounter()
        self._head = head
        self.accepted = trio.Event()
        """To be set when the handshake is done."""
        self.handshake = trio.CancelScope()
        """Cancelled when the library is done with the stream."""
        self.said_goodbye = False

    def send_frames(self, data: bytes) -> memoryview | None:
        """Send frames, as far as that takes no waiting; the rest is for `send_rest`.

        Raises `TransportClosed` if the client is, or is to be, gone.
        """
        if self.said_goodbye:
            raise TransportClosed("a close frame was sent")
        try:
            return self._stream.send_now(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportClosed(str(error)) from error

    async def send_rest(self, rest: memoryview) -> None:
        """Send what `send_frames` left. Raises `TransportClosed` if the client is gone."""
        try:
            await self._stream.send_rest(rest)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportClosed(str(error)) from error

    async def say_goodbye(self, ending: Ending) -> None:
        """Send a close frame, unless one was sent, if the client is still there."""
        reason = ending.reason.encode()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send_all(pack("!BBH", _CLOSE_OPCODE, 2 + len(reason), ending.code) + reason)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.said_goodbye:
            await trio.lowlevel.checkpoint()
            return
        if data[:1] and data[0] == _CLOSE_OPCODE:
            self.said_goodbye = True
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, b""
            return head
        await self.accepted.wait()
        if self.handshake.cancel_called:
            raise trio.ClosedResourceError
        await self._allowance.wait()
        data = await self._stream.receive_some(READ_SIZE)
        self._allowance.spend(self._frames.count(data), size=len(data))
        if self._frames.closes:
            await self._stream.turn_to_leave()
        return data

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self.handshake.cancel()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Drop the client; if it was told why, it may still read that: no reset then."""
        if not self.said_goodbye:
            self._stream.abort()


async def _shake_hands(
    nursery: trio.Nursery, frames: _FrameStream, limits: Limits
) -> WebSocketConnection | None:
    """Accept the upgrade; None if the client was refused, slow, or went away."""
    frames.handshake.deadline = trio.current_time() + limits.head_timeout
    # The library answers a bad request and leaves, but never says so: that ends this scope.
    with frames.handshake:
        request = await wrap_server_stream(
            nursery, frames, message_queue_size=1, max_message_size=limits.max_message
        )
        if not _KEY.fullmatch(dict(request.headers)[b"sec-websocket-key"]):
            await request.reject(400)
            return None
        offered = SUBPROTOCOL in request.proposed_subprotocols
        ws = await request.accept(subprotocol=SUBPROTOCOL if offered else None)
        frames.accepted.set()
        return ws
    return None


class _Source:
    """Messages of one client."""

    def __init__(
        self, ws: WebSocketConnection, stream: ClientStream, frames: _FrameStream, limits: Limits
    ) -> None:
        self._ws = ws
        self._stream = stream
        self._frames = frames
        self._limits = limits

    @property
    def heard_at(self) -> float:
        return self._stream.heard_at

    async def receive(self) -> str:
        try:
            message = await self._ws.get_message()
        except ConnectionClosed as error:
            code = error.reason.code if error.reason is not None else None
            if code == endings.TOO_BIG.code:
                raise ConnectionEnds(endings.TOO_BIG) from None
            if code in _GIVEN_UP and not self._frames.said_goodbye:
                raise ConnectionEnds(_GIVEN_UP[code]) from None
            raise TransportClosed(str(error.reason)) from None
        if isinstance(message, bytes):
            raise ConnectionEnds(endings.UNSUPPORTED)
        if len(message.encode()) > self._limits.max_message:  # the library counts characters
            raise ConnectionEnds(endings.TOO_BIG)
        return message


class _Sink:
    """Frames to one client."""

    def __init__(self, ws: WebSocketConnection, frames: _FrameStream, limits: Limits) -> None:
        self._ws = ws
        self._frames = frames
        self._limits = limits
        self._joins = ws.subprotocol == SUBPROTOCOL
        self._welcomed = False
        self._rest: memoryview | None = None

    def send(self, messages: Sequence[Message]) -> bool:
        if not self._welcomed:
            data = b"".join([message.frames for message in messages])
            self._welcomed = True
        elif not self._joins:
            data = b"".join([message.frames for message in messages])
        elif len(messages) == 1:
            data = messages[0].frame
        else:
            data = Message([text for message in messages for text in message.texts]).frame
        self._rest = self._frames.send_frames(data)
        return self._rest is None

    async def flush(self) -> None:
        if self._rest is not None:
            await self._frames.send_rest(self._rest)
            self._rest = None

    async def ping(self) -> None:
        self._rest = self._frames.send_frames(_PING)
        await self.flush()

    async def close(self, ending: Ending) -> None:
        # Not by the library: once it has said goodbye, a ping makes it fail.
        with trio.move_on_after(self._limits.close_timeout), suppress(ConnectionClosed):
            await self._frames.say_goodbye(ending)
            while True:  # until the client has answered
                await self._ws.get_message()

    def abort(self) -> None:
        self._frames.abort()
