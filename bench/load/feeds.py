"""How events get to a server, as bytes that go out many at a time.

Each server gets them as it usually does: the gateway from its Redis, hubs from Redis
pub/sub, brokers over their own protocol. A feed is a connection and an encoder; how fast
and when is `publisher`'s.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec
import redis
import trio
from attrs import frozen

from gateway.brokers.redis.broker import RedisBroker
from gateway.model.state import Update

from .marks import MARK, STAMP
from .posts import request
from .wire import binary, upgrade

__all__ = [
    "Feed",
    "FeedMaker",
    "Ports",
    "centrifugo_feed",
    "channels_feed",
    "gateway_feed",
    "nats_feed",
    "nchan_feed",
    "pubsub_feed",
    "python_socketio_feed",
    "script_feed",
    "socketio_feed",
    "websocket_feed",
]

STATE_SIZE = 200
"""Bytes of JSON in a state, for all."""


@frozen
class Ports:
    """Where the server under test, and the Redis, are on loopback."""

    server: int
    redis: int


class Feed(Protocol):
    """Encodes events, and has the connection to one server."""

    @property
    def socket(self) -> socket.socket: ...

    def encode(self, events: Sequence[tuple[int, bytes]]) -> bytes:
        """Returns the bytes of events that are sent at once. Each event has the index of its job,
        and its mark."""
        ...


FeedMaker = Callable[[Ports, Sequence[str]], Feed]


@frozen
class _Plain:
    """A command an event: what stands before the mark, and behind it."""

    socket: socket.socket
    commands: list[tuple[bytes, bytes]]

    def encode(self, events: Sequence[tuple[int, bytes]]) -> bytes:
        parts: list[bytes] = []
        for job, mark in events:
            before, behind = self.commands[job]
            parts += (before, mark, behind)
        return b"".join(parts)


_HOLE = b"\0" * (len(MARK) + STAMP)
"""The place of the mark in a text that is encoded once and sent often."""


def payload(job: str) -> bytes:
    """Returns a state as an application of its own would send it, with a hole."""
    before = b'{"job":"%b","status":"running","percent":37.25,"message":"' % job.encode()
    filling = b"." * (STATE_SIZE - len(before) - len(_HOLE) - 2)
    return before + _HOLE + filling + b'"}'


def _plain(sock: socket.socket, commands: Iterable[bytes]) -> Feed:
    """Returns a feed of commands, one for each job, each with a hole."""
    return _Plain(sock, [_around(command) for command in commands])


def _around(command: bytes) -> tuple[bytes, bytes]:
    before, behind = command.split(_HOLE)
    return before, behind


def resp(*parts: bytes) -> bytes:
    """Returns a command as Redis reads it."""
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(p), p) for p in parts)


def pubsub_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of PUBLISH commands, on a channel named as the job."""
    return _plain(
        _connect(ports.redis),
        (resp(b"PUBLISH", job.encode(), payload(job)) for job in jobs),
    )


def websocket_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of a WebSocket's binary messages: the job, a newline, the state."""
    sock = _connect(ports.server)
    sock.setblocking(True)
    sock.sendall(upgrade("/"))
    sock.recv(65_536)
    sock.setblocking(False)
    return _plain(sock, (binary(job.encode() + b"\n" + payload(job)) for job in jobs))


def nats_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of PUB commands in NATS's own protocol, whose port is the one after the
    WebSocket's."""
    sock = _connect(ports.server + 1)
    sock.setblocking(True)
    sock.recv(65_536)  # INFO
    sock.sendall(b'CONNECT {"verbose":false}\r\n')
    sock.setblocking(False)
    subjects = (job.replace(":", ".").encode() for job in jobs)
    pubs = zip(subjects, map(payload, jobs), strict=True)
    return _plain(sock, (b"PUB %b %d\r\n%b\r\n" % (s, len(state), state) for s, state in pubs))


def nchan_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of POST requests, pipelined on one connection."""
    head = b"POST /pub?id=%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    states = zip(jobs, map(payload, jobs), strict=True)
    return _plain(_connect(ports.server), (head % (job.encode(), len(s)) + s for job, s in states))


@frozen
class _Batches:
    """All events at once in one request: what stands before and behind them."""

    socket: socket.socket
    path: str
    commands: list[tuple[bytes, bytes]]

    def encode(self, events: Sequence[tuple[int, bytes]]) -> bytes:
        parts = []
        for job, mark in events:
            before, behind = self.commands[job]
            parts.append(before + mark + behind)
        return request(self.path, b'{"commands":[%b]}' % b",".join(parts))


def centrifugo_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed that sends the events that are due at once in one request of Centrifugo's HTTP
    API."""
    commands = (
        b'{"publish":{"channel":"%b","data":%b}}' % (job.encode(), payload(job)) for job in jobs
    )
    sock = _connect(ports.server)
    return _Batches(sock, "/api/batch", [_around(command) for command in commands])


def script_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of updates through the gateway's script in Redis, as a client in any language
    calls it."""
    message = _HOLE + b"." * 60
    return _plain(
        _connect(ports.redis),
        (
            resp(b"FCALL", b"progress", b"1", b"progress", job.encode(), b"message", message)
            for job in jobs
        ),
    )


def socketio_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of what Socket.IO's emitter for the streams adapter writes: XADD of a
    broadcast."""
    commands = []
    for job in jobs:
        packet = {"type": 2, "data": ["job", "HERE"], "nsp": "/"}
        opts = {"rooms": [job], "except": [], "flags": {}}
        data = msgspec.json.encode({"opts": opts, "packet": packet})
        data = data.replace(b'"HERE"', payload(job))
        trim = (b"MAXLEN", b"~", b"10000", b"*")
        fields = (b"uid", b"emitter", b"nsp", b"/", b"type", b"3", b"data", data)
        commands.append(resp(b"XADD", b"socket.io", *trim, *fields))
    return _plain(_connect(ports.redis), commands)


def python_socketio_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of what python-socketio's write-only manager publishes."""
    commands = []
    for job in jobs:
        message = {
            "method": "emit",
            "event": "job",
            "data": "HERE",
            "namespace": "/",
            "room": job,
            "skip_sid": None,
            "callback": None,
            "host_id": "bench",
        }
        data = msgspec.json.encode(message).replace(b'"HERE"', payload(job))
        commands.append(resp(b"PUBLISH", b"socketio", data))
    return _plain(_connect(ports.redis), commands)


def channels_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Returns a feed of what `group_send` of channels_redis publishes."""
    commands = []
    for job in jobs:
        group = b"asgi__group__" + job.replace(":", ".").encode()
        event = msgspec.msgpack.encode({"type": "job.event", "text": payload(job).decode()})
        commands.append(resp(b"PUBLISH", group, event))
    return _plain(_connect(ports.redis), commands)


@frozen
class _GatewayFeed:
    """Entries of the Redis feed, as the gateway's own scripts write them.

    Written straight into the stream: the script's price is measured by itself (workload
    `publish`), and here it would take the core that the generator needs.
    """

    socket: socket.socket
    records: list[tuple[bytes, int, bytes, bytes]]
    """For each job: the text before its seq in an entry, the current seq, the text from there to
    the mark, and the text after the mark."""

    def encode(self, events: Sequence[tuple[int, bytes]]) -> bytes:
        entries = []
        for job, mark in events:
            head, seq, before, behind = self.records[job]
            seq += 1
            self.records[job] = (head, seq, before, behind)
            entries.append(b"%b%d%b%b%b" % (head, seq, before, mark, behind))
        return resp(b"EVAL", _APPEND, b"2", b"progress:feed", b"progress:counters", *entries)


_APPEND = b"""
local last = redis.call('HINCRBY', KEYS[2], 'events', #ARGV)
for i = 1, #ARGV do
  local entry = '[' .. string.format('%.0f', last - #ARGV + i) .. ARGV[i]
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', 50000, '*', 'event', entry)
end
"""
"""Numbers and appends. (The node's probe does too, so only Redis knows the next number.)"""


def gateway_feed(ports: Ports, jobs: Sequence[str]) -> Feed:
    """Publishes each job once with the gateway's script, and returns a feed that continues from
    there."""
    trio.run(_publish_once, f"redis://127.0.0.1:{ports.redis}", jobs)
    client = redis.Redis(port=ports.redis)
    entries: Any = client.xrange("progress:feed")
    client.close()
    last = {(entry := json.loads(fields[b"event"]))[1]: entry for _, fields in entries}
    records = []
    for job in jobs:
        _, _, epoch, seq, state, *_ = last[job]
        state["message"] = "HERE"
        filling = STATE_SIZE - len(msgspec.json.encode(state)) - len(_HOLE) + len("HERE")
        state["message"] += "." * max(filling, 0)
        before, behind = msgspec.json.encode(state).split(b"HERE")
        head = b',"%b",%d,' % (job.encode(), epoch)
        records.append((head, seq, b"," + before, behind + b"]"))
    return _GatewayFeed(_connect(ports.redis), records)


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
