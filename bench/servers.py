"""How each server is started, how clients speak to it, and how it gets its events. The gateway is
here, all others are in `peers`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from .load.feeds import FeedMaker, Ports, gateway_feed, script_feed
from .load.posts import request
from .load.wire import PING, PONG, Dialect, Step, text, upgrade

__all__ = [
    "ARRIVING",
    "CACHE",
    "IN_MEMORY",
    "LATEST_20",
    "OURS",
    "STARLETTE",
    "Command",
    "Server",
    "Unavailable",
]

CACHE = Path(__file__).parent / ".cache"
"""The folder of installed peers and of logs. It is not in git."""


class Unavailable(Exception):
    """A peer cannot be installed on this machine; the text says why."""


@frozen
class Command:
    """A program to start."""

    arguments: Sequence[str]
    env: Mapping[str, str] = field(factory=dict)


@frozen
class Server:
    """One of the compared servers."""

    name: str
    what: str
    """The library and how it is used, in a few words."""
    start: Callable[[Ports], Command]
    feed: FeedMaker
    every: Dialect
    """The dialect of clients that receive every event."""
    latest: Dialect
    """The dialect of clients that receive the newest state, if the server has that mode."""
    publish: FeedMaker | None = None
    """How a worker publishes, if it does not use `feed`."""
    post: Callable[[int, int], bytes] | None = None
    """Makes an HTTP request that publishes to `job:1`, from a number and the number of updates."""
    install: Callable[[], None] = lambda: None
    """Installs the server if necessary. Raises `Unavailable`."""
    python: bool = False
    """Whether the server is one of the Python peers."""
    tier: int = 3
    """1: measured always; 2: not in a quick run; 3: in the first round only."""
    search_from: float = 25
    """The rate, in events a second to 1,000 clients, at which the search for the highest rate
    begins."""


def _dialect(mode: str, *, max_hz: float | None = None) -> Dialect:
    def subscribed(jobs: Sequence[str]) -> Sequence[Step]:
        hello = text({"type": "hello", "max_hz": max_hz}) if max_hz else b""
        command = text({"type": "subscribe", "jobs": jobs, "mode": mode})
        return [
            Step(upgrade("/ws", subprotocol="progress.v1"), until=b"welcome"),
            Step(hello + command, until=b'"subscriptions"'),
        ]

    return Dialect(subscribed, {PING: PONG})


EVERY = _dialect("every")
LATEST = _dialect("latest")
LATEST_20 = _dialect("latest", max_hz=20)


def _with_snapshot(jobs: Sequence[str]) -> Sequence[Step]:
    first, second = LATEST.subscribed(jobs)
    return [first, Step(second.send, until=b'"snapshot":true')]


ARRIVING = Dialect(_with_snapshot, {PING: PONG})
"""The dialect that waits until the client has the state. Other servers have no state to send, so
their clients wait for the subscription."""


def _gateway(ports: Ports) -> Command:
    in_memory = _in_memory(ports)
    redis = f"redis://127.0.0.1:{ports.redis}"
    return Command([*in_memory.arguments, "--redis", redis])


def _in_memory(ports: Ports) -> Command:
    bind = f"127.0.0.1:{ports.server}"
    serve = (sys.executable, "-m", "gateway.cli", "serve")
    return Command([*serve, "--log-level", "warning", "--bind", bind])


def _starlette(ports: Ports) -> Command:
    bind = f"127.0.0.1:{ports.server}"
    app = "bench.peers.bare_starlette:app"
    return Command([sys.executable, "-m", "hypercorn", "-k", "trio", "-b", bind, app])


def _post(number: int, updates: int) -> bytes:
    if updates == 1:
        body = b'{"message":"frames encoded so far","done":%d}' % number
        return request("/api/jobs/job:1", body)
    each = b'{"job":"job:%d","message":"frames encoded so far","done":%d}'
    bodies = [each % (n % 50 + 2, number * 2 + n // 50) for n in range(updates)]
    return request("/api/jobs", b"[%b]" % b",".join(bodies))


def _post_to_starlette(number: int, updates: int) -> bytes:
    return request("/", b'{"message":"frames encoded so far","done":%d}' % number)


OURS = Server(
    "progress-gateway",
    "gateway serve",
    start=_gateway,
    feed=gateway_feed,
    every=EVERY,
    latest=LATEST,
    publish=script_feed,
    post=_post,
    tier=1,
    search_from=200,
)
IN_MEMORY = evolve(OURS, name="progress-gateway in memory", start=_in_memory)
STARLETTE = evolve(
    OURS,
    name="bare Starlette",
    what="a route on hypercorn with Trio",
    start=_starlette,
    post=_post_to_starlette,
)
