"""Attacks on a gateway, each for some seconds: `python -m tests.attack.attackers NAME PORT`.

They run in their own process, so that they do not use the time of the test. Each prints how much it
has sent, so that the test can check that it was an attack, and ends on its own.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from selectors import EVENT_READ, DefaultSelector

from gateway.cli.serve import file_limit
from tests.e2e.client import PING, PONG, close_frame, command, frame, upgrade

SECONDS = float(os.environ.get("GATEWAY_TEST_ATTACK_SECONDS", "1.5"))
"""How long an attack lasts."""
CONNECTIONS = int(
    os.environ.get("GATEWAY_TEST_CONNECTIONS", min(10_000, file_limit.max_open_files() - 1_000))
)
"""How many connections are opened, and closed, at the same moment: as many as may be open here."""
CONNECTIONS_OF = {"many_connections": CONNECTIONS, "many_closes": CONNECTIONS // 5}
"""The connections of each attack that opens many at the same moment."""
GONE = (ConnectionError, BlockingIOError, TimeoutError)


def connect(port: int, *, blocking: bool = False) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setblocking(blocking)
    return sock


def websockets(port: int, count: int, stack: ExitStack) -> list[socket.socket]:
    """Sockets of clients after the WebSocket handshake."""
    found = [stack.enter_context(connect(port, blocking=True)) for _ in range(count)]
    for sock in found:
        sock.sendall(upgrade())
    for sock in found:
        sock.settimeout(10)
        while b"welcome" not in sock.recv(4096):
            pass
        sock.setblocking(False)
    return found


def time_left() -> Iterator[None]:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        yield


def pour(port: int, data: bytes, *, clients: int, read: bool = True) -> int:
    """Send `data` repeatedly from some clients. Returns how many bytes the gateway has read."""
    taken = 0
    with ExitStack() as stack:
        sent = dict.fromkeys(websockets(port, clients, stack), 0)
        for _ in time_left():
            busy = False
            for sock in list(sent):
                try:
                    done = sock.send(data[sent[sock] % len(data) :])
                    sent[sock] += done
                    taken += done
                    busy = True
                except BlockingIOError:
                    pass
                except ConnectionError:
                    del sent[sock]
                    continue
                if read:
                    with suppress(*GONE):
                        sock.recv(65_536)
            if not busy:
                time.sleep(0.005)
    return taken


def commands(port: int) -> int:
    """Send as many commands as possible: far more than 100,000 a second."""
    return pour(port, command("ping") * 1_000, clients=10)


def subscriptions(port: int) -> int:
    """Expensive commands: a thousand jobs, repeatedly."""
    jobs = [[f"{n}:{i}" for i in range(1_000)] for n in range(2)]
    data = b"".join(command("sync_subscriptions", jobs=some) for some in jobs)
    return pour(port, data, clients=10)


def pings(port: int) -> int:
    return pour(port, frame(b"", PING) * 10_000, clients=10)


def pongs(port: int) -> int:
    return pour(port, frame(b"x" * 100, PONG) * 10_000, clients=10)


def fragments(port: int) -> int:
    """A message that never ends, in empty pieces."""
    return pour(port, frame(b"", fin=False) + frame(b"", 0, fin=False) * 10_000, clients=10)


def bad_json(port: int) -> int:
    return pour(port, frame("[" * 1_000) * 100, clients=10)


def unread(port: int) -> int:
    """Commands whose replies the client does not read."""
    data = command("subscribe", id="x" * 100, jobs=["a", "b", "c"]) * 1_000
    return pour(port, data, clients=50, read=False)


def job_names(port: int) -> int:
    """New jobs all the time, each watched for a moment, within the rate limit."""
    numbers = itertools.count()
    named = 0
    with ExitStack() as stack:
        clients = websockets(port, 10, stack)
        for _ in time_left():
            for sock in clients:
                jobs = [f"never:{next(numbers)}" for _ in range(1_000)]
                with suppress(*GONE):
                    sock.setblocking(True)
                    sock.settimeout(0.2)
                    sock.sendall(command("sync_subscriptions", jobs=jobs))
                    named += len(jobs)
                    sock.setblocking(False)
                    sock.recv(1_000_000)
    return named


def published_names(port: int) -> int:
    """New jobs all the time, each published once."""
    numbers = itertools.count()
    for _ in time_left():
        with ExitStack() as stack, suppress(*GONE):
            clients = [stack.enter_context(connect(port, blocking=True)) for _ in range(4)]
            for _ in range(200):  # a server may close after some requests
                for sock in clients:
                    path = f"/api/jobs/new:{next(numbers)}".encode()
                    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n"
                    sock.sendall(head % path + b"{}")
                for sock in clients:
                    sock.recv(65_536)
    return next(numbers)


def request(target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: localhost", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


REQUESTS = {
    "headers": [request("/healthz", *["a:b"] * 98)],
    "too many headers": [request("/healthz", *["a:b"] * 3_900)],
    "lists": [request("/api/jobs?limit=200&prefix=flood")],
    "histories": [request("/api/jobs/flood:long/events")],
    "ranges": [
        request("/client.js", "range: bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4_000, 4))),
        request("/", "range: bytes=" + "0-," * 4_000),
    ],
    "pages": [request("/"), request("/client.js"), request("/healthz"), request("/metrics")],
}  # fmt: skip
"""Requests that cost more than their size suggests, or arrive in large numbers."""


def requests(port: int, *kinds: str, clients: int = 2) -> int:
    """Requests of these kinds (all kinds without arguments), each sent by some clients as often as
    possible, and beside them bodies that never end. Returns how many were answered."""
    updates: list[dict[str, object]] = [
        {"job": f"flood:{n}", "message": "x" * 200} for n in range(200)
    ]
    updates += [{"job": "flood:long", "percent": n / 10} for n in range(600)]
    with connect(port, blocking=True) as sock:
        for start in range(0, len(updates), 50):
            body = json.dumps(updates[start : start + 50]).encode()
            sock.sendall(request("/api/jobs", method="POST", body=body))
            sock.recv(65_536)
    answered = 0
    with ExitStack() as stack:
        endless = [stack.enter_context(connect(port)) for _ in range(clients)]
        for sock in endless:
            sock.send(request("/healthz", "transfer-encoding: chunked"))
        flows = [
            _Flow(port, b"".join(REQUESTS[kind]) * 20)
            for kind in kinds or REQUESTS
            for _ in range(clients)
        ]
        for _ in time_left():
            for sock in endless:
                with suppress(*GONE):
                    sock.send(b"1\r\nx\r\n")
            if not sum([flow.go_on() for flow in flows]):
                time.sleep(0.001)
        for flow in flows:
            answered += flow.answered
            flow.sock.close()
    return answered


class _Flow:
    """One client that sends the same data repeatedly, and reads the responses."""

    def __init__(self, port: int, data: bytes) -> None:
        self._port, self._data, self._sent = port, data, 0
        self.sock = connect(port)
        self.answered = 0

    def go_on(self) -> bool:
        """Whether it sent anything."""
        busy = False
        try:
            with suppress(BlockingIOError):
                self._sent += self.sock.send(self._data[self._sent % len(self._data) :])
                busy = True
            with suppress(BlockingIOError):
                received = self.sock.recv(65_536)
                self.answered += received.count(b"HTTP/1.1 ")
                if not received:
                    raise ConnectionResetError
                busy = True
        except ConnectionError:
            self.sock.close()
            self.sock, self._sent = connect(self._port), 0
        return busy


def slow_heads(port: int) -> int:
    """Slowloris: many heads, a byte at a time, that never end."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(port)) for _ in range(500)]
        for sock in socks:
            sock.send(b"GET / HTTP/1.1\r\nx: ")
        for _ in time_left():
            for sock in socks:
                with suppress(*GONE):
                    sock.send(b"x")
            time.sleep(0.1)
    return len(socks)


def resets(port: int) -> int:
    """Connections that are reset at once, or in the middle of a request or frame."""
    half = [b"", b"\xff" * 100, upgrade()[:-2], upgrade(), upgrade() + frame("{}")[:3]]
    count = 0
    for _ in time_left():
        sock = connect(port)
        with suppress(*GONE):
            sock.send(half[count % len(half)])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        count += 1
    return count


def early_bytes(port: int) -> int:
    """Upgrade requests followed by data that is not allowed there."""
    behind = [b"\0", b"\xff" * 5_000, frame(b"\xff"), frame(b"{}", rsv=7), frame("x" * 70_000)]
    return _bursts(port, lambda n: upgrade() + behind[n % len(behind)])


def rejected_and_more(port: int) -> int:
    """Upgrade requests that are refused, followed by more bytes."""
    bad = [upgrade(sec_websocket_version="8"), upgrade(sec_websocket_key="x"), upgrade("/no")]
    return _bursts(port, lambda n: bad[n % len(bad)] + b"x" * (n % 3_000))


def oversized(port: int) -> int:
    """A frame that is too large, followed by its data."""
    huge = b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0"
    return _bursts(port, lambda n: upgrade() + huge + b"x" * 200_000)


def deflate(port: int) -> int:
    """Offers of compression, and frames that look compressed."""
    offer = "permessage-deflate; client_max_window_bits; server_no_context_takeover"
    head = upgrade(sec_websocket_extensions=offer)
    return _bursts(port, lambda n: head + frame(b"\x00" * 100, rsv=4))


def _bursts(port: int, data: Callable[[int], bytes]) -> int:
    """Many short connections, each sending its data, up to 20 at a time."""
    count = 0
    for _ in time_left():
        with ExitStack() as stack, DefaultSelector() as selector:
            for _ in range(20):
                sock = stack.enter_context(connect(port))
                with suppress(*GONE):
                    sock.send(data(count))
                selector.register(sock, EVENT_READ)
                count += 1
            for key, _ in selector.select(0.05):
                sock = key.fileobj  # type: ignore[assignment]  # they are the sockets above
                with suppress(*GONE):
                    sock.recv(65_536)
    return count


def many_connections(port: int) -> int:
    """Many connections at the same moment, as after the failure of another node; behind a proxy.
    All must be served. Then all are reset at the same moment, as when the proxy fails."""
    with ExitStack() as stack:
        return len(_open_many(port, CONNECTIONS_OF["many_connections"], stack))


def many_closes(port: int) -> int:
    """Many clients that close at the same moment."""
    with ExitStack() as stack, DefaultSelector() as selector:
        socks = _open_many(port, CONNECTIONS_OF["many_closes"], stack)
        for sock in socks:
            sock.send(close_frame())
            selector.register(sock, EVENT_READ)
        answered = 0
        while answered < len(socks):
            for key, _ in selector.select(10) or sys.exit("they are not answered"):
                answered += 1
                selector.unregister(key.fileobj)
        return answered


def _open_many(port: int, size: int, stack: ExitStack) -> list[socket.socket]:
    """Open so many connections at once, each from another address; returns those that received
    `welcome`."""
    welcomed = []
    with DefaultSelector() as selector:
        for number in range(size):
            sock = stack.enter_context(connect(port))
            received = f"198.{18 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
            sock.send(upgrade(x_forwarded_for=received))
            selector.register(sock, EVENT_READ, bytearray())
        end = time.monotonic() + 20 + size / 500
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(1):
                sock = key.fileobj  # type: ignore[assignment]  # they are the sockets above
                with suppress(BlockingIOError):
                    key.data.extend(sock.recv(4096))
                if b"welcome" in key.data:
                    selector.unregister(sock)
                    welcomed.append(sock)
    return welcomed


ATTACKS: dict[str, tuple[Callable[..., int], int]] = {
    "commands": (commands, 500_000),
    "subscriptions": (subscriptions, 500_000),
    "pings": (pings, 500_000),
    "pongs": (pongs, 500_000),
    "fragments": (fragments, 500_000),
    "bad json": (bad_json, 500_000),
    "unread": (unread, 1_000_000),
    "job names": (job_names, 10_000),
    "published names": (published_names, 100),
    "requests": (requests, 50),
    "slow heads": (slow_heads, 500),
    "resets": (resets, 150),
    "early bytes": (early_bytes, 100),
    "rejected and more": (rejected_and_more, 100),
    "oversized": (oversized, 100),
    "deflate": (deflate, 100),
    "many_connections": (many_connections, CONNECTIONS_OF["many_connections"]),
    "many_closes": (many_closes, CONNECTIONS_OF["many_closes"]),
}
"""The attacks, and the minimum amount of each: bytes, jobs, responses or connections."""


if __name__ == "__main__":
    file_limit.raise_soft_limit()
    name, port, *kinds = sys.argv[1:]
    print(ATTACKS[name][0](int(port), *kinds), flush=True)  # noqa: T201 - read by the test that starts this program
