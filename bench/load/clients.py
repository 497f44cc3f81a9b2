"""Thousands of clients with one epoll, one buffer and large reads.

All sockets are read in rounds that begin at most every `TICK`. So a busy server's events
are read many at a time, as a network card would deliver them, and a `send` does not
include the cost of waking a reader that sleeps in the kernel (on loopback the sender does the
receiver's work). The disadvantage is that ages are up to a tick too high, for every server alike.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

from attrs import define, field

from .ages import Ages
from .marks import OVERLAP, Scan, scan
from .wire import Dialect, Step

__all__ = ["TICK", "Clients", "ClientsLost"]

TICK = 0.002
READ_SIZE = 512 * 1024
HANDSHAKES_AT_ONCE = 128
"""The maximum number of clients in their handshake. They fit into a listener's backlog; otherwise
the kernel would retry after a second."""
CONNECT_TIMEOUT = 60.0
PER_ADDRESS = 250
"""The number of clients from one loopback address, because servers limit it."""


class ClientsLost(Exception):
    """The server closed connections that it should have kept."""


@define
class _Handshake:
    """The handshake of a client that is not subscribed yet."""

    steps: list[Step]
    received: bytearray = field(factory=bytearray)


class Clients:
    """Clients of the server at `port`. They are created and used in one thread."""

    def __init__(self, port: int, dialect: Dialect) -> None:
        self._address = ("127.0.0.1", port)
        self._dialect = dialect
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._receive: dict[int, Callable[[memoryview], int]] = {}
        self._tails: dict[int, bytes | bytearray] = {}
        self._handshakes: dict[int, _Handshake] = {}
        self._silent: list[int] = []
        self._buffer = bytearray(OVERLAP + READ_SIZE)
        self._view = memoryview(self._buffer)[OVERLAP:]
        self._since = 0
        self.ages = Ages()
        """The ages of the events that were due since `reset`."""
        self.events = 0
        """The number of received events that were due since `reset`."""
        self.total = 0
        """The number of all received events."""
        self.received = 0
        """The number of all received bytes."""
        self.lost = 0

    def __len__(self) -> int:
        return len(self._sockets)

    def connect(self, wanted: Sequence[Sequence[str]]) -> float:
        """Adds a client for each list of jobs; returns the seconds until all are subscribed.

        Raises `ClientsLost`, and TimeoutError after a minute.
        """
        began = time.monotonic()
        waiting = list(reversed(wanted))
        while waiting or self._handshakes:
            while waiting and len(self._handshakes) < HANDSHAKES_AT_ONCE:
                self._add(waiting.pop())
            self.poll(0.01)
            if self.lost:
                raise ClientsLost(f"{self.lost} while connecting")
            if time.monotonic() > began + CONNECT_TIMEOUT:
                raise TimeoutError(
                    f"{len(waiting) + len(self._handshakes)} clients are not subscribed"
                )
        return time.monotonic() - began

    def stop_reading(self, share: float) -> None:
        """Lets the first `share` of the clients stop reading."""
        for fd in list(self._sockets)[: round(len(self._sockets) * share)]:
            self._epoll.unregister(fd)
            self._silent.append(fd)

    def reset(self, since: float) -> None:
        """Resets the counts; events that were due before `since` are not counted."""
        self._since = int(since * 1e6)
        self.events = 0
        self.ages.clear()

    def poll(self, timeout: float = 0.0) -> int:
        """Reads all available data once. Returns the number of events in it."""
        buffer, view, receive, tails = self._buffer, self._view, self._receive, self._tails
        before = self.total
        for fd, _ in self._epoll.poll(timeout, 20_000):
            try:
                size = receive[fd](view)
            except BlockingIOError:
                continue
            except OSError:
                size = 0
            if not size:
                self._lose(fd)
                continue
            self.received += size
            if self._handshakes and fd in self._handshakes:
                self._continue(fd, size)
                continue
            buffer[:OVERLAP] = tails[fd]
            end = OVERLAP + size
            tails[fd] = buffer[size:end]
            events = scan(buffer, end)
            if events.events:
                self._count(events)
            else:
                self._reply(fd, end)
        return self.total - before

    def _count(self, found: Scan) -> None:
        events, oldest, newest = found
        self.total += events
        # If a mark is incomplete, use the others, which arrived at the same time.
        oldest, newest = oldest or newest, newest or oldest
        if oldest is None or newest is None:
            self.events += events
            return
        if newest < self._since:
            return
        if oldest < self._since:  # as if they were spread evenly
            events = round(events * (newest - self._since) / (newest - oldest))
            oldest = self._since
        self.events += events
        now = time.monotonic_ns() // 1000
        self.ages.add(now - oldest, events // 2)
        self.ages.add(now - newest, events - events // 2)

    def close(self) -> None:
        """Disconnects all clients at once."""
        self._epoll.close()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._receive.clear()

    def _add(self, jobs: Sequence[str]) -> None:
        source = f"127.0.1.{1 + len(self._sockets) // PER_ADDRESS}"
        sock = socket.create_connection(self._address, timeout=5, source_address=(source, 0))
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd = sock.fileno()
        self._sockets[fd] = sock
        self._receive[fd] = sock.recv_into
        self._tails[fd] = bytes(OVERLAP)
        handshake = self._handshakes[fd] = _Handshake(list(self._dialect.subscribed(jobs)))
        self._epoll.register(fd, select.EPOLLIN)
        sock.send(handshake.steps[0].send)

    def _continue(self, fd: int, size: int) -> None:
        handshake = self._handshakes[fd]
        handshake.received += self._view[:size]
        while handshake.steps and (at := handshake.received.find(handshake.steps[0].until)) >= 0:
            del handshake.received[: at + len(handshake.steps.pop(0).until)]
            if handshake.steps:
                self._sockets[fd].send(handshake.steps[0].send)
        if not handshake.steps:
            del self._handshakes[fd]

    def _reply(self, fd: int, end: int) -> None:
        for received, reply in self._dialect.replies.items():
            if self._buffer.find(received, OVERLAP, end) >= 0:
                self._sockets[fd].send(reply)

    def _lose(self, fd: int) -> None:
        self.lost += 1
        self._handshakes.pop(fd, None)
        self._epoll.unregister(fd)
        self._receive.pop(fd)
        self._sockets.pop(fd).close()
