"""The source and sink of transports whose WebSocket frames are read and written by a library.

The library encodes each message again, and answers WebSocket pings itself, so only JSON pings
show whether the client is still connected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from ..delivery.transport import ConnectionEnds
from ..model.limits import Limits
from ..protocol import close_codes
from ..protocol.close_codes import CloseCode
from ..protocol.messages import Message
from .rate_limit import TokenBucket

__all__ = ["LibrarySink", "LibrarySource"]


class LibrarySource:
    """Checks the messages of one client.

    `receive` returns the next message, and raises `TransportClosed` when the client has
    disconnected.
    """

    answers_pings = False

    def __init__(self, receive: Callable[[], Awaitable[object]], *, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._token_bucket = TokenBucket(limits.commands_per_second, limits.command_burst)
        self.received_at = trio.current_time()

    async def receive(self) -> str:
        await self._token_bucket.wait()
        message = await self._receive()
        self.received_at = trio.current_time()
        if not isinstance(message, str):
            raise ConnectionEnds(close_codes.UNSUPPORTED)
        size = len(message.encode())
        self._token_bucket.consume(1, size=size)
        if size > self._limits.max_frame:
            raise ConnectionEnds(close_codes.TOO_BIG)
        return message


class LibrarySink:
    """Passes messages for one client on to a library.

    Args:
        send: Sends one text, and raises `TransportClosed` when the client has disconnected.
        close: Closes the connection, and does not raise if the client has disconnected.
        joins_messages: Whether several messages may be joined to one text, by line feeds.
    """

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        close: Callable[[CloseCode], Awaitable[None]],
        *,
        joins_messages: bool,
        limits: Limits,
    ) -> None:
        self._send = send
        self._close = close
        self._joins_messages = joins_messages
        self._limits = limits
        self._welcomed = False
        """Whether the first message was sent, which is never joined with others."""
        self._rest: list[bytes] = []

    def send(self, messages: Sequence[Message]) -> bool:
        texts = [text for message in messages for text in message.texts]
        if self._joins_messages and self._welcomed:
            texts = [b"\n".join(texts)]
        self._welcomed = True
        self._rest = texts
        return False

    def ping(self) -> bool:
        """Does nothing: only JSON pings are used."""
        return True

    async def flush(self) -> None:
        texts, self._rest = self._rest, []
        for text in texts:
            await self._send(text.decode())

    async def close(self, close_code: CloseCode) -> None:
        with trio.move_on_after(self._limits.close_timeout):
            await self._close(close_code)

    def abort(self) -> None:
        """Does nothing: libraries drop the connection when the function that serves it returns."""
