"""Limits of open connections, in total and per address; of how many clients connect, send
requests or leave at the same time; and of the requests of each address."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from ..model.addresses import network_of
from ..model.limits import Limits
from .rate_limit import TokenBucket
from .start_limiter import StartLimiter

__all__ = ["ConnectionLimiter"]

OVERFLOW: Final = 100
"""Connections of an address that get a close code, instead of being dropped."""
HANDSHAKES: Final = 10
"""In one pass of the scheduler: each takes about 0.3 ms, with what follows it."""
REQUESTS: Final = 10
"""Started in one pass of the scheduler: each takes up to half a millisecond."""
ADDRESSES: Final = 10_000
"""Addresses whose requests are counted; the one whose last request is oldest is dropped first."""
DEPARTURES: Final = 10
"""In one pass of the scheduler: each takes about ten steps of up to 50 µs."""
SPARE_SOCKETS: Final = 1_000
"""Sockets besides the connections: HTTP requests, handshakes, refused connections."""


class ConnectionLimiter:
    """How many sockets are open, in all and by address.

    An IPv6 address counts by its network (/64): that is what one customer gets.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        """Called for each socket, because a reload may change the limits."""
        self.handshakes = StartLimiter(HANDSHAKES)
        """Limits how many handshakes start at a time."""
        self.requests = StartLimiter(REQUESTS)
        """Limits how many requests start at a time."""
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self.departures = trio.Semaphore(DEPARTURES)
        """Limits how many clients leave at a time."""
        self._by_address: Counter[str] = Counter()
        self._sockets = 0

    def __repr__(self) -> str:
        return f"<ConnectionLimiter: {self._sockets} sockets, {len(self._by_address)} addresses>"

    async def run(self) -> None:
        """Let requests and handshakes start, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handshakes.run)
            nursery.start_soon(self.requests.run)

    def request_bucket(self, address: str) -> TokenBucket:
        """The requests that all clients of `address` together may still send."""
        key = network_of(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            limits = self._limits()
            if len(self._buckets) >= ADDRESSES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(
                limits.requests_per_second, limits.request_burst
            )
        self._buckets.move_to_end(key)
        return bucket

    def open_socket(self) -> None:
        """Count one more socket, until `close_socket`.

        Raises `trio.BrokenResourceError` if the maximum is reached.
        """
        if self._sockets >= self._limits().max_connections + SPARE_SOCKETS:
            raise trio.BrokenResourceError("too many sockets")
        self._sockets += 1

    def close_socket(self) -> None:
        """Count one socket less."""
        self._sockets -= 1

    def connect(self, address: str) -> bool:
        """Count one more connection from `address`, until `disconnect`; returns whether it is
        within the limit.

        If it is not, the client must be sent the reason. Raises `trio.BrokenResourceError` if
        `OVERFLOW` refused clients are being answered already.
        """
        key = network_of(address)
        most = self._limits().max_connections_per_address
        if self._by_address[key] >= most + OVERFLOW:
            raise trio.BrokenResourceError(f"too many connections from {key}")
        self._by_address[key] += 1
        return self._by_address[key] <= most

    def disconnect(self, address: str) -> None:
        """Count one connection from `address` less."""
        key = network_of(address)
        self._by_address[key] -= 1
        if not self._by_address[key]:
            del self._by_address[key]
