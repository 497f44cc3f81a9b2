"""WebSocket on the gateway's own stream. wsproto parses the client's frames; the handshake and
the frames that are sent are written here.

Messages are encoded once and shared between connections, so they go directly into the stream,
whose writes are atomic. The reader answers pings and the client's close frame. Nothing is sent
after a close frame. (`library_websocket.py` does the same with trio-websocket.)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from struct import pack

import trio
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from ..delivery.transport import ConnectionEnds
from ..model.errors import TransportClosed
from ..model.limits import Limits
from ..node.node import Node
from ..observability.counters import Counters
from ..protocol import close_codes
from ..protocol.close_codes import CloseCode
from ..protocol.messages import Message
from .admission import Admission, admit
from .handshake import parse_upgrade
from .rate_limit import TokenBucket
from .stream import ClientStream

__all__ = ["WebSocketClient", "accept_websocket"]

READ_SIZE = 4 * 1024
"""Bytes per read. All of them are parsed before the client's tokens are checked again: at most 682
frames, so that a client that floods is read again before it counts as silent."""
FRAMES_PER_PASS = 512
"""Frames that are parsed in one pass of the scheduler, so that they do not delay other clients."""
_PING = b"\x89\x00"  # RFC 6455 §5.5.2, unmasked, empty
_PONG, _CLOSE = 0x8A, 0x88
_DISCONNECTED = trio.BrokenResourceError, trio.ClosedResourceError
_MALFORMED = {
    CloseReason.PROTOCOL_ERROR: close_codes.MALFORMED,
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: close_codes.NOT_UTF8,
}


async def accept_websocket(
    stream: ClientStream,
    head: bytes,
    node: Node,
    *,
    address: str,
    refused: CloseCode | None = None,
) -> WebSocketClient:
    """Accepts a client at `address` whose upgrade request is `head`. If it is `refused`, its
    connection is then closed with that code.

    The result has no reference to the request, so that its memory is freed. Raises `BadRequest` if
    it cannot be accepted.
    """
    request = parse_upgrade(head)
    stream.send_with_next(request.answer)  # in one write with `welcome`
    if refused is not None:
        admission = Admission(refused=refused)
    else:
        admission = await admit(request.headers, path=request.path, node=node)
    return WebSocketClient(
        stream, admission, node, joins_messages=request.joins_messages, address=address
    )


class WebSocketClient:
    """A client after its handshake."""

    __slots__ = ("_address", "_admission", "_joins_messages", "_node", "_stream")

    def __init__(
        self,
        stream: ClientStream,
        admission: Admission,
        node: Node,
        *,
        joins_messages: bool,
        address: str,
    ) -> None:
        self._stream = stream
        self._admission = admission
        self._node = node
        self._joins_messages = joins_messages
        self._address = address

    async def serve(self) -> None:
        """Serves the client until its connection ends. Closes the stream."""
        source = _Source(self._stream, limits=self._node.limits, counters=self._node.counters)
        sink = _Sink(
            self._stream, source, joins_messages=self._joins_messages, limits=self._node.limits
        )
        try:
            await self._admission.serve(source, sink, node=self._node, address=self._address)
        finally:
            await self._stream.aclose()
            source.release()


class _Source:
    """Reads the messages of one client, as fast as its `TokenBucket` allows."""

    __slots__ = (
        "_counters",
        "_drained",
        "_fragments",
        "_input_ended",
        "_limits",
        "_parser",
        "_receiving",
        "_size",
        "_stream",
        "_token_bucket",
        "close_sent",
        "pinged_at",
    )
    answers_pings = True

    def __init__(self, stream: ClientStream, *, limits: Limits, counters: Counters) -> None:
        self._stream = stream
        self._limits = limits
        self._counters = counters
        self._token_bucket = TokenBucket(limits.commands_per_second, limits.command_burst)
        self._parser = FrameProtocol(client=False, extensions=[])
        self._receiving = False
        self._drained: trio.Event | None = None
        """Set when no task receives any more; None if `drain` does not wait."""
        self._input_ended = False
        """Whether further input is ignored."""
        self._fragments: list[str] = []
        """The fragments of an incomplete message."""
        self._size = 0
        self.close_sent = False
        self.pinged_at: float | None = None
        """The time when the last ping was sent, on Trio's clock; None if it was answered."""

    @property
    def received_at(self) -> float:
        return self._stream.received_at

    async def receive(self) -> str:
        if self._receiving:
            raise TransportClosed("the connection is being closed")
        self._receiving = True
        try:
            while not self._input_ended:
                message = await self._next()
                if message is not None and not self.close_sent:
                    return message
                if not self._input_ended:
                    await self._read()
            raise TransportClosed("the client has closed the connection")
        finally:
            self._receiving = False
            if self._drained is not None:
                self._drained.set()

    async def drain(self) -> None:
        """Waits until the client has answered the close frame that was sent, or has disconnected.
        The task that reads drops all other input."""
        if self._receiving:
            self._drained = trio.Event()
            await self._drained.wait()
        else:
            with suppress(TransportClosed, ConnectionEnds):
                await self.receive()

    def release(self) -> None:
        """Separates wsproto's parser from its generator: they refer to each other, so that only the
        garbage collector would free them.

        The generator is not closed for that: from CPython 3.12 on, a generator that was closed
        before it started leaks what it refers to (python/cpython#142766).
        """
        del self._parser._parse_more

    async def send_close(self, payload: bytes) -> None:
        """Sends a close frame, unless one was sent. Raises `TransportClosed`."""
        if not self.close_sent:
            self.close_sent = True
            await self._send(pack("!BB", _CLOSE, len(payload)) + payload)

    async def _send(self, frames: bytes) -> None:
        try:
            await self._stream.send_all(frames)
        except _DISCONNECTED as error:
            raise TransportClosed(str(error)) from error

    async def _read(self) -> None:
        await self._token_bucket.wait()
        try:
            data = await self._stream.receive_some(READ_SIZE)
        except _DISCONNECTED as error:
            raise TransportClosed(str(error)) from error
        self._token_bucket.consume(0, size=len(data))
        if data:
            self._parser.receive_bytes(data)
        else:
            self._input_ended = True

    async def _next(self) -> str | None:
        """Returns the next complete message that has arrived; None if there is none."""
        pongs = b""  # one write for all pings that arrived together
        message: str | None = None
        frames = 0
        try:
            for frame in self._parser.received_frames():
                frames += 1
                if frames % FRAMES_PER_PASS == 0:
                    await trio.lowlevel.checkpoint()
                if frame.opcode is Opcode.PING:
                    payload = bytes(frame.payload)  # type: ignore[arg-type]  # bytes, in a ping
                    pongs += pack("!BB", _PONG, len(payload)) + payload
                elif frame.opcode is Opcode.PONG:
                    self._pong()
                elif frame.opcode is Opcode.CLOSE:
                    await self._answer_close(frame)
                else:
                    message = self._add(frame)
                    if message is not None:
                        break
        except ParseFailed as error:
            self._input_ended = True
            raise ConnectionEnds(_MALFORMED[error.code]) from None
        finally:
            if frames:
                self._token_bucket.consume(frames, size=0)
            if pongs and not self.close_sent:
                await self._send(pongs)
        return message

    def _add(self, frame: Frame) -> str | None:
        """Returns the message that `frame` completes; None if it completes none."""
        if not isinstance(frame.payload, str):
            self._input_ended = True
            raise ConnectionEnds(close_codes.UNSUPPORTED)
        self._size += len(frame.payload.encode())
        if self._size > self._limits.max_frame:
            self._input_ended = True
            raise ConnectionEnds(close_codes.TOO_BIG)
        self._fragments.append(frame.payload)
        if not frame.message_finished:
            return None
        message = "".join(self._fragments)
        self._fragments, self._size = [], 0
        return message

    def _pong(self) -> None:
        pinged_at, self.pinged_at = self.pinged_at, None
        if pinged_at is not None:
            self._counters.ping_round_trips.observe(trio.current_time() - pinged_at)

    async def _answer_close(self, frame: Frame) -> None:
        self._input_ended = True
        await self._stream.wait_to_disconnect()
        code = frame.payload[0]
        known = isinstance(code, int) and code != CloseReason.NO_STATUS_RCVD
        await self.send_close(pack("!H", code) if known else b"")


class _Sink:
    """Writes frames to one client."""

    __slots__ = ("_joins_messages", "_joins_now", "_limits", "_rest", "_source", "_stream")

    def __init__(
        self, stream: ClientStream, source: _Source, *, joins_messages: bool, limits: Limits
    ) -> None:
        self._stream = stream
        self._source = source
        self._limits = limits
        self._joins_messages = joins_messages
        self._joins_now = False
        self._rest: memoryview | None = None

    def send(self, messages: Sequence[Message]) -> bool:
        if not self._joins_now:
            data = b"".join([message.separate_frames for message in messages])
            self._joins_now = (
                self._joins_messages
            )  # the first message, `welcome`, has a frame of its own
        elif len(messages) == 1:
            data = messages[0].joined_frame
        else:
            data = Message([text for message in messages for text in message.texts]).joined_frame
        return self._send(data)

    def ping(self) -> bool:
        self._source.pinged_at = trio.current_time()
        return self._send(_PING)

    async def flush(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            if self._source.close_sent and not self._stream.is_unfinished(rest):
                raise TransportClosed("a close frame was sent meanwhile")
            try:
                await self._stream.send_rest(rest)
            except _DISCONNECTED as error:
                raise TransportClosed(str(error)) from error

    async def close(self, close_code: CloseCode) -> None:
        payload = pack("!H", close_code.code) + close_code.reason.encode()
        with trio.move_on_after(self._limits.close_timeout), suppress(TransportClosed):
            await self._source.send_close(payload)
            await self._source.drain()

    def abort(self) -> None:
        """Drops the client. If a close frame was sent, the connection is not reset, so that the
        client can still read that frame."""
        if not self._source.close_sent:
            self._stream.abort()

    def _send(self, data: bytes) -> bool:
        if self._source.close_sent:
            raise TransportClosed("a close frame was sent")
        try:
            self._rest = self._stream.send_now(data)
        except _DISCONNECTED as error:
            raise TransportClosed(str(error)) from error
        return self._rest is None
