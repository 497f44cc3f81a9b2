"""Opens a WebSocket to a gateway, and explains failures.

The library waits for the answer to its handshake even after the server has closed the connection or
sent something else. So `_EndNotifier` cancels the handshake at the end of the stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import trio
from h11 import LocalProtocolError
from trio_websocket import WebSocketConnection, wrap_client_stream

from ...protocol.messages import SUBPROTOCOL

__all__ = ["CONNECT_TIMEOUT", "NoGateway", "connected_to"]

CONNECT_TIMEOUT = 10.0  # seconds to connect, then for the handshake, then for the welcome
CLOSE_TIMEOUT = 0.2  # seconds; the close frame is sent at once, and its answer is optional
MAX_MESSAGE = 16 * 1024 * 1024  # bytes: far more than a gateway joins into one message


class NoGateway(Exception):
    """The server cannot be reached. Not an OSError, because the display may raise those too."""


@asynccontextmanager
async def connected_to(url: str) -> AsyncIterator[WebSocketConnection]:
    """Opens a WebSocket to the gateway at `url`, and closes it at the end of the context.

    Raises `NoGateway`, `TooSlowError`, and the library's errors for an unexpected response, in
    groups.
    """
    parts = urlsplit(url)
    stream = await _open_stream(parts)
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_TIMEOUT):
                ws = await _handshake(nursery, stream, parts)
            try:
                yield ws
            finally:
                with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
                    await ws.aclose()
            nursery.cancel_scope.cancel()
    except* LocalProtocolError as group:
        # The library answers data that is not HTTP as if it were the server.
        raise _no_gateway(parts) from group
    finally:
        # The library does not always close it.
        await trio.aclose_forcefully(stream)


async def _open_stream(parts: SplitResult) -> trio.abc.Stream:
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    with trio.fail_after(CONNECT_TIMEOUT):
        try:
            if secure:
                return await trio.open_ssl_over_tcp_stream(host, port)
            return await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise NoGateway(str(error)) from error


async def _handshake(
    nursery: trio.Nursery, stream: trio.abc.Stream, parts: SplitResult
) -> WebSocketConnection:
    if isinstance(stream, trio.SSLStream):
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise NoGateway(str(error.__cause__ or error)) from error
    with trio.CancelScope() as scope:
        return await wrap_client_stream(
            nursery,
            trio.StapledStream(stream, _EndNotifier(stream, on_end=scope.cancel)),  # type: ignore[arg-type]  # any will do
            parts.netloc,
            parts.path.rstrip("/") + "/ws",
            subprotocols=[SUBPROTOCOL],
            message_queue_size=1,
            max_message_size=MAX_MESSAGE,
        )
    raise _no_gateway(parts)


def _no_gateway(parts: SplitResult) -> NoGateway:
    return NoGateway(f"{parts.netloc} does not respond as a gateway; is {parts.scheme}:// correct?")


class _EndNotifier(trio.abc.ReceiveStream):
    """Receives from a stream, and calls `on_end` at its end."""

    def __init__(self, stream: trio.abc.Stream, *, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self._on_end()
        return data

    async def aclose(self) -> None:
        self._on_end()
        await self._stream.aclose()
