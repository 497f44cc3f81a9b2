"""WebSocket over our own stream. wsproto takes frames apart; all the rest is here.

Data is encoded once and shared between connections, so it goes straight into the stream,
in which writes are whole. Whoever reads answers pings and goodbyes, pings that came
together in one write. After a close frame nothing follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from struct import pack

import trio
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from .. import endings
from ..connection import ConnectionEnds
from ..endings import Ending
from ..errors import TransportClosed
from ..limits import Limits
from ..node import Node
from ..protocol import Message
from .allowance import Allowance
from .door import serve_at_door
from .stream import ClientStream
from .upgrade import parse_upgrade

__all__ = ["serve_websocket"]

READ_SIZE = 1024
"""Bytes at a time: small enough that the frames in it, at most 512, do not hold up others."""
_PING = b"\x89\x00"  # RFC 6455 §5.5.2, unmasked, empty
_PONG, _CLOSE = 0x8A, 0x88
_BROKEN = {
    CloseReason.PROTOCOL_ERROR: endings.MALFORMED,
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: endings.NOT_UTF8,
}


async def serve_websocket(
    stream: ClientStream, head: bytes, node: Node, *, refused: Ending | None = None
) -> None:
    """Serve one client whose upgrade request is `head`, or tell it why it is `refused`.
    Closes the stream.

    Raises `BadHead` if that cannot be accepted, `trio.BrokenResourceError` if the client
    left meanwhile; then the stream is open.
    """
    request = parse_upgrade(head)
    await stream.send_all(request.answer)
    frames = _Frames(stream, limits=node.limits)
    sink = _Sink(frames, joins=request.joins, limits=node.limits)
    try:
        await serve_at_door(
            frames,
            sink,
            path=request.path,
            headers=request.headers,
            node=node,
            refused=refused,
        )
    finally:
        await stream.aclose()


class _Frames:
    """Both directions of one client's frames. Towards us it is the `Source`, which is read
    as fast as the client's `Allowance` has it."""

    def __init__(self, stream: ClientStream, *, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._allowance = Allowance(limits)
        self._parser = FrameProtocol(client=False, extensions=[])
        self._reading = trio.Lock()  # the reader, and at the end whoever waits for a goodbye
        self._over = False
        self._parts: list[str] = []
        self._size = 0
        self.said_goodbye = False

    @property
    def heard_at(self) -> float:
        return self._stream.heard_at

    async def receive(self) -> str:
        async with self._reading:
            while not self._over:
                message = await self._next()
                if message is not None:
                    return message
                if not self._over:
                    await self._read()
        raise TransportClosed("the client said goodbye")

    async def hear_goodbye(self) -> None:
        """Return when the client has said goodbye, or is gone; what else it says is dropped."""
        with suppress(TransportClosed, ConnectionEnds):
            while True:
                await self.receive()

    def send(self, data: bytes) -> memoryview | None:
        """Send frames, as far as that takes no waiting; the rest is for `send_rest`.

        Raises `TransportClosed` if the client is, or is to be, gone.
        """
        if self.said_goodbye:
            raise TransportClosed("a close frame was sent")
        with _translated():
            return self._stream.send_now(data)

    async def send_rest(self, rest: memoryview) -> None:
        """Send what `send` left. Raises `TransportClosed` if the client is gone."""
        with _translated():
            await self._stream.send_rest(rest)

    async def say_goodbye(self, payload: bytes) -> None:
        """Send a close frame, unless one was sent. Raises `TransportClosed`."""
        if not self.said_goodbye:
            self.said_goodbye = True
            with _translated():
                await self._stream.send_all(pack("!BB", _CLOSE, len(payload)) + payload)

    def abort(self) -> None:
        """Drop the client; if it was told why, it may still read that: no reset then."""
        if not self.said_goodbye:
            self._stream.abort()

    async def _read(self) -> None:
        await self._allowance.wait()
        with _translated():
            data = await self._stream.receive_some(READ_SIZE)
        self._allowance.spend(0, size=len(data))
        if data:
            self._parser.receive_bytes(data)
        else:
            self._over = True

    async def _next(self) -> str | None:
        """The next message of those that have arrived."""
        pongs = bytearray()
        message: str | None = None
        try:
            for frame in self._parser.received_frames():
                self._allowance.spend(1, size=0)
                if frame.opcode is Opcode.PING:
                    payload = bytes(frame.payload)  # type: ignore[arg-type]  # bytes, in a ping
                    pongs += pack("!BB", _PONG, len(payload)) + payload
                elif frame.opcode is Opcode.CLOSE:
                    await self._answer_goodbye(frame)
                elif frame.opcode is not Opcode.PONG:
                    message = self._take(frame)
                    if message is not None:
                        break
        except ParseFailed as error:
            self._over = True
            raise ConnectionEnds(_BROKEN[error.code]) from None
        finally:
            if pongs and not self.said_goodbye:
                with _translated():
                    await self._stream.send_all(pongs)
        return message

    def _take(self, frame: Frame) -> str | None:
        """The message that `frame` completes, if it does."""
        if not isinstance(frame.payload, str):
            raise ConnectionEnds(endings.UNSUPPORTED)
        self._parts.append(frame.payload)
        self._size += len(frame.payload.encode())
        if self._size > self._limits.max_message:
            raise ConnectionEnds(endings.TOO_BIG)
        if not frame.message_finished:
            return None
        message = "".join(self._parts)
        self._parts, self._size = [], 0
        return message

    async def _answer_goodbye(self, frame: Frame) -> None:
        self._over = True
        code = frame.payload[0]
        known = isinstance(code, int) and code != CloseReason.NO_STATUS_RCVD
        await self.say_goodbye(pack("!H", code) if known else b"")


class _Sink:
    """Messages to one client."""

    def __init__(self, frames: _Frames, *, joins: bool, limits: Limits) -> None:
        self._frames = frames
        self._limits = limits
        self._joins = joins
        self._welcomed = False
        self._rest: memoryview | None = None

    def send(self, messages: Sequence[Message]) -> bool:
        if not (self._joins and self._welcomed):
            data = b"".join([message.frames for message in messages])
            self._welcomed = True
        elif len(messages) == 1:
            data = messages[0].frame
        else:
            data = Message([text for message in messages for text in message.texts]).frame
        self._rest = self._frames.send(data)
        return self._rest is None

    async def flush(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            await self._frames.send_rest(rest)

    async def ping(self) -> None:
        self._rest = self._frames.send(_PING)
        await self.flush()

    async def close(self, ending: Ending) -> None:
        with trio.move_on_after(self._limits.close_timeout), suppress(TransportClosed):
            await self._frames.say_goodbye(pack("!H", ending.code) + ending.reason.encode())
            await self._frames.hear_goodbye()

    def abort(self) -> None:
        self._frames.abort()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise TransportClosed(str(error)) from error
