"""A proxy between the browser and the gateway that simulates network faults."""

from __future__ import annotations

import re
import selectors
import socket
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType

__all__ = ["Proxy"]

REFUSED = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
HEAD = 65_536
TICK = 0.05  # seconds in which a connection notices that the proxy is closed


class Proxy:
    """A proxy on a free loopback port, which forwards to the first target that accepts.

    It handles one request per connection, so that it inspects every request.
    """

    def __init__(self, *targets: str, host: str = "127.0.0.1") -> None:
        hosts = (target.removeprefix("http://").partition(":") for target in targets)
        self._targets = [(host, int(port)) for host, _, port in hosts]
        self._listener = socket.create_server((host, 0))
        self._closed = Event()
        self._hole = Event()
        self._cut = Event()
        self._threads: list[Thread] = []
        self.refuse_upgrades = False
        """Whether WebSockets are answered with 403, as some companies' proxies do."""
        self.hold_streams = False
        """Whether event streams are kept back until they end, as some virus scanners do."""
        self.held = 0
        """The number of event streams that were kept back."""
        self.instead: Mapping[str, bytes] = {}
        """What is answered to every request in the gateway's place, by the address to which the
        client has connected. An empty answer is a connection that is closed."""
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def swallow(self) -> None:
        """Drops all data from now on, without closing connections."""
        self._hole.set()

    def heal(self) -> None:
        """Forwards new connections again; the old ones stay silent."""
        self._hole = Event()

    def cut(self) -> None:
        """Closes all connections. New ones are forwarded."""
        self._cut.set()
        self._cut = Event()

    def _start(self, run: object, *args: object) -> None:
        thread = Thread(target=run, args=args)  # type: ignore[arg-type]  # a bound method
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._start(self._serve, client, self._hole, self._cut)

    def _serve(self, client: socket.socket, hole: Event, cut: Event) -> None:
        with client, suppress(OSError):
            client.settimeout(TICK)
            head = self._head(client)
            foreign = self.instead.get(client.getsockname()[0])
            if foreign is not None:
                client.sendall(foreign)
                client.shutdown(socket.SHUT_WR)
                return
            upgrade = re.search(rb"\r\nupgrade: *websocket\r\n", head, re.IGNORECASE) is not None
            held = self.hold_streams and head.startswith(b"GET /api/events")
            if hole.is_set() or held:
                self.held += held
                self._closed.wait()
                return
            if upgrade and self.refuse_upgrades:
                client.sendall(REFUSED)
                return
            if not upgrade:
                head = re.sub(rb"(?i)\r\nconnection: *keep-alive", b"\r\nConnection: close", head)
            with self._connected() as gateway:
                gateway.sendall(head)
                self._pump(client, gateway, hole, cut)

    def _connected(self) -> socket.socket:
        for target in self._targets[:-1]:
            with suppress(ConnectionRefusedError):
                return socket.create_connection(target)
        return socket.create_connection(self._targets[-1])

    def _head(self, client: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < HEAD and not self._closed.is_set():
            with suppress(TimeoutError):
                data = client.recv(HEAD)
                if not data:
                    raise ConnectionResetError
                head += data
        return head

    def _pump(self, client: socket.socket, gateway: socket.socket, hole: Event, cut: Event) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, gateway)
            ready.register(gateway, selectors.EVENT_READ, client)
            while not self._closed.is_set() and not cut.is_set():
                for key, _ in ready.select(TICK):
                    if hole.is_set():
                        self._closed.wait()
                        return
                    source, destination = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(HEAD)
                    if not data:
                        return
                    destination.settimeout(None)
                    destination.sendall(data)
