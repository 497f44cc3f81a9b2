"""The interface of a transport: a `Source` receives from one client, a `Sink` sends to it.

They are two objects, so that a task cannot use the one that it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..protocol.close_codes import CloseCode
from ..protocol.messages import Message

__all__ = ["ConnectionEnds", "Sink", "Source"]


class Source(Protocol):
    """Receives from one client."""

    @property
    def answers_pings(self) -> bool:
        """Whether clients' libraries answer the transport's own pings."""
        ...

    @property
    def received_at(self) -> float | None:
        """The time when bytes last arrived from the client, on Trio's clock; None if the transport
        is one-way, so that silence has no meaning."""
        ...

    async def receive(self) -> str:
        """Returns the next message.

        Raises `TransportClosed` when the client is gone, and `ConnectionEnds` if its input ends the
        connection. Cancelled, nothing is lost.
        """
        ...


class Sink(Protocol):
    """Sends to one client. Used by one task at a time."""

    def send(self, messages: Sequence[Message]) -> bool:
        """Sends messages in order, as far as possible without waiting; returns whether that was
        all.

        If not, `flush` must come next. Raises `TransportClosed` if the client is gone.
        """
        ...

    def ping(self) -> bool:
        """Sends the transport's own ping, if it has one. Otherwise like `send`."""
        ...

    async def flush(self) -> None:
        """Sends the rest. Raises `TransportClosed` if the client is gone.

        Cancelled, half a frame may be on the wire: only `abort` may follow.
        """
        ...

    async def close(self, close_code: CloseCode) -> None:
        """Closes, within the transport's own deadline, and releases everything."""
        ...

    def abort(self) -> None:
        """Drops the connection without a close frame. Never blocks."""
        ...


class ConnectionEnds(Exception):
    """The client's input ends the connection, with this close code."""

    def __init__(self, close_code: CloseCode) -> None:
        super().__init__(close_code.reason)
        self.close_code = close_code
