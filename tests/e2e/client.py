"""Test clients that send and receive single bytes, because libraries would not send, or would hide,
some of them.

`Raw` is a TCP connection. `WebSocketClient` uses WebSocket on it, and uses no code of this project
but JSON, and keeps each frame as it came. Every wait has a deadline.
"""

from __future__ import annotations

import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field, frozen

PATIENCE = 5.0
"""Maximum seconds for a response; normally it takes less than a tenth of that."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

Json = dict[str, Any]


class Reset(Exception):
    """The gateway reset the connection."""


class Closed(Exception):
    """The gateway closed the connection; `code` is None if it sent no close frame."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Raw:
    """A TCP connection: bytes out, bytes in."""

    def __init__(self, sock: trio.socket.SocketType, *, patience: float = PATIENCE) -> None:
        self._socket = sock
        self._patience = patience
        self._received = b""

    @property
    def port(self) -> int:
        """The address of this end."""
        port: int = self._socket.getsockname()[1]
        return port

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE):
            try:
                while data:
                    data = data[await self._socket.send(data) :]
            except (BrokenPipeError, ConnectionResetError):
                raise Reset from None

    def send_some(self, data: bytes) -> int:
        """Sends the part of `data` that the kernel accepts at once."""
        try:
            return socket.socket.send(self._socket._sock, data)  # type: ignore[attr-defined]  # private
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            raise Reset from None

    async def receive_until(self, marker: bytes) -> bytes:
        """Receives until `marker`, or until the gateway closes the connection."""
        while marker not in self._received and await self._more():
            pass
        before, found, self._received = self._received.partition(marker)
        return before + found

    async def receive_exactly(self, size: int) -> bytes:
        """Receives `size` bytes; fewer if the gateway closes the connection before."""
        while len(self._received) < size and await self._more():
            pass
        data, self._received = self._received[:size], self._received[size:]
        return data

    async def receive_rest(self) -> bytes:
        """Receives everything until the gateway closes the connection."""
        while await self._more():
            pass
        data, self._received = self._received, b""
        return data

    async def receive_head(self) -> tuple[int, dict[str, str]]:
        """Receives a response head. Returns its status and its headers (names in lower case);
        status 0 if the connection ended."""
        head = (await self.receive_until(b"\r\n\r\n")).decode()
        if not head:
            return 0, {}
        first, *lines = head.rstrip().split("\r\n")
        headers = [line.partition(":") for line in lines]
        return int(first.split()[1]), {name.lower(): text.strip() for name, _, text in headers}

    async def receive_response(self) -> tuple[int, dict[str, str], bytes]:
        """Receives a complete response with a content-length."""
        status, headers = await self.receive_head()
        return status, headers, await self.receive_exactly(int(headers.get("content-length", "0")))

    def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Closes the connection with a RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def _more(self) -> bool:
        with trio.fail_after(self._patience):
            try:
                data = await self._socket.recv(64 * 1024)
            except ConnectionResetError:
                raise Reset from None
        self._received += data
        return bool(data)


@asynccontextmanager
async def connect(
    port: int, *, receive_buffer: int | None = None, patience: float = PATIENCE
) -> AsyncIterator[Raw]:
    """Yields a TCP connection, which is closed at the end. `receive_buffer` is its SO_RCVBUF,
    `patience` how long it waits for data."""
    with trio.socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with trio.fail_after(PATIENCE):
            await sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Raw(sock, patience=patience)


def upgrade(path: str = "/ws", *, subprotocol: str | None = None, **other: str) -> bytes:
    """Returns a WebSocket request. `other` replaces or adds headers, `_` for `-`; "" drops one."""
    headers = {
        "host": "127.0.0.1",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
        "sec-websocket-protocol": subprotocol or "",
    }
    headers |= {name.replace("_", "-"): text for name, text in other.items()}
    lines = [f"{name}: {text}" for name, text in headers.items() if text]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


def publication(job: str, body: bytes) -> bytes:
    """Returns a request that publishes an update."""
    head = (
        f"POST /api/jobs/{job} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def frame(
    payload: bytes | str = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
) -> bytes:
    """Returns a frame as a client sends it (RFC 6455 §5.2). It is masked with zeros, so that it
    stays legible."""
    data = payload.encode() if isinstance(payload, str) else payload
    first_byte = fin << 7 | rsv << 4 | opcode
    mask = masked << 7
    if len(data) < 126:
        head = struct.pack("!BB", first_byte, mask | len(data))
    elif len(data) < 65_536:
        head = struct.pack("!BBH", first_byte, mask | 126, len(data))
    else:
        head = struct.pack("!BBQ", first_byte, mask | 127, len(data))
    return head + (b"\0\0\0\0" if masked else b"") + data


def close_frame(code: int = 1000, reason: str = "") -> bytes:
    return frame(struct.pack("!H", code) + reason.encode(), CLOSE)


def command(type_: str, **fields: Any) -> bytes:
    """Returns a command in a frame."""
    return frame(json.dumps({"type": type_} | fields))


@frozen
class Frame:
    opcode: int
    payload: bytes
    fin: bool

    @property
    def objects(self) -> list[Json]:
        return [json.loads(text) for text in self.payload.split(b"\n")]


@define
class WebSocketClient:
    """A WebSocket client that only parses JSON."""

    raw: Raw
    subprotocol: str | None = None
    """The subprotocol that the gateway chose."""
    answers_pings: bool = True
    """Whether the client answers WebSocket pings, as browsers do automatically."""
    frames: list[Frame] = field(factory=list)
    """The received text frames, in order."""
    pings: int = 0
    _objects: deque[Json] = field(factory=deque)

    async def send(self, type_: str, **fields: Any) -> None:
        await self.raw.send(command(type_, **fields))

    async def receive(self) -> Json:
        """Returns the next object. Raises `Closed` or `Reset`."""
        while not self._objects:
            frame_ = await self._frame()
            if frame_.opcode == CLOSE:
                code, reason = struct.unpack("!H", frame_.payload[:2])[0], frame_.payload[2:]
                raise Closed(code, reason.decode())
            if frame_.opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    await self.raw.send(frame(frame_.payload, PONG))
            elif frame_.opcode == TEXT:
                self.frames.append(frame_)
                self._objects += frame_.objects
        return self._objects.popleft()

    async def receive_type(self, type_: str) -> Json:
        """Returns the next object of this type; others are skipped."""
        return await self.receive_until(lambda object_: object_["type"] == type_)

    async def receive_until(self, wanted: Callable[[Json], bool]) -> Json:
        while not wanted(object_ := await self.receive()):
            pass
        return object_

    async def request(self, type_: str, **fields: Any) -> Json:
        """Sends a command, and returns its answer, which must be the next frame except pings."""
        await self.send(type_, **fields)
        return await self.receive()

    async def close_code(self, *, answer: bool = True) -> int | None:
        """Receives the close frame and answers it. Returns its code; None if there was none."""
        try:
            while True:
                await self.receive()
        except Closed as closed:
            if closed.code is not None:
                if answer:
                    await self.raw.send(close_frame(closed.code))
                assert await self.raw.receive_rest() == b"", "something followed the close frame"
            return closed.code

    async def close(self) -> None:
        """Closes the connection with a closing handshake."""
        await self.raw.send(close_frame())
        assert await self.close_code(answer=False) == 1000

    async def _frame(self) -> Frame:
        head = await self.raw.receive_exactly(2)
        if len(head) < 2:
            raise Closed(None)
        assert not head[1] & 0x80, "a server does not mask"
        assert not head[0] & 0x70, "nobody agreed on an extension"
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.raw.receive_exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.raw.receive_exactly(8))
        payload = await self.raw.receive_exactly(size)
        assert len(payload) == size, "it ended in the middle of a frame"
        return Frame(head[0] & 0x0F, payload, bool(head[0] & 0x80))


@asynccontextmanager
async def open_client(
    port: int,
    *,
    subprotocol: str | None = None,
    path: str = "/ws",
    origin: str | None = None,
    receive_buffer: int | None = None,
    patience: float = PATIENCE,
) -> AsyncIterator[WebSocketClient]:
    """Yields a WebSocket client after its handshake. At the end the client is closed without a
    close frame."""
    async with connect(port, receive_buffer=receive_buffer, patience=patience) as raw:
        await raw.send(upgrade(path, subprotocol=subprotocol, origin=origin or ""))
        status, headers = await raw.receive_head()
        assert status == 101
        yield WebSocketClient(raw, headers.get("sec-websocket-protocol"))


@define
class Follower:
    """Keeps positions by the client's rule of `docs/protocol.md`."""

    at: dict[str, tuple[int, int]] = field(factory=dict)
    states: dict[str, Json | None] = field(factory=dict)
    steps: list[tuple[int | None, int]] = field(factory=list)
    """(prev, seq) of each frame."""

    def take(self, object_: Json) -> None:
        """Stores a `progress` frame. Fails if the frame does not follow the previous one."""
        job, epoch, prev, seq = (object_[name] for name in ("job", "epoch", "prev", "seq"))
        assert (prev is None) == (object_.get("snapshot") is True)
        if prev is not None:
            assert self.at[job] == (epoch, prev)
            assert seq > prev
        self.at[job] = epoch, seq
        self.states[job] = object_["state"]
        self.steps.append((prev, seq))

    async def follow(self, client: WebSocketClient, until: Callable[[Json], bool]) -> None:
        """Receives progress until `until` returns true for the state."""
        while True:
            object_ = await client.receive_type("progress")
            self.take(object_)
            if object_["state"] is not None and until(object_["state"]):
                return


def is_final(state: Json) -> bool:
    return bool(state["status"] in ("succeeded", "failed", "cancelled"))
