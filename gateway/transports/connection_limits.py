"""Limits open connections, in total and per address; the connects, requests and disconnects that
are handled at the same time; and the requests of each address."""

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

MAX_REFUSED: Final = 100
"""Refused connections of an address that are sent a close code. More are dropped."""
HANDSHAKES_PER_PASS: Final = 10
"""Handshakes that start in one pass of the scheduler: each takes about 0.3 ms, with the
subscriptions that follow."""
REQUESTS_PER_PASS: Final = 10
"""Requests that start in one pass of the scheduler: each takes up to half a millisecond."""
MAX_ADDRESSES: Final = 10_000
"""Addresses whose requests are counted; the one with the oldest last request is dropped first."""
DISCONNECTS_PER_PASS: Final = 10
"""Clients that are disconnected in one pass of the scheduler: each takes about ten steps of up to
50 µs."""
SPARE_SOCKETS: Final = 1_000
"""Sockets besides the connections: HTTP requests, handshakes, refused connections."""


class ConnectionLimiter:
    """Counts open sockets, in total and by address.

    An IPv6 address counts as its network (/64), because one customer gets a whole network.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        """Called for each socket, because a reload may change the limits."""
        self.handshakes = StartLimiter(HANDSHAKES_PER_PASS)
        """Limits how many handshakes start at the same time."""
        self.requests = StartLimiter(REQUESTS_PER_PASS)
        """Limits how many requests start at the same time."""
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self.disconnects = trio.Semaphore(DISCONNECTS_PER_PASS)
        """Limits how many clients are disconnected at the same time."""
        self._by_address: Counter[str] = Counter()
        self._sockets = 0

    def __repr__(self) -> str:
        return f"<ConnectionLimiter: {self._sockets} sockets, {len(self._by_address)} addresses>"

    async def run(self) -> None:
        """Lets requests and handshakes start, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handshakes.run)
            nursery.start_soon(self.requests.run)

    def request_bucket(self, address: str) -> TokenBucket:
        """Returns the bucket from which all clients of `address` take the tokens for requests."""
        key = network_of(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            limits = self._limits()
            if len(self._buckets) >= MAX_ADDRESSES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(
                limits.requests_per_second, limits.request_burst
            )
        self._buckets.move_to_end(key)
        return bucket

    def open_socket(self) -> None:
        """Counts one more socket, until `close_socket`.

        Raises `trio.BrokenResourceError` if the maximum is reached.
        """
        if self._sockets >= self._limits().max_connections + SPARE_SOCKETS:
            raise trio.BrokenResourceError("too many sockets")
        self._sockets += 1

    def close_socket(self) -> None:
        """Counts one socket less."""
        self._sockets -= 1

    def connect(self, address: str) -> bool:
        """Counts one more connection from `address`, until `disconnect`; returns whether it is
        within the limit.

        If it is not, the client must be sent the reason. Raises `trio.BrokenResourceError` if
        `MAX_REFUSED` clients of the address are being sent the reason already.
        """
        key = network_of(address)
        max_connections = self._limits().max_connections_per_address
        if self._by_address[key] >= max_connections + MAX_REFUSED:
            raise trio.BrokenResourceError(f"too many connections from {key}")
        self._by_address[key] += 1
        return self._by_address[key] <= max_connections

    def disconnect(self, address: str) -> None:
        """Counts one connection from `address` less."""
        key = network_of(address)
        self._by_address[key] -= 1
        if not self._by_address[key]:
            del self._by_address[key]
