"""Opening a WebSocket to a gateway, and saying why that failed.

The library waits for the answer to its handshake also when none can come any more: who is
there has hung up, or speaks something else. So the stream under it is watched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import trio
from h11 import LocalProtocolError
from trio_websocket import WebSocketConnection, wrap_client_stream

from ..protocol import SUBPROTOCOL

__all__ = ["DIAL_WITHIN", "Away", "dialled"]

DIAL_WITHIN = 10.0  # seconds, to connect, then to shake hands, then to be welcomed
GOODBYE_WITHIN = 0.2  # ours leaves at once; to be answered is a courtesy
MAX_MESSAGE = 16 * 1024 * 1024  # bytes: far above what a gateway joins into one


class Away(Exception):
    """There is nobody to talk to. No OSError, for those may also be the audience's."""


@asynccontextmanager
async def dialled(url: str) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket to the gateway at `url`; hung up, and its socket closed, at the end.

    Raises `Away`, `TooSlowError`, and what the library raises for another answer, in groups.
    """
    parts = urlsplit(url)
    stream = await _connected(parts)
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(DIAL_WITHIN):
                ws = await _shaken(nursery, stream, parts)
            try:
                yield ws
            finally:
                with trio.move_on_after(GOODBYE_WITHIN, shield=True):
                    await ws.aclose()
            nursery.cancel_scope.cancel()
    except* LocalProtocolError as group:
        # The library answers what is no HTTP as if it were the server.
        raise _no_gateway(parts) from group
    finally:
        # The library closes it in some endings only.
        await trio.aclose_forcefully(stream)


async def _connected(parts: SplitResult) -> trio.abc.Stream:
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    with trio.fail_after(DIAL_WITHIN):
        try:
            if secure:
                return await trio.open_ssl_over_tcp_stream(host, port)
            return await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise Away(str(error)) from error


async def _shaken(
    nursery: trio.Nursery, stream: trio.abc.Stream, parts: SplitResult
) -> WebSocketConnection:
    if isinstance(stream, trio.SSLStream):
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise Away(str(error.__cause__ or error)) from error
    with trio.CancelScope() as hope:
        return await wrap_client_stream(
            nursery,
            trio.StapledStream(stream, _Watched(stream, over=hope.cancel)),  # type: ignore[arg-type]  # any will do
            parts.netloc,
            parts.path.rstrip("/") + "/ws",
            subprotocols=[SUBPROTOCOL],
            message_queue_size=1,
            max_message_size=MAX_MESSAGE,
        )
    raise _no_gateway(parts)


def _no_gateway(parts: SplitResult) -> Away:
    return Away(f"{parts.netloc} does not answer as a gateway; is {parts.scheme}:// right?")


class _Watched(trio.abc.ReceiveStream):
    """What comes from a stream; calls `over` when nothing more does."""

    def __init__(self, stream: trio.abc.Stream, *, over: Callable[[], None]) -> None:
        self._stream = stream
        self._over = over

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self._over()
        return data

    async def aclose(self) -> None:
        self._over()
        await self._stream.aclose()
