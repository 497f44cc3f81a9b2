"""A client's socket, as a Trio stream with four properties that libraries above rely on.

- What was read to tell HTTP from WebSocket can be put back (`unread`).
- A write is tried at once, and waits only if the socket is full: no scheduler pass for
  the usual case (measured: 3 µs instead of 17).
- Writes are whole. Several tasks may write (our writer; trio-websocket answering a ping):
  one write is not inside another, and after one was cut off by its deadline or by
  cancellation no other can follow: the stream is torn.
- A write that waits has a deadline here, where no library's shield can keep it off.
- A client's end is told in its turn, to whoever reads or writes. If ten thousand leave in
  one moment, all their tasks would go step by step side by side, and whoever stays would
  wait for each such pass of the scheduler (measured: half a second a pass).
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import trio
from trio.abc import HalfCloseableStream

from ..limits import Limits

__all__ = ["ClientStream"]

RECEIVE_SIZE = 64 * 1024
NOT_SENT = 64 * 1024
"""Bytes that may wait in the kernel unsent (TCP_NOTSENT_LOWAT). What waits there is old
news by the time it leaves, and memory; what waits in an outbox is neither."""
LINGER_BYTES = 1024 * 1024
"""What a client may still say after we have said goodbye, before we stop listening."""

_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class ClientStream(HalfCloseableStream):
    """Takes over a connected, non-blocking TCP (or Unix) socket. Used in Trio.

    Clients that share a `way_out` leave a few at a time.
    """

    def __init__(
        self, sock: socket.socket, *, limits: Limits, way_out: trio.Semaphore | None = None
    ) -> None:
        self.socket = sock
        self.heard_at = trio.current_time()
        """When bytes last arrived, on Trio's clock."""
        self.closed = trio.Event()
        """Set when the socket is closed, by whomever."""
        self._limits = limits
        self._way_out = way_out or trio.Semaphore(1)
        self._unread = b""
        self._receiving = False
        self._closing = False
        self._write_lock = trio.StrictFIFOLock()
        self._torn = False
        self._turn: trio.Event | None = None
        """Set when it is this client's turn to leave; None as long as it stays."""
        self._set_options()

    def __repr__(self) -> str:
        return f"<ClientStream fd {self.socket.fileno()}>"

    def unread(self, data: bytes) -> None:
        """Put back what was read: the next `receive_some` returns it first."""
        self._unread = data + self._unread

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes; b"" at the end of the stream.

        Raises `trio.BrokenResourceError` if the connection was reset, and
        `trio.ClosedResourceError` once it is being closed here: what comes then is for nobody.
        """
        if self._closing:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError
        if self._unread:
            await trio.lowlevel.checkpoint()
            size = max_bytes or len(self._unread)
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        return await self._receive(max_bytes or RECEIVE_SIZE)

    async def _receive(self, max_bytes: int) -> bytes:
        self._receiving = True
        try:
            while True:
                await trio.lowlevel.wait_readable(self._open_socket())
                with suppress(BlockingIOError):
                    data = self._open_socket().recv(max_bytes)
                    self.heard_at = trio.current_time()
                    if not data:
                        await self.turn_to_leave()
                    return data
        except OSError as error:
            await self.turn_to_leave()
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. A checkpoint only if it waits: its callers each come from one.

        Raises `trio.BrokenResourceError` if the connection is gone, torn, or still full
        after `limits.write_timeout`; the last also aborts it. Cancelled while it waits,
        it tears the stream.
        """
        if self._write_lock.locked():
            async with self._write_lock:
                await self._send(memoryview(data))
        else:
            rest = self.send_now(data)
            if rest is not None:
                await self.send_rest(rest)

    def send_now(self, data: bytes | bytearray | memoryview) -> memoryview | None:
        """Send what the socket takes at once; None if that was everything.

        Otherwise the rest, which must be given to `send_rest` next, by the same task. It
        is all of it while another task writes, and if the client is gone: that is told
        there. Raises only if the stream is closed or torn.
        """
        if self._is_to_leave or self._write_lock.locked():
            return memoryview(data)
        try:
            sent = self._try_send(data)
        except OSError:
            sent = 0
        if sent == len(data):
            return None
        self._write_lock.acquire_nowait()  # now: nobody may come between
        return memoryview(data)[sent:]

    async def send_rest(self, rest: memoryview) -> None:
        """Send what `send_now` left. Raises like `send_all`, and tears the stream like it."""
        if self._write_lock.statistics().owner is not trio.lowlevel.current_task():
            await self._write_lock.acquire()
        try:
            await self._send(rest)
        finally:
            self._write_lock.release()

    async def wait_send_all_might_not_block(self) -> None:
        async with self._write_lock:
            await trio.lowlevel.wait_writable(self._open_socket())

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        await trio.lowlevel.checkpoint()
        with suppress(OSError):
            self._open_socket().shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close so that what was sent arrives, within `limits.close_timeout`.

        A socket closed with unread bytes in it makes the kernel send a reset, which
        destroys what the client has not read yet, such as the close frame that says why
        (RFC 9112 §9.6). So the client is heard out first. Torn, or cancelled: closed at
        once.
        """
        if self.closed.is_set():
            await trio.lowlevel.checkpoint()
            return
        if self._torn:
            self.abort()
            return
        self._closing = True
        try:
            # Another task may close it first: hypercorn does so from two.
            with (
                trio.move_on_after(self._limits.close_timeout),
                suppress(trio.ClosedResourceError),
            ):
                await self.send_eof()
                if not self._receiving:
                    await self._hear_out()
        finally:
            self._close()

    async def turn_to_leave(self) -> None:
        """Return when it is this client's turn to go; it has one, for all who tell of its end.

        The turn lasts one pass of the scheduler and not until the client is gone, for that
        may be waited for: ten who take their time would keep all others.
        """
        if self._turn is not None:
            await self._turn.wait()
            return
        self._turn = trio.Event()
        try:
            async with self._way_out:
                await trio.lowlevel.checkpoint()
        finally:
            self._turn.set()

    def abort(self) -> None:
        """Close with a reset: whatever is in the buffers is dropped. Idempotent."""
        if not self.closed.is_set():
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            self._close()

    def _set_options(self) -> None:
        if self.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return
        tcp = socket.IPPROTO_TCP
        self.socket.setsockopt(tcp, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self.socket.setsockopt(tcp, socket.TCP_NOTSENT_LOWAT, NOT_SENT)

    @property
    def _is_to_leave(self) -> bool:
        """Whether the client's end was met, and is not to be told yet."""
        return self._turn is not None and not self._turn.is_set()

    def _open_socket(self) -> socket.socket:
        if self.closed.is_set():
            raise trio.ClosedResourceError
        return self.socket

    def _try_send(self, data: bytes | bytearray | memoryview) -> int:
        if self._torn:
            raise trio.BrokenResourceError("a write was cut off")
        try:
            return self._open_socket().send(data)
        except BlockingIOError:
            return 0

    async def _send(self, rest: memoryview) -> None:
        """Send everything, holding the lock."""
        whole = False
        try:
            if self._is_to_leave:
                await self.turn_to_leave()
            with trio.move_on_after(self._limits.write_timeout):
                while rest:
                    sent = self._try_send(rest)
                    rest = rest[sent:]
                    if rest:
                        await trio.lowlevel.wait_writable(self._open_socket())
                whole = True
        except OSError as error:
            await self.turn_to_leave()
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._torn = self._torn or not whole
        if not whole:
            self.abort()
            raise trio.BrokenResourceError("the client takes nothing")

    async def _hear_out(self) -> None:
        heard = 0
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while heard < LINGER_BYTES:
                data = await self._receive(RECEIVE_SIZE)
                if not data:
                    return
                heard += len(data)

    def _close(self) -> None:
        if not self.closed.is_set():
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
            self.closed.set()
