"""Server-Sent Events: the same frames over a plain HTTP response.

Each event's `id` is `epoch-seq` of every job of the stream, in the order of the request,
joined by commas; the browser brings the last one back in `Last-Event-ID`.
(WHATWG HTML, §9.2 Server-sent events.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import trio

from ..auth.rights import Rights
from ..endings import Ending
from ..errors import TransportClosed
from ..job import UNSEEN, Position
from ..limits import Limits
from ..node import Node
from ..protocol import Message, Mode
from .http import Receive, Send

__all__ = ["format_event_id", "parse_event_id", "serve_events"]

_ID = re.compile(r"(\d{1,16})-(\d{1,16})")

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def format_event_id(positions: Mapping[str, Position]) -> str:
    """The `id` of an event after which a client is at `positions`."""
    return ",".join(f"{epoch}-{seq}" for epoch, seq in positions.values())


def parse_event_id(jobs: Sequence[str], text: str | None) -> dict[str, Position | None]:
    """The position of each job; None for all if `text` is not an id of such a stream."""
    parts = [_ID.fullmatch(part) for part in text.split(",")] if text else []
    found = [Position(int(part[1]), int(part[2])) for part in parts if part is not None]
    if len(found) != len(jobs) or len(parts) != len(jobs):
        return dict.fromkeys(jobs)
    return {
        job: None if position == UNSEEN else position
        for job, position in zip(jobs, found, strict=True)
    }


async def serve_events(
    receive: Receive,
    send: Send,
    *,
    node: Node,
    positions: Mapping[str, Position | None],
    mode: Mode,
    rights: Rights,
) -> None:
    """Stream the jobs in `positions` until the client is gone or the node drains."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    sink = _Sink(send, positions, limits=node.limits)
    source = _Source(receive)
    await node.serve(source, sink, positions=positions, mode=mode, rights=rights, transport="sse")


class _Source:
    """A client that cannot speak: it is there until it is gone."""

    heard_at = None

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def receive(self) -> str:
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise TransportClosed("the client is gone")


class _Sink:
    def __init__(
        self, send: Send, positions: Mapping[str, Position | None], *, limits: Limits
    ) -> None:
        self._send = send
        self._positions = {job: position or UNSEEN for job, position in positions.items()}
        self._limits = limits
        self._rest = b""

    def send(self, messages: Sequence[Message]) -> bool:
        body = bytearray()
        for message in messages:
            epoch, last = message.position
            for seq, text in enumerate(message.texts, start=last - len(message.texts) + 1):
                if message.job is not None:
                    self._positions[message.job] = Position(epoch, seq)
                event_id = format_event_id(self._positions).encode()
                body += b"id: %b\ndata: %b\n\n" % (event_id, text)
        self._rest = bytes(body)
        return False

    async def flush(self) -> None:
        await self._body(self._rest, more=True)

    async def ping(self) -> None:
        """None of its own: the JSON `ping` keeps the response from idling."""

    async def close(self, ending: Ending) -> None:
        with trio.move_on_after(self._limits.close_timeout):
            await self._body(b": %b\n\n" % ending.reason.encode(), more=False)

    def abort(self) -> None:
        """ASGI has none: the server ends the response when the app returns."""

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
