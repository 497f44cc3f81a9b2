"""Identifies the client of a connection, and counts it against the limits.

A client that connects directly is the same for as long as its connection lasts, and counts from
before its first byte, so that clients that send nothing count too. A trusted proxy uses a
connection for one client after the other. Then the client is identified for each request, and
counts until the request is answered.
"""

from __future__ import annotations

from structlog.contextvars import bind_contextvars

from ..model.limits import Limits
from .connection_limits import ConnectionLimiter
from .proxies import Proxies, read_proxy_header
from .rate_limit import TokenBucket
from .request_head import BadRequest, headers_in, is_upgrade, read_head
from .stream import ClientStream

__all__ = ["ClientSlot"]


class ClientSlot:
    """The client that sends on `stream`, whose peer address is `peer`.

    It is counted until `release`.
    """

    def __init__(
        self,
        stream: ClientStream,
        peer: str,
        *,
        proxies: Proxies,
        connection_limiter: ConnectionLimiter,
        limits: Limits,
    ) -> None:
        self.stream = stream
        self.address = peer
        """The client's address, as far as it is known."""
        self.within_limit = True
        """Whether the client is within the limit; if not, it must be sent the reason."""
        self._peer = peer
        self._proxies = proxies
        self._connection_limiter = connection_limiter
        self._limits = limits
        self._counted_address: str | None = None
        """The address for which the connection counts; None if it is not counted."""
        self._is_proxied = proxies.trust(peer)
        """Whether the peer is a proxy that forwards other clients' requests."""
        self._request_bucket: TokenBucket | None = None
        """The tokens for requests of its address; None for trusted proxies."""

    async def identify_client(self) -> None:
        """Identifies the client, and counts it unless it is a proxy. Must be called first.

        Raises `trio.BrokenResourceError` if the client must be dropped.
        """
        if self._proxies.form == "proxy-protocol" and self._is_proxied:
            self._peer = await read_proxy_header(self.stream, self._limits) or self._peer
            self._is_proxied = self._proxies.trust(self._peer)
            bind_contextvars(client=self._peer)
        self.address = self._peer
        if not self._is_proxied:
            self._count_connection()

    def release(self) -> None:
        """Stops counting the client. Idempotent."""
        address, self._counted_address = self._counted_address, None
        if address is not None:
            self._connection_limiter.disconnect(address)

    async def next_head(self, *, begun: bytes = b"") -> bytes:
        """Reads the head of the next request, which starts with `begun`, and waits until the
        request may start.

        When it returns, the client is within the limit of connections, or asks for a WebSocket. A
        client whose address has sent too many requests waits here.

        Raises:
            BadRequest: It is not a request, or its client is over the limit of connections.
            trio.BrokenResourceError: The client has disconnected, or must be dropped.
        """
        head = await read_head(self.stream, self._limits, begun=begun)
        await self._connection_limiter.requests.wait_to_start()
        if self._is_proxied:
            self._identify_forwarded_client(head)
        if not self.within_limit and not is_upgrade(head):
            raise BadRequest(429, "Too many connections from this address.")
        if self._request_bucket is not None:
            if self._request_bucket.empty:
                await self._request_bucket.wait()
                await self._connection_limiter.requests.wait_to_start()
            self._request_bucket.consume(1, size=len(head))
        return head

    def request_answered(self, size: int) -> None:
        """Counts a request that was answered. `size`: bytes in both directions, without the
        request's head. Must be called after each request."""
        if self._request_bucket is not None:
            self._request_bucket.consume(0, size=size)
        if self._is_proxied:
            self.release()
            self.within_limit = True
            self._request_bucket = None

    def _identify_forwarded_client(self, head: bytes) -> None:
        """Identifies the client of a request that a proxy has forwarded."""
        has_header = self._proxies.form.encode() in head.lower()
        address = self._proxies.client(self._peer, headers_in(head)) if has_header else self._peer
        if address != self.address:
            self.address = address
            bind_contextvars(client=address)
        if has_header and not self._proxies.trust(address):
            self._count_connection()

    def _count_connection(self) -> None:
        self.release()
        limiter = self._connection_limiter
        self.within_limit = limiter.connect(self.address)
        self._counted_address = self.address
        self._request_bucket = limiter.request_bucket(self.address)
