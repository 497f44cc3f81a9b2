"""Connections to a simulated Redis, and their faults. Only the socket is simulated: redis-py's own
connections, pools and parsers use it. A request arrives after a latency and is executed, and the
response arrives after another latency. A fault of a link is a mode that it has for a while.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from math import inf
from typing import Any, Literal

import hiredis
import trio
from attrs import define, field
from redis import Connection, ConnectionPool
from redis import Redis as Client
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py uses this name

from gateway.brokers.redis.servers import CONNECT_TIMEOUT, TIMEOUT

from .redis import Blocked, Redis, Refused, Status, encode
from .threads import block

__all__ = ["Link", "Mode", "Servers"]

Mode = Literal["ok", "refuse", "hang", "slow", "some_slow", "lose_requests", "lose_answers", "cut"]


ENDS = [b'"status":"%s"' % status for status in (b"succeeded", b"failed", b"cancelled")]


@define(eq=False)
class Server:
    """A Redis with the connections to it."""

    redis: Redis
    sockets: dict[Socket, None] = field(factory=dict)
    news: trio.Event = field(factory=trio.Event)
    dead: bool = False

    def __attrs_post_init__(self) -> None:
        self.redis.changed = self._changed

    ended: Callable[[], None] = lambda: None
    """Called when a job's end has been written."""

    def _changed(self, key: bytes) -> None:
        if key == b"progress:feed":
            text = self.redis.store.values[key].entries[-1][1][1]
            if any(status in text for status in ENDS):
                self.ended()
        self.news.set()
        self.news = trio.Event()

    def kill(self) -> None:
        """Close all connections, because the process has ended."""
        self.dead = True
        self.drop()

    def drop(self) -> None:
        """Close all connections."""
        for sock in list(self.sockets):
            sock.reset()


@define(eq=False)
class Link:
    """The network between a participant and the server at its address."""

    resolve: Callable[[], Server]
    rng: random.Random
    mode: Mode = "ok"
    odds: float = 1.0
    """The probability with which a mode that loses or cuts something does so."""
    latency: tuple[float, float] = (0.0002, 0.003)
    delay: float = 0.0
    """Additional seconds in each direction."""
    away: bool = False
    """Whether it refuses connections, whatever its mode."""
    sockets: dict[Socket, None] = field(factory=dict)

    def travel(self, *, some: bool = False) -> float:
        """Seconds in one direction; for `some` connections it may be more than for others."""
        took = self.rng.uniform(*self.latency) + self.delay
        if self.mode == "slow" and self._strikes():
            took += self.rng.uniform(0.5, 3.0)
        if self.mode == "some_slow" and some:
            took += self.rng.uniform(0.0, 0.4)
        return took

    def _strikes(self) -> bool:
        return self.rng.random() < self.odds

    def strikes(self, *modes: Mode) -> bool:
        """Whether the current mode is one of these and takes effect now."""
        return (self.away and "refuse" in modes) or (self.mode in modes and self._strikes())

    def reset(self, odds: float = 1.0) -> None:
        """Drop each connection over it, with this probability."""
        for sock in list(self.sockets):
            if odds == 1 or self.rng.random() < odds:
                sock.reset()


class Socket:
    """A socket with the methods that redis-py uses. For one simulated thread at a time."""

    def __init__(self, link: Link, server: Server) -> None:
        self._link = link
        self.server = server
        self._is_one_of_some = link.rng.random() < 0.5
        self._timeout: float | None = None
        self._sent: list[tuple[float, bytes]] = []
        self._received = bytearray()
        self._requests: Any = hiredis.Reader()
        self._lost = False
        self._waiting = trio.CancelScope()
        """The scope of the thread that waits. A loss of the connection cancels it."""
        self._failed = False
        self._queued: list[list[bytes]] | None = None
        link.sockets[self] = None
        server.sockets[self] = None

    @property
    def lost(self) -> bool:
        return self._lost

    @property
    def unread(self) -> int:
        return len(self._received)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def setsockopt(self, *args: Any) -> None:
        pass

    def fileno(self) -> int:
        return -1 if self._lost else 1_000_000

    def sendall(self, data: bytes) -> None:
        if self._lost:
            raise ConnectionResetError(104, "Connection reset by peer")
        arrives_at = trio.current_time() + self._link.travel(some=self._is_one_of_some)
        self._sent.append((arrives_at, bytes(data)))

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        if not self._received:
            if self._lost:
                return self._ended()
            if self._timeout == 0.0:
                raise BlockingIOError
            if self._timeout is not None and self._timeout < 0.001:
                raise TimeoutError("timed out")
            block(self._wait)
            if not self._received:
                return self._ended()
        taken = min(len(buffer), len(self._received))
        buffer[:taken] = self._received[:taken]
        del self._received[:taken]
        return taken

    def recv(self, size: int, flags: int = 0) -> bytes:
        buffer = bytearray(size)
        if flags & socket.MSG_PEEK and not self._received:
            if self._lost:
                return b""
            raise BlockingIOError
        taken = self.recv_into(buffer)
        return bytes(buffer[:taken])

    def _ended(self) -> int:
        if self._failed:
            raise ConnectionResetError(104, "Connection reset by peer")
        return 0

    def shutdown(self, how: int) -> None:
        self.reset(failed=False)

    def close(self) -> None:
        self.reset(failed=False)

    def reset(self, *, failed: bool = True) -> None:
        if not self._lost:
            self._failed = failed
            self._lost = True
            self._waiting.cancel()
            self._link.sockets.pop(self, None)
            self.server.sockets.pop(self, None)

    async def _wait(self) -> None:
        """Wait until something was received, or the connection has ended."""
        with trio.move_on_after(inf if self._timeout is None else self._timeout) as self._waiting:
            await self._exchange()
        if self._waiting.cancelled_caught and not self._received and not self._lost:
            raise TimeoutError("timed out")

    async def _exchange(self) -> None:
        link = self._link
        while not self._received:
            if link.mode == "hang" and link.strikes("hang"):
                await trio.sleep_forever()
            if not self._sent:
                await trio.sleep_forever()
            at, data = self._sent.pop(0)
            await trio.sleep_until(at)
            if link.strikes("lose_requests", "refuse"):
                self.reset()
                return
            self._requests.feed(data)
            answer = bytearray()
            while (request := self._requests.gets()) is not False:
                answer += await self._answer(request)
            if link.strikes("lose_answers"):
                self.reset()
                return
            await trio.sleep(link.travel(some=self._is_one_of_some))
            if link.mode == "hang" and link.strikes("hang"):
                await trio.sleep_forever()
            if link.strikes("cut"):
                del answer[len(answer) // 2 :]
                self._received += answer
                self.reset()
                return
            self._received += answer

    async def _answer(self, request: list[bytes]) -> bytes:
        return b"".join(encode(await self._execute(request)))

    async def _execute(self, request: list[bytes]) -> Any:
        name = request[0].upper()
        if name == b"MULTI":
            self._queued = []
            return Status(b"OK")
        if name == b"EXEC" and self._queued is not None:
            queued, self._queued = self._queued, None
            return [self._try(command) for command in queued]
        if self._queued is not None:
            self._queued.append(request)
            return Status(b"QUEUED")
        answer = self._try(request)
        return await self._blocked(answer) if isinstance(answer, Blocked) else answer

    def _try(self, command: list[bytes]) -> Any:
        try:
            return self.server.redis.execute(*command)
        except Refused as refused:
            return refused

    async def _blocked(self, waiting: Blocked) -> Any:
        answer: Any = waiting
        with trio.move_on_after(waiting.seconds):
            while isinstance(answer, Blocked):
                await self.server.news.wait()
                answer = self.server.redis.execute(*waiting.command)
        return None if isinstance(answer, Blocked) else answer


class SimulatedConnection(Connection):
    """A connection of redis-py over a simulated socket."""

    def __init__(self, *, link: Link, **options: Any) -> None:
        self._link = link
        initialise: Any = super().__init__  # untyped
        initialise(**options)

    def can_read(self, timeout: float = 0) -> bool:
        """Does not use a descriptor, because there is none."""
        sock: Any = self._sock
        if sock is None or sock.lost:
            raise ConnectionError("Connection closed by server.")
        return bool(sock.unread)

    def _connect(self) -> Any:
        return block(self._dial)

    async def _dial(self) -> Socket:
        link = self._link
        await trio.sleep(link.travel())
        if link.mode == "hang" and link.strikes("hang"):
            await trio.sleep(CONNECT_TIMEOUT)
            raise TimeoutError("timed out")
        server = link.resolve()
        if server.dead or link.strikes("refuse"):
            raise ConnectionRefusedError(111, "Connection refused")
        sock = Socket(link, server)
        sock.settimeout(TIMEOUT)
        return sock


class Servers:
    """Replaces `gateway.brokers.redis.servers.open_servers`."""

    def __init__(self, link: Link, *, calls: int) -> None:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._pool = ConnectionPool(
            connection_class=SimulatedConnection,
            link=link,
            protocol=2,
            max_connections=calls,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        make: Any = Client  # untyped
        self.client = make(connection_pool=self._pool)

    def connection(self, key: str, *, name: str) -> Any:
        self.close()
        kwargs = self._pool.connection_kwargs | {"client_name": name}
        return self._pool.connection_class(**kwargs)

    def is_current(self, connection: Any) -> bool:
        return True  # as if no Sentinel answered, so that nodes use an old primary for longer

    def close(self) -> None:
        self._pool.disconnect(inuse_connections=False)
