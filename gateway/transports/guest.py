"""Who is at the other end of a connection, and what place it takes.

A client that comes by itself is one for as long as its connection lasts, and holds its place
from before it says a word: many who say none count too. A trusted proxy lends a connection
to one client after the other, so behind it each request is asked anew whose it is, and holds
a place until it is answered; in between the connection is nobody's.
"""

from __future__ import annotations

from contextlib import ExitStack

from ..about import is_about
from ..limits import Limits
from .addresses import Crowd, Proxies, read_proxy_header
from .head import BadHead, headers_in, is_upgrade, read_head
from .stream import ClientStream

__all__ = ["Guest"]


class Guest:
    """Whoever says something on `stream`, which comes from `peer`.

    Its place is held while the stack `place` is open.
    """

    def __init__(
        self,
        stream: ClientStream,
        peer: str,
        *,
        proxies: Proxies,
        crowd: Crowd,
        limits: Limits,
        place: ExitStack,
    ) -> None:
        self.stream = stream
        self.has_place = True
        """Whether there is room for it; if not, it is to be told."""
        self._peer = peer
        self._proxies = proxies
        self._crowd = crowd
        self._limits = limits
        self._place = place
        self._is_lent = proxies.trust(peer)
        """Whether a proxy speaks on it for others."""

    async def arrive(self) -> None:
        """To be called first. Raises `trio.BrokenResourceError` if it is to be dropped."""
        if self._proxies.form == "proxy-protocol" and self._is_lent:
            self._peer = await read_proxy_header(self.stream, self._limits) or self._peer
            self._is_lent = self._proxies.trust(self._peer)
            is_about(client=self._peer)
        if not self._is_lent:
            self._take_place(self._peer)

    async def next_head(self) -> bytes:
        """The head of a request, whose sender has a place or asks for a WebSocket.

        Raises `BadHead` if it is none or there is no place, and `trio.BrokenResourceError`
        if the client is gone, or is to be dropped.
        """
        head = await read_head(self.stream, self._limits)
        if self._is_lent:
            address = self._proxies.client(self._peer, headers_in(head))
            is_about(client=address)
            if not self._proxies.trust(address):
                self._take_place(address)
        if not self.has_place and not is_upgrade(head):
            raise BadHead(b"429 Too Many Requests")
        return head

    def is_answered(self) -> None:
        """To be called when its request is."""
        if self._is_lent:
            self._place.close()
            self.has_place = True

    def _take_place(self, address: str) -> None:
        self.has_place = self._place.enter_context(self._crowd.place(address))
