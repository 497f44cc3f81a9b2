"""Sends HTTP requests that publish, on connections that stay open. Counts the responses, and
measures the time of each."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from attrs import define, field

from .ages import Ages

__all__ = ["Posts", "RequestRefused", "request"]


class RequestRefused(Exception):
    """The status of a response is not 200."""


def request(path: str, body: bytes) -> bytes:
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    length = f"Content-Length: {len(body)}\r\n\r\n"
    return (head.format(path) + length).encode() + body


@define
class _Connection:
    socket: socket.socket
    received: bytes = b""
    checked_at: float = field(factory=time.monotonic)


class Posts:
    """Connections to the server at `port`, each of which sends its next request when it has the
    response.

    `make` makes a request from a number, so that each update changes something.
    """

    def __init__(self, port: int, make: Callable[[int], bytes], *, connections: int) -> None:
        self._make = make
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._sent = 0
        self.answered = 0
        self.times = Ages()
        """Milliseconds from each request to its response."""
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port), timeout=5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._connections[sock.fileno()] = _Connection(sock)
            self._epoll.register(sock, select.EPOLLIN)
            self._send(connection)

    def poll(self, timeout: float = 0.0) -> None:
        """Reads the responses, and sends the next requests. Raises `RequestRefused`."""
        for fd, _ in self._epoll.poll(timeout):
            connection = self._connections[fd]
            connection.received += connection.socket.recv(262_144)
            if not self._is_whole(connection.received):
                continue
            now = time.monotonic()
            self.times.add(int((now - connection.checked_at) * 1e6))
            self.answered += 1
            connection.received = b""
            self._send(connection)

    def close(self) -> None:
        self._epoll.close()
        for connection in self._connections.values():
            connection.socket.close()

    def _send(self, connection: _Connection) -> None:
        self._sent += 1
        connection.checked_at = time.monotonic()
        connection.socket.sendall(self._make(self._sent))

    def _is_whole(self, received: bytes) -> bool:
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 200" not in head[:16]:
            raise RequestRefused(received.decode(errors="replace")[:200])
        head = head.lower()
        at = head.find(b"content-length:")
        if at < 0:  # chunked: the last chunk is empty
            return body.endswith(b"0\r\n\r\n")
        return len(body) >= int(head[at + 15 :].split(b"\r\n", 1)[0])
