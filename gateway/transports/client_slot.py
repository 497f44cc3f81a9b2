"""Which client is at the other end of a connection, and how it counts against the limits.

A client that connects directly is the same for as long as its connection lasts, and counts from
before its first byte, so that clients that send nothing count too. A trusted proxy uses a
connection for one client after the other. Behind it the client is determined for each request,
and counts until the request is answered.
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
        self.has_room = True
        """Whether it is within the limit; if not, the client must be sent the reason."""
        self._peer = peer
        self._proxies = proxies
        self._connection_limiter = connection_limiter
        self._limits = limits
        self._counted: str | None = None
        """The address whose connections it is counted with."""
        self._is_proxied = proxies.trust(peer)
        """Whether the peer is a proxy that forwards other clients' requests."""
        self._request_bucket: TokenBucket | None = None
        """The requests that its address may still send; None for trusted proxies."""

    async def arrive(self) -> None:
        """Call it first. Raises `trio.BrokenResourceError` if the client must be dropped."""
        if self._proxies.form == "proxy-protocol" and self._is_proxied:
            self._peer = await read_proxy_header(self.stream, self._limits) or self._peer
            self._is_proxied = self._proxies.trust(self._peer)
            bind_contextvars(client=self._peer)
        self.address = self._peer
        if not self._is_proxied:
            self._count_connection()

    def release(self) -> None:
        """The client is not counted any more. Idempotent."""
        counted, self._counted = self._counted, None
        if counted is not None:
            self._connection_limiter.disconnect(counted)

    async def next_head(self, *, begun: bytes = b"") -> bytes:
        """Read the head of the next request, which starts with `begun`, and wait for its turn.

        The client is within the limit of connections, or asks for a WebSocket. A client whose
        address has sent too many requests waits here.

        Raises:
            BadRequest: It is not a request, or its client is over the limit of connections.
            trio.BrokenResourceError: The client is gone, or has to be dropped.
        """
        head = await read_head(self.stream, self._limits, begun=begun)
        await self._connection_limiter.requests.wait_turn()
        if self._is_proxied:
            self._determine_client(head)
        if not self.has_room and not is_upgrade(head):
            raise BadRequest(429, "Too many connections from this address.")
        if self._request_bucket is not None:
            if self._request_bucket.empty:
                await self._request_bucket.wait()
                await self._connection_limiter.requests.wait_turn()
            self._request_bucket.consume(1, size=len(head))
        return head

    def request_answered(self, size: int) -> None:
        """Call it when a request is answered. `size`: bytes in both directions, without the
        request's head."""
        if self._request_bucket is not None:
            self._request_bucket.consume(0, size=size)
        if self._is_proxied:
            self.release()
            self.has_room = True
            self._request_bucket = None

    def _determine_client(self, head: bytes) -> None:
        """Determine the client of a request that a proxy has forwarded."""
        named = self._proxies.form.encode() in head.lower()
        address = self._proxies.client(self._peer, headers_in(head)) if named else self._peer
        if address != self.address:
            self.address = address
            bind_contextvars(client=address)
        if named and not self._proxies.trust(address):
            self._count_connection()

    def _count_connection(self) -> None:
        self.release()
        limiter = self._connection_limiter
        self.has_room = limiter.connect(self.address)
        self._counted = self.address
        self._request_bucket = limiter.request_bucket(self.address)
