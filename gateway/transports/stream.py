"""A client's socket, as a Trio stream with five properties that libraries above rely on.

- What was read to tell HTTP from WebSocket can be put back (`unread`).
- A write is tried at once, and waits only if the socket is full. In most cases no scheduler pass
  is needed (measured: 3 µs instead of 17).
- Writes are atomic. Several tasks may write (the gateway's writer; trio-websocket answering a
  ping), and their writes do not mix. After a write was cut off by its deadline or by
  cancellation, the stream is broken and no other write can follow.
- A write has a deadline here, which a shielded scope in a library cannot prevent.
- The readers and writers of clients that leave are woken a few at a time. If ten thousand
  clients left at once, all their tasks would run in the same passes of the scheduler, and other
  clients would wait for each pass (measured: half a second a pass).
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import trio
from trio.abc import HalfCloseableStream

from ..model.limits import Limits

__all__ = ["ClientStream"]

RECEIVE_SIZE = 64 * 1024
NOT_SENT = 64 * 1024
"""Unsent bytes that may wait in the kernel (TCP_NOTSENT_LOWAT). They take memory and are out of
date when they leave; what waits in an outbox is neither."""
LINGER_BYTES = 1024 * 1024
"""Bytes of input that are read and dropped after the last write, before the socket is closed."""

_RST_ON_CLOSE = struct.pack("ii", 1, 0)


class ClientStream(HalfCloseableStream):
    """Takes over a connected, non-blocking TCP (or Unix) socket. Used in Trio.

    Clients that share a `departures` semaphore leave a few at a time.
    """

    def __init__(
        self, sock: socket.socket, *, limits: Limits, departures: trio.Semaphore | None = None
    ) -> None:
        self.socket = sock
        self.received_at = trio.current_time()
        """When bytes last arrived, on Trio's clock."""
        self.closed = trio.Event()
        """Set when the socket is closed, by any task."""
        self._limits = limits
        self._departures = departures or trio.Semaphore(1)
        self._unread = b""
        self._held = b""
        """What `send_with_next` was given."""
        self._receiving = False
        self._closing = False
        self._writable = trio.Semaphore(1)
        """Held while a write is under way. No task owns it: the connection's writer finishes what
        the fan-out has begun."""
        self._is_writing = False
        """Whether it is held: reading an attribute takes a tenth of asking a semaphore."""
        self._begun: memoryview | None = None
        """What `send_now` left of the write that holds it."""
        self._write_failed = False
        self._turn: trio.Event | None = None
        """Set when it is this client's turn to leave; None until it is about to."""
        self._leaving = False
        """Whether the end of the stream was read, but not passed to the tasks yet."""
        self._set_options()

    def __repr__(self) -> str:
        return f"<ClientStream fd {self.socket.fileno()}>"

    def unread(self, data: bytes) -> None:
        """Put back what was read: the next `receive_some` returns it first."""
        self._unread = data + self._unread

    def take_unread(self) -> bytes:
        """What was put back, if anything; it is not returned again."""
        data, self._unread = self._unread, b""
        return data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes; b"" at the end of the stream.

        Raises `trio.BrokenResourceError` if the connection was reset, and
        `trio.ClosedResourceError` when it is being closed here; input is then dropped.
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
            if self._held:
                await self.send_all(b"")
            while True:
                await trio.lowlevel.wait_readable(self._open_socket())
                with suppress(BlockingIOError):
                    data = self._open_socket().recv(max_bytes)
                    self.received_at = trio.current_time()
                    if not data:
                        await self.departure_slot()
                    return data
        except OSError as error:
            await self.departure_slot()
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._receiving = False

    def send_with_next(self, data: bytes) -> None:
        """Send this together with what is sent next, or when a task begins to wait for input."""
        self._held += data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. A checkpoint only if it waits; its callers come from one.

        Raises `trio.BrokenResourceError` if the connection is gone or broken, or still full
        after `limits.write_timeout`; the timeout also aborts it. If cancelled while it waits, it
        breaks the stream.
        """
        if self._is_writing:
            await self._begin_write()
            try:
                await self._send(memoryview(data))
            finally:
                self._end_write()
        else:
            rest = self.send_now(data)
            if rest is not None:
                await self.send_rest(rest)

    def send_now(self, data: bytes | bytearray | memoryview) -> memoryview | None:
        """Send what the socket takes at once; None if that was everything.

        Otherwise returns the rest, which some task must pass to `send_rest` next. The rest is
        all of the data while another write is under way, and if the client is gone; `send_rest`
        raises the error then. Raises only if the stream is closed or broken.
        """
        if self._held:
            data, self._held = self._held + data, b""
        if self._leaving or self._is_writing:
            return memoryview(data)
        if self._write_failed:
            raise trio.BrokenResourceError("a write was cut off")
        try:
            sent = self.socket.send(data)
        except OSError:  # it is full, closed, or the client is gone
            self._open_socket()
            sent = 0
        if sent == len(data):
            return None
        self._writable.acquire_nowait()  # without a checkpoint, so that no other write comes first
        self._is_writing = True
        self._begun = memoryview(data)[sent:]
        return self._begun

    def has_begun(self, rest: memoryview) -> bool:
        """Whether part of the write whose `rest` `send_now` returned may be on the wire, so that
        it must come before all others."""
        return rest is self._begun

    async def send_rest(self, rest: memoryview) -> None:
        """Send what `send_now` left. Raises and breaks the stream like `send_all`."""
        if rest is not self._begun:
            await self._begin_write()
        self._begun = None
        try:
            await self._send(rest)
        finally:
            self._end_write()

    async def wait_send_all_might_not_block(self) -> None:
        await self._begin_write()
        try:
            await trio.lowlevel.wait_writable(self._open_socket())
        finally:
            self._end_write()

    async def send_eof(self) -> None:
        """Shut the sending direction down."""
        await trio.lowlevel.checkpoint()
        with suppress(OSError):
            self._open_socket().shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close so that what was sent arrives, within `limits.close_timeout`.

        If a socket is closed with unread input in it, the kernel sends a reset, which destroys
        data that the client has not read yet, such as the close frame with the reason (RFC 9112
        §9.6). So the input is read first. A broken stream is closed at once, as is one whose
        close is cancelled.
        """
        if self.closed.is_set():
            await trio.lowlevel.checkpoint()
            return
        if self._write_failed:
            self.abort()
            return
        self._closing = True
        try:
            # Another task may close it first: hypercorn closes from two tasks.
            with (
                trio.move_on_after(self._limits.close_timeout),
                suppress(trio.ClosedResourceError),
            ):
                await self.send_eof()
                if not self._receiving:
                    await self._drain_input()
        finally:
            self._close()

    async def departure_slot(self) -> None:
        """Wait for the turn to disconnect this client. All its tasks share one turn. A turn lasts
        one pass of the scheduler, not until the connection is closed: otherwise ten slow clients
        would delay all others.
        """
        if self._turn is not None:
            await self._turn.wait()
            return
        self._turn = trio.Event()
        self._leaving = True
        try:
            async with self._departures:
                await trio.lowlevel.checkpoint()
        finally:
            self._leaving = False
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

    async def _begin_write(self) -> None:
        """Wait for the turn to write; no checkpoint if it is free, during which another task would
        take `_is_writing` for false."""
        try:
            self._writable.acquire_nowait()
        except trio.WouldBlock:
            await self._writable.acquire()
        self._is_writing = True

    def _end_write(self) -> None:
        self._writable.release()
        self._is_writing = not self._writable.value  # another task may have begun to write

    def _open_socket(self) -> socket.socket:
        if self.closed.is_set():
            raise trio.ClosedResourceError
        return self.socket

    def _try_send(self, data: bytes | bytearray | memoryview) -> int:
        if self._write_failed:
            raise trio.BrokenResourceError("a write was cut off")
        try:
            return self._open_socket().send(data)
        except BlockingIOError:
            return 0

    async def _send(self, rest: memoryview) -> None:
        """Send everything, holding the lock."""
        whole = False
        try:
            if self._leaving:
                await self.departure_slot()
            with trio.move_on_after(self._limits.write_timeout):
                while rest:
                    sent = self._try_send(rest)
                    rest = rest[sent:]
                    if rest:
                        await trio.lowlevel.wait_writable(self._open_socket())
                whole = True
        except OSError as error:
            await self.departure_slot()
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._write_failed = self._write_failed or not whole
        if not whole:
            self.abort()
            raise trio.BrokenResourceError("the client takes nothing")

    async def _drain_input(self) -> None:
        drained = 0
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while drained < LINGER_BYTES:
                data = await self._receive(RECEIVE_SIZE)
                if not data:
                    return
                drained += len(data)

    def _close(self) -> None:
        if not self.closed.is_set():
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()
            self.closed.set()
