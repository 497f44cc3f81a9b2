"""The two sides that a job may report to, as the contract suite wants them: a gateway and a
Redis, both real, each behind a door.

A door hands on whatever comes, both ways, until the test shuts it or holds it: so outages
lose nothing of what is behind it, and are the same for all.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from gateway.brokers.stored import decode
from gateway.job import State
from tests.brokers.server import session_server

from .recorder import Recorder

__all__ = ["SIDES", "Door", "Side"]


class Door:
    """Listens at `port`, for what `connect` connects to."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._shut = False
        self._flow = threading.Event()
        self._flow.set()
        self.accepted = 0
        """How many were let in, ever."""
        # It listens while it is shut, too: otherwise somebody else might get the port.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Let nobody in any more, and throw out who is."""
        with self._lock:
            self._shut = True
        self.throw_out()

    def open(self) -> None:
        with self._lock:
            self._shut = False

    def throw_out(self) -> None:
        """End every connection that is open, as a proxy does to idle ones."""
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()
            self._sockets.clear()

    def hold(self) -> None:
        """Hand nothing on any more; whoever is behind it hangs."""
        self._flow.clear()

    def let_go(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self.let_go()
        self.shut()
        # A thread that accepts is woken by this, and not by a close.
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
                there = self._connect()
                self._sockets += (here, there)
            for pair in ((here, there), (there, here)):
                threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65_536):
                self._flow.wait()
                sink.sendall(received)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class Side(NamedTuple):
    """One of the two."""

    url: str
    other_url: str
    """The same, as another process would name it: it has a sender of its own."""
    door: Door
    states: Callable[[str], list[State]]
    """All states of a job so far."""
    hasty: str
    """What to patch so that it does not wait long for an answer."""


@contextmanager
def gateway() -> Iterator[Side]:
    recorder = Recorder()
    port = int(recorder.url.rpartition(":")[2])
    door = Door(lambda: socket.create_connection(("127.0.0.1", port)))
    url = f"http://127.0.0.1:{door.port}"

    def states(job: str) -> list[State]:
        return recorder.states(job, lambda state: True) if job in recorder.jobs else []

    try:
        yield Side(url, url + "/", door, states, "gateway.worker.http.REQUEST")
    finally:
        door.close()
        recorder.close()


@contextmanager
def redis() -> Iterator[Side]:
    server = session_server()

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(server.socket))
        return sock

    door = Door(connect)
    url = f"redis://127.0.0.1:{door.port}"

    def states(job: str) -> list[State]:
        entries = server.client.xrange(f"progress:log:{job}")
        return [decode(fields[b"event"])[1].state for _, fields in entries]

    try:
        yield Side(url, url + "/0", door, states, "gateway.storage.servers.TIMEOUT")
    finally:
        door.close()


SIDES = {"gateway": gateway, "redis": redis}
