"""The two targets of a job, for the contract suite: a real gateway and a real Redis, each behind a
TCP proxy.

The proxy forwards all data until the test lets it refuse or stall connections. So outages are the
same for both targets, and the target itself loses nothing.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

from gateway.brokers.redis.codec import decode
from gateway.model.state import State
from tests.brokers.redis.server import session_server

from .fake_gateway import DEADLINE
from .recorder import Recorder

__all__ = ["TARGETS", "Target", "TcpProxy"]


class TcpProxy:
    """Forwards connections at `port` to the address that `connect` connects to."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._shut = False
        self._flow = threading.Event()
        self._flow.set()
        self.delay = 0.0
        """Latency in seconds, in each direction."""
        self.accepted = 0
        """The number of connections that were accepted."""
        # It also listens while it refuses, so that no other program gets the port.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self) -> None:
        """Refuses new connections, and closes all open ones."""
        with self._lock:
            self._shut = True
        self.drop_connections()

    def open(self) -> None:
        with self._lock:
            self._shut = False

    def drop_connections(self) -> None:
        """Closes all open connections, like a proxy that closes idle ones."""
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._sockets.clear()

    def stall(self) -> None:
        """Stops forwarding, so that the target seems to hang."""
        self._flow.clear()

    def resume(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self.resume()
        self.refuse()
        # This wakes a thread that is waiting in `accept`; closing the socket would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._shut:
                    here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    here.close()
                    continue
                self.accepted += 1
                target_socket = self._connect()
                self._sockets += (here, target_socket)
            for pair in ((here, target_socket), (target_socket, here)):
                threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65_536):
                self._flow.wait()
                time.sleep(self.delay)  # after a request nothing more is sent before the answer
                sink.sendall(received)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class Target(NamedTuple):
    """A gateway or a Redis."""

    url: str
    other_url: str
    """Another URL of the same target, so it has another sender, like in another process."""
    proxy: TcpProxy
    states: Callable[[str], list[State]]
    """All states of a job so far."""
    hasty: str
    """The constant to patch for a short timeout."""


@contextmanager
def gateway() -> Iterator[Target]:
    recorder = Recorder()
    port = int(recorder.url.rpartition(":")[2])
    proxy = TcpProxy(lambda: socket.create_connection(("127.0.0.1", port)))
    url = f"http://127.0.0.1:{proxy.port}"

    def states(job: str) -> list[State]:
        """Waits for all states of the gateway: an answer may arrive before its event in the
        feed."""
        try:
            with urlopen(f"{recorder.url}/api/jobs/{job}", timeout=DEADLINE) as answer:  # noqa: S310 - http
                seq: int = json.load(answer)["seq"]
        except HTTPError as error:
            error.close()
            return []
        return recorder.first(job, seq)

    try:
        yield Target(
            url,
            url.replace("127.0.0.1", "localhost"),
            proxy,
            states,
            "gateway.worker.http.REQUEST_STEP_TIMEOUT",
        )
    finally:
        proxy.close()
        recorder.close()


@contextmanager
def redis() -> Iterator[Target]:
    server = session_server()

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(server.socket))
        return sock

    proxy = TcpProxy(connect)
    url = f"redis://127.0.0.1:{proxy.port}"

    def states(job: str) -> list[State]:
        """Reads the states from the feed, because a job with one event has no log."""
        entries = server.client.xrange("progress:feed")
        events = [decode(fields[b"event"])[1] for _, fields in entries if b"event" in fields]
        return [event.state for event in events if event.job == job]

    try:
        yield Target(
            url,
            url.replace("127.0.0.1", "localhost"),
            proxy,
            states,
            "gateway.brokers.redis.servers.TIMEOUT",
        )
    finally:
        proxy.close()


TARGETS = {"gateway": gateway, "redis": redis}
