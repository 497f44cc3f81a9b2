"""How events get to a server, as bytes that go out many at a time.

Each server gets them as it usually does: the gateway from its Redis, hubs from Redis
pub/sub, brokers over their own protocol. A feed is a connection and an encoder; how fast
and when is `publisher`'s.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import redis
import trio
from attrs import frozen

from gateway.brokers.redis import RedisBroker
from gateway.job import Update

from .marks import MARK, STAMP

__all__ = ["Feed", "FeedMaker", "Ports", "gateway_feed", "nats_feed", "nchan_feed", "pubsub_feed"]

STATE_SIZE = 200
"""Bytes of JSON in a state, for all."""


@frozen
class Ports:
    """Where the server under test, and the Redis, are on loopback."""

    server: int
    redis: int


class Feed(Protocol):
    """Events on their way to one server."""

    @property
    def socket(self) -> socket.socket: ...

    def encode(self, number: int, job: int, mark: bytes) -> bytes:
        """Event `number` (from 0), of the job with that index."""
        ...

    def after(self, number: int) -> bytes:
        """What is to be said after a batch, the last of which was `number`."""
        ...


FeedMaker = Callable[[Ports, Sequence[str]], Feed]


@frozen
class _Plain:
    """A command an event: what stands before the mark, and behind it."""

    socket: socket.socket
    commands: list[tuple[bytes, bytes]]

    def encode(self, number: int, job: int, mark: bytes) -> bytes:
        before, behind = self.commands[job]
        return before + mark + behind

    def after(self, number: int) -> bytes:
        return b""


def payload(job: str) -> tuple[bytes, bytes]:
    """A state as an application of its own would send it: before and behind the mark."""
    before = b'{"job":"%b","status":"running","percent":37.25,"message":"' % job.encode()
    filling = STATE_SIZE - len(before) - len(MARK) - STAMP - 2
    return before, b" " + b"frames encoded so far, "[: max(filling - 1, 0)].ljust(
        max(filling - 1, 0), b"."
    ) + b'"}'


def resp(*parts: bytes) -> bytes:
    """A command as Redis reads it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def pubsub_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """PUBLISH, on a channel named as the job."""
    commands = []
    for job in jobs:
        before, behind = payload(job)
        whole = resp(b"PUBLISH", job.encode(), before + b"\0" * (len(MARK) + STAMP) + behind)
        left, right = whole.split(b"\0" * (len(MARK) + STAMP))
        commands.append((left, right))
    return _Plain(_connect(ports.redis), commands)


def nats_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """PUB over NATS's own protocol, whose port is the one after the WebSocket's."""
    sock = _connect(ports.server + 1)
    sock.setblocking(True)
    sock.recv(65_536)  # INFO
    sock.sendall(b'CONNECT {"verbose":false}\r\n')
    sock.setblocking(False)
    commands = []
    for job in jobs:
        before, behind = payload(job)
        size = len(before) + len(MARK) + STAMP + len(behind)
        subject = job.replace(":", ".").encode()
        commands.append((b"PUB %b %d\r\n%b" % (subject, size, before), behind + b"\r\n"))
    return _Plain(sock, commands)


def nchan_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """POST, pipelined on one connection."""
    commands = []
    for job in jobs:
        before, behind = payload(job)
        size = len(before) + len(MARK) + STAMP + len(behind)
        head = b"POST /pub?id=%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        commands.append((head % (job.encode(), size) + before, behind))
    return _Plain(_connect(ports.server), commands)


@frozen
class _GatewayFeed:
    """Entries of the Redis feed, as the gateway's own scripts write them.

    Written straight into the stream: the script's price is measured by itself (workload
    `publish`), and here it would take the core that the generator needs.
    """

    socket: socket.socket
    first: int
    """The number that the first entry has in the feed."""
    records: list[tuple[bytes, int, int, bytes, bytes]]
    """Of each job: its name, epoch, seq so far, and the state around the mark."""

    def encode(self, number: int, job: int, mark: bytes) -> bytes:
        name, epoch, seq, before, behind = self.records[job]
        seq += 1
        self.records[job] = (name, epoch, seq, before, behind)
        entry = b'[%d,"%b",%d,%d,%b%b%b]' % (
            self.first + number,
            name,
            epoch,
            seq,
            before,
            mark,
            behind,
        )
        return _XADD % (len(entry), entry)

    def after(self, number: int) -> bytes:
        return resp(b"HSET", b"progress:counters", b"events", b"%d" % (self.first + number))


_XADD = (
    b"*8\r\n$4\r\nXADD\r\n$13\r\nprogress:feed\r\n$6\r\nMAXLEN\r\n$1\r\n~\r\n$5\r\n50000\r\n"
    b"$1\r\n*\r\n$5\r\nevent\r\n$%d\r\n%b\r\n"
)


def gateway_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """The feed of our own broker. The jobs' records are made by its real script first."""
    trio.run(_publish_once, f"redis://127.0.0.1:{ports.redis}", jobs)
    client = redis.Redis(port=ports.redis)
    entries: Any = client.xrange("progress:feed")
    last = {(entry := json.loads(fields[b"event"]))[1]: entry for _, fields in entries}
    number: Any = client.hget("progress:counters", "events")
    client.close()
    records = []
    for job in jobs:
        _, _, epoch, seq, state, *_ = last[job]
        state["message"] = "\0"
        filling = STATE_SIZE - len(msgspec.json.encode(state)) + len(b"\\u0000")
        filling = max(filling - len(MARK) - STAMP, 0)
        state["message"] += "." * filling
        before, behind = msgspec.json.encode(state).split(b"\\u0000")
        records.append((job.encode(), epoch, seq, before, behind))
    return _GatewayFeed(_connect(ports.redis), int(number) + 1, records)


async def _publish_once(url: str, jobs: Sequence[str]) -> None:
    broker = RedisBroker(url)
    waiting = iter(jobs)

    async def publish() -> None:
        for job in waiting:
            await broker.publish(job, Update(message="begun", total=1200, done=447))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(publish)
    broker.close()


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock
